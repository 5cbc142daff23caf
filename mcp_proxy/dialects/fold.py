"""Canonical events to what a client reads: the bytes of a stream, or one whole message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from mcp_proxy.core.events import (
    AnswerUsage,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    CitationsDelta,
    Delta,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    ServerToolUseBlock,
    SignatureDelta,
    Stop,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from mcp_proxy.dialects.json_text import loads

_ENCODER = msgspec.json.Encoder()


def to_sse(events: Iterable[Event]) -> bytes:
    """The events as Anthropic writes them to a stream, all in one piece; empty for none."""
    return b"".join(
        [b"event: %b\ndata: %b\n\n" % (_NAMES[type(event)], to_json(event)) for event in events],
    )


_NAMES: dict[type[Event], bytes] = {kind: str(kind.__struct_config__.tag).encode() for kind in Event.__args__}


def to_json(value: Any) -> bytes:
    """A value as JSON. A lone surrogate, which no UTF-8 can hold, is written as its escape, as JavaScript does."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def fold(events: Iterable[Event]) -> bytes | None:
    """The whole message as Anthropic answers it when it does not stream; None where the events are none.

    Whole is: begun, no error, every block closed, every tool's input a JSON object, and a `message_stop`.
    """
    whole = Fold()
    for event in events:
        whole.add(event)
    return whole.message()


class Fold:
    """Gathers the events of one answer."""

    __slots__ = ("_begun", "_content", "_done", "_pieces", "_sound", "_stop", "_usage")

    def __init__(self) -> None:
        self._begun: MessageStart | None = None
        self._content: list[Block] = []
        self._pieces: list[Delta] | None = None
        self._stop: Stop | None = None
        self._usage: AnswerUsage | None = None
        self._done = False
        self._sound = True

    def add(self, event: Event) -> None:
        """One more event; what stands where it must not makes the whole thing no message."""
        match event:
            case BlockDelta(index=index, delta=delta) if self._pieces is not None and index == len(self._content) - 1:
                self._pieces.append(delta)
            case BlockStart(index=index, content_block=block) if self._pieces is None and index == len(self._content):
                self._content.append(block)
                self._pieces = []
            case BlockStop(index=index) if self._pieces is not None and index == len(self._content) - 1:
                self._close(self._pieces)
                self._pieces = None
            case MessageStart() if self._begun is None:
                self._begun = event
                self._usage = event.message.usage
            case MessageDelta(delta=stop, usage=usage):
                self._stop, self._usage = stop, usage
            case MessageStop():
                self._done = self._pieces is None and self._stop is not None
            case Ping():
                pass
            case _:
                self._sound = False

    def _close(self, pieces: list[Delta]) -> None:
        block = _filled(self._content[-1], pieces)
        if block is None:
            self._sound = False
        else:
            self._content[-1] = block

    def message(self) -> bytes | None:
        """The message, once it is whole."""
        if self._begun is None or self._stop is None or not self._done or not self._sound:
            return None
        head = msgspec.structs.asdict(self._begun.message)
        head |= {"content": self._content, **msgspec.to_builtins(self._stop), "usage": self._usage}
        return to_json(head)


def _filled(block: Block, pieces: list[Delta]) -> Block | None:
    """The block with its deltas; None where they make no sense for it."""
    if isinstance(block, TextBlock):
        text = block.text + "".join([piece.text for piece in pieces if isinstance(piece, TextDelta)])
        cited = [piece.citation for piece in pieces if isinstance(piece, CitationsDelta)]
        return TextBlock(text, [*(block.citations or ()), *cited] if cited else block.citations)
    if isinstance(block, ThinkingBlock):
        thinking = "".join([piece.thinking for piece in pieces if isinstance(piece, ThinkingDelta)])
        signed = [piece.signature for piece in pieces if isinstance(piece, SignatureDelta)]
        return ThinkingBlock(block.thinking + thinking, signed[-1] if signed else block.signature)
    if isinstance(block, ToolUseBlock | ServerToolUseBlock):
        return _called(block, "".join([piece.partial_json for piece in pieces if isinstance(piece, InputJsonDelta)]))
    return block


def _called(block: ToolUseBlock | ServerToolUseBlock, text: str) -> Block | None:
    if not text:
        return block
    given = loads(text.encode("utf-8", "surrogatepass"))
    return msgspec.structs.replace(block, input=given) if isinstance(given, dict) else None
