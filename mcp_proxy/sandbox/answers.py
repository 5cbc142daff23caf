"""What the model says: blocks, bound to a request, as Anthropic's event sequence or as one message."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from mcp_proxy.core.usage import Usage

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """signature: as given (the host then accepts it back); None: the host signs it itself."""

    text: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Redacted:
    """A `redacted_thinking` block."""

    data: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """id: None: the host makes one in its own style."""

    name: str
    input: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """A block of any kind, as it stands in a message; in a stream whole at its start, without deltas."""

    block: Mapping[str, Any]


Block: TypeAlias = Text | Thinking | Redacted | ToolUse | Raw


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said, and how it is paced.

    stop_reason    None: `tool_use` if a tool is used, else `end_turn`
    stop_sequence  the one that ended it
    pieces         into how many deltas each block's text is cut, at most
    pings          how many pings follow the first block's start
    delay          seconds before each event of a stream; once before a message that is not streamed
    usage          None: counted from the request and the text
    model          the model the answer names; None: the one that was asked for
    """

    blocks: tuple[Block, ...]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    pieces: int = 3
    pings: int = 1
    delay: float = 0.0
    usage: Usage | None = None
    model: str | None = None

    @property
    def reason(self) -> str:
        uses = any(isinstance(block, ToolUse) for block in self.blocks)
        return self.stop_reason or ("tool_use" if uses else "end_turn")

    @property
    def tokens(self) -> int:
        """A rough count of what is said: four bytes a token."""
        return max(1, sum(len(_said(block)) for block in self.blocks) // 4)


def _said(block: Block) -> str:
    match block:
        case Text(text) | Thinking(text):
            return text
        case Redacted(data):
            return data
        case ToolUse(name, given):
            return name + json.dumps(given)
        case Raw(raw):
            return json.dumps(raw)


@dataclass(frozen=True, slots=True)
class Message:
    """An answer with its ids, signatures and counts: everything the wire needs.

    safeguards   the `safeguard_results` to send; None: they were not asked for
    late_usage   the first event says zero input tokens and the last one the truth
    """

    id: str
    model: str
    blocks: tuple[Json, ...]
    answer: Answer
    usage: Usage
    safeguards: list[Json] | None = None
    late_usage: bool = False

    def document(self) -> Json:
        """The message as a request without `stream` gets it."""
        body = self._shell(list(self.blocks), self.answer.reason, self.answer.stop_sequence)
        body["usage"] = {**counts(self.usage), "output_tokens": self.usage.output, "service_tier": "standard"}
        return body if self.safeguards is None else {**body, "safeguard_results": self.safeguards}

    def events(self) -> Iterator[Json]:
        """The message as a stream: what each event's data is."""
        yield {"type": "message_start", "message": self._opening()}
        for index, block in enumerate(self.blocks):
            yield {"type": "content_block_start", "index": index, "content_block": opened(block)}
            if index == 0:
                yield from ({"type": "ping"} for _ in range(self.answer.pings))
            for delta in deltas(block, self.answer.pieces):
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        last: Json = {"stop_reason": self.answer.reason, "stop_sequence": self.answer.stop_sequence}
        if self.safeguards is not None:
            last["safeguard_results"] = self.safeguards
        totals = counts(self.usage)
        del totals["cache_creation"]
        yield {"type": "message_delta", "delta": last, "usage": {**totals, "output_tokens": self.usage.output}}
        yield {"type": "message_stop"}

    def _opening(self) -> Json:
        usage = replace(self.usage, input=0, cache_read=0, cache_write=0) if self.late_usage else self.usage
        first = 0 if self.late_usage else 1
        shell = self._shell([], None, None)
        return {**shell, "usage": {**counts(usage), "output_tokens": first, "service_tier": "standard"}}

    def _shell(self, content: list[Json], reason: str | None, sequence: str | None) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
        }


def counts(usage: Usage) -> Json:
    """The input side of a usage object."""
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
    }


def opened(block: Json) -> Json:
    """A block as its `content_block_start` shows it: empty where deltas will fill it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use":
            return {**block, "input": {}}
        case _:
            return block


def deltas(block: Json, pieces: int) -> Iterator[Json]:
    """What fills a block between its start and its stop."""
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in cut(block["text"], pieces))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in cut(block["thinking"], pieces))
            if block["signature"]:
                yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            given = json.dumps(block["input"], ensure_ascii=False)
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in cut(given, pieces))


def cut(text: str, pieces: int) -> list[str]:
    """`text` in at most `pieces` parts of nearly the same length, none of them empty."""
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[start : start + size] for start in range(0, len(text), size)]


def sse(event: Json) -> bytes:
    """One event in Anthropic's framing."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def say(*blocks: Block | str, **how: Any) -> Answer:
    """An answer of these blocks; a plain string is a text block. `how` as the fields of `Answer`."""
    return Answer(tuple(Text(block) if isinstance(block, str) else block for block in blocks), **how)
