"""Streams to be cut: each kind of answer as its blocks, its frames, and the ways in which an upstream breaks off.

Wire: docs.anthropic.com/en/api/messages-streaming. Whoever speaks is named in all it says: two can be told apart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults.speech import LAST_CHUNK, chunk, event, message, refusal
from tests.faults.upstream import Play, Talk, silent

Json = dict[str, Any]


def text(who: str, said: str, **more: Any) -> Json:
    return {"type": "text", "text": f"{who} says: {said}", **more}


def thinking(who: str) -> Json:
    return {"type": "thinking", "thinking": f"{who} thinks before it says a word.", "signature": f"signed-by-{who}=="}


def tool(who: str, city: str, kind: str = "tool_use", start: str = "toolu") -> Json:
    return {"type": kind, "id": f"{start}_{who}_{city}", "name": "look_up", "input": {"who": who, "city": city}}


def searched(who: str) -> list[Json]:
    """A tool that the upstream runs itself, and what it found."""
    call = {**tool(who, "Rome", "server_tool_use", "srvtoolu"), "name": "web_search"}
    page = {"type": "web_search_result", "url": "https://example.com/", "title": who, "encrypted_content": "c2VhbGVk"}
    return [call, {"type": "web_search_tool_result", "tool_use_id": call["id"], "content": [page]}]


def blocks(kind: str, who: str) -> list[Json]:
    """What one upstream answers, as the whole message has it."""
    match kind:
        case "text":
            return [text(who, "a few words")]
        case "thinking, text":
            return [thinking(who), text(who, "what it thought")]
        case "parallel tools":
            return [text(who, "three at once"), *(tool(who, city) for city in ("Rome", "Oslo", "Bern"))]
        case "server tools":
            return [text(who, "let me see"), *searched(who), text(who, "found"), *searched(who + "2"), text(who, "all")]
        case "thinking, tools":
            return [thinking(who), tool(who, "Rome"), tool(who, "Oslo")]
        case "long text":
            return [text(who, "on and on " * 4000)]
    raise ValueError(kind)


KINDS = ("text", "thinking, text", "parallel tools", "server tools", "thinking, tools", "long text")


def frames(kind: str, who: str) -> list[bytes]:
    """The stream of that answer, one event each."""
    told = blocks(kind, who)
    found = [event("message_start", message={**message("", stop=None), "id": f"msg_{who}"})]
    for index, block in enumerate(told):
        filled = list(deltas(block, 20 if kind == "long text" else 3))
        found.append(event("content_block_start", index=index, content_block=opened(block)))
        found += [event("ping")] * (index == 0)
        found += [event("content_block_delta", index=index, delta=delta) for delta in filled]
        found.append(event("content_block_stop", index=index))
    reason = "tool_use" if told[-1]["type"] == "tool_use" else "end_turn"
    found.append(
        event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 5})
    )
    return [*found, event("message_stop")]


def opened(block: Json) -> Json:
    """A block as its start shows it."""
    empty = {"text": "", "thinking": "", "signature": ""} | ({"input": {}} if "input" in block else {})
    return {name: empty.get(name, value) for name, value in block.items()}


def deltas(block: Json, pieces: int) -> Iterator[Json]:
    """What fills it."""
    if "input" in block:
        given = ["", *cut(json.dumps(block["input"]), pieces)]
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in given)
    for name in ("text", "thinking"):
        yield from ({"type": f"{name}_delta", name: piece} for piece in cut(block.get(name, ""), pieces))
    if "signature" in block:
        yield {"type": "signature_delta", "signature": block["signature"]}


def cut(said: str, pieces: int) -> list[str]:
    size = max(1, -(-len(said) // pieces))
    return [said[at : at + size] for at in range(0, len(said), size)]


def fits(open_block: Json, whole: Json) -> bool:
    """Whether a block that is not at its end may still become the whole one."""
    same = all(open_block[name] == whole[name] for name in ("type", "id", "name") if name in whole)
    return same and all(whole[name].startswith(open_block[name]) for name in ("text", "thinking") if name in whole)


@dataclass(frozen=True)
class Cut:
    """One stream, broken off. place: how much comes first: 0 nothing, 1 the head, then an event each."""

    kind: str
    place: int
    way: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.place}/{self.way}"

    @classmethod
    def read(cls, name: str) -> Cut:
        """What `str` wrote: a request says by it how it is to be answered."""
        kind, place, way = name.split("/")
        return cls(kind, int(place), way)

    def said(self, who: str) -> list[bytes]:
        """The events that come before the break."""
        return frames(self.kind, who)[: max(0, self.place - 1)]


def cuts(kind: str) -> list[Cut]:
    """Everywhere before the end, in every way."""
    return [Cut(kind, place, way) for place in range(1 + len(frames(kind, "a"))) for way in WAYS]


# The ways


async def fin(talk: Talk) -> None:
    talk.writer.close()


async def rst(talk: Talk) -> None:
    await asyncio.sleep(0.02)  # so that it has arrived: a reset may take back what nobody has read yet
    talk.reset()


def bytes_and_end(data: bytes) -> Play:
    async def part(talk: Talk) -> None:
        await talk.say(data)
        talk.writer.close()

    return part


OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
UNAVAILABLE = refusal(503, "api_error", "Unavailable")
WAYS: dict[str, Play] = {
    "FIN": fin,
    "RST": rst,
    "stall": silent,
    "garbage": bytes_and_end(b"\x16\x03\x01\x00\xa5\x01 no chunk\r\n\r\n" + b"\xff\xfe" * 50),
    "noise": bytes_and_end(chunk(b"\x00\xff no event\n\n" + b"{" * 50 + b"\n\n" + UNAVAILABLE) + LAST_CHUNK),
    "error": bytes_and_end(chunk(OVERLOADED) + LAST_CHUNK),
    "5xx": bytes_and_end(UNAVAILABLE),
}
