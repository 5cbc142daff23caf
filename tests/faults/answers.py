"""Answers of upstreams that are none, and two upstreams of which whoever is asked first gives one.

The files of `corpus/answers/` are bytes off the wire, each followed by the end of the connection:

    any/       no success for any request
    streamed/  no success for a request that streams
    whole/     no success for one that does not
    cut/       streams that break off behind their first content
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness import Proxy, in_front_of
from tests.faults.speech import answer, message, stream, streamed
from tests.faults.upstream import Play, Talk, Upstream, by_path, saying, upstream

FOLDER = Path(__file__).parent / "corpus" / "answers"
CANARY = "canary-of-the-answer"
"""Stands in every value of the corpus that an upstream made up."""

STREAM = b"".join(stream())
NO_MODELS = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
"""To the question for models: the connection is not kept, so that each message has a new one."""


def kept(*folders: str) -> dict[str, bytes]:
    """The answers of some folders by their names."""
    return {
        f"{folder}/{path.stem}": path.read_bytes()
        for folder in folders
        for path in sorted((FOLDER / folder).glob("*.http"))
    }


def large() -> dict[str, bytes]:
    """What would be too large for a file."""
    sound = answer(message())
    value = CANARY.encode() * (1 << 16)  # more than a megabyte
    return {
        "a field of a megabyte": sound.replace(b"\r\n", b"\r\nx-odd: " + value + b"\r\n", 1),
        "a head of a megabyte": sound.replace(b"\r\n", b"\r\n" + (b"x-odd: " + value[:1000] + b"\r\n") * 1100, 1),
        "5000 fields": sound.replace(b"\r\n", b"\r\n" + b"x-odd: canary-of-the-answer\r\n" * 5000, 1),
        "a status line of a megabyte": sound.replace(b"Said", value, 1),
        "a name of a megabyte": sound.replace(b"\r\n", b"\r\n" + value + b": x\r\n", 1),
        "a megabyte that is no HTTP": value,
    }


@dataclass
class Turns:
    """Upstreams that share what they answer: the next message is answered by the next turn, whoever is asked.

    An account that failed is asked last for a while; so it does not matter whose turn it is.
    """

    answers: deque[bytes] = field(default_factory=deque)
    otherwise: bytes = b""

    async def __call__(self, talk: Talk) -> None:
        await talk.say(self.answers.popleft() if self.answers else self.otherwise)
        talk.writer.close()

    def upstream(self) -> contextlib.AbstractAsyncContextManager[Upstream]:
        return upstream(by_path({"/v1/messages": self}, saying(NO_MODELS)))


def sound(*, streams: bool) -> bytes:
    return streamed() if streams else answer(message())


def asked_of(talk: Talk) -> Any:
    """The body of the request that has just come; to be read before anything is awaited."""
    return json.loads(talk.upstream.heard[-1].partition(b"\r\n\r\n")[2])


async def well(talk: Talk) -> None:
    """A part of `by_path`: answers as it should, streamed or not, and closes."""
    await talk.say(sound(streams=asked_of(talk).get("stream", False)))
    talk.writer.close()


def messages(part: Play) -> Play:
    """A part for messages, each on a connection of its own."""
    return by_path({"/v1/messages": part}, saying(NO_MODELS))


def is_whole(reply: httpx.Response, *, streams: bool) -> bool:
    """Whether it is the sound upstream's answer, from its first byte to its last."""
    if reply.status_code != 200:
        return False
    return reply.content == STREAM if streams else reply.json() == message()


def is_told(reply: httpx.Response, *statuses: int) -> bool:
    """Whether it is an error of ours in Anthropic's shape."""
    if reply.status_code not in statuses or reply.headers["content-type"] != "application/json":
        return False
    told = json.loads(reply.content)
    kind = {502: "api_error", 504: "timeout_error", 529: "overloaded_error"}[reply.status_code]
    assert set(told) == {"type", "error", "request_id"} and set(told["error"]) == {"type", "message"}
    assert told["request_id"] == reply.headers["request-id"]
    return (told["type"], told["error"]["type"]) == ("error", kind) and bool(told["error"]["message"])


@contextlib.asynccontextmanager
async def two(home: Path, turns: Turns) -> AsyncIterator[tuple[Proxy, Upstream, Upstream]]:
    """The proxy in front of two upstreams that take turns."""
    async with turns.upstream() as a0, turns.upstream() as a1, in_front_of(home, a0, a1) as proxy:
        yield proxy, a0, a1


@contextlib.asynccontextmanager
async def one(home: Path, turns: Turns) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """The proxy in front of one upstream."""
    async with turns.upstream() as a0, in_front_of(home, a0) as proxy:
        yield proxy, a0
