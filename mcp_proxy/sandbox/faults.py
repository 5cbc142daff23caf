"""Faults: each a pure function from the answer that should go out to the steps that do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.answers import Json, sse
from mcp_proxy.sandbox.replies import (
    JSON,
    SSE,
    Cut,
    Pause,
    Reply,
    Step,
    body_steps,
    chunk,
    ending,
    head,
    head_bytes,
    honest,
    wrap,
)
from mcp_proxy.sandbox.wrongs import anthropic_body

At: TypeAlias = "int | str"
"""A place in a stream: after that many events, or after the first event of that type."""


@dataclass(slots=True)
class Scene:
    """Where a fault strikes.

    now    by the sandbox's clock
    trace  the request's id
    """

    now: float
    trace: str
    make: Callable[[], Reply]

    @property
    def reply(self) -> Reply:
        """The honest answer. Making it uses up the account's windows, so a fault that replaces it never asks."""
        return self.make()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong. name: for logs and `Received.fault`."""

    name: str
    steps: Callable[[Scene], Iterable[Step]]

    def __repr__(self) -> str:
        return f"Fault({self.name})"


def reply_with(name: str, change: Callable[[Reply], Reply]) -> Fault:
    """An honest sending of a changed answer."""
    return Fault(name, lambda scene: honest(change(scene.reply)))


# Instead of an answer


def raw(data: bytes, *, then: Step | None = Cut()) -> Fault:  # noqa: B008 - frozen
    """These bytes and nothing of the answer; then the end, or what is given."""
    return Fault(f"raw {len(data)} bytes", lambda scene: [data] if then is None else [data, then])


def hang(seconds: float | None = None) -> Fault:
    """Silence before the head: for ever, or so long and then an honest answer."""

    def steps(scene: Scene) -> Iterator[Step]:
        yield Pause(seconds)
        yield from honest(scene.reply)

    return Fault("hang" if seconds is None else f"hang {seconds:g} s", steps)


def drop() -> Fault:
    """Closes without a byte of answer."""
    return Fault("drop", lambda scene: [Cut()])


def reset() -> Fault:
    """RST without a byte of answer."""
    return Fault("reset", lambda scene: [Cut(reset=True)])


def garbage(data: bytes = b"\x16\x03\x01\x00\xa5\x01 not HTTP at all\r\n\r\n") -> Fault:
    """Bytes that are no HTTP answer."""
    return replace(raw(data), name="garbage")


def huge_head(size: int = 1 << 20) -> Fault:
    """A head with one field of `size` bytes, then an empty body."""
    return replace(raw(head_bytes(200, (("x-padding", "a" * size), ("content-length", "0")))), name="huge head")


def many_headers(count: int = 5000) -> Fault:
    """A head of very many fields."""
    fields = (*((f"x-field-{index}", "a") for index in range(count)), ("content-length", "0"))
    return replace(raw(head_bytes(200, fields)), name="many headers")


def bad_header() -> Fault:
    """A head with a line that is no field."""
    return replace(raw(b"HTTP/1.1 200 OK\r\nthis is no header line\r\ncontent-length: 0\r\n\r\n"), name="bad header")


def half_head() -> Fault:
    """A head that ends in the middle of a field, then the end of the connection."""
    return replace(raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"), name="half head")


def html(status: int = 200, text: str = "<!doctype html><title>Sign in</title><p>Please sign in.") -> Fault:
    """A page instead of the API: what a captive portal says."""
    return instead(f"html {status}", status, text.encode(), (("content-type", "text/html; charset=utf-8"),))


def empty(status: int = 200, kind: str = JSON) -> Fault:
    """A head that promises success, and nothing."""
    return instead("empty", status, b"", (("content-type", kind),))


def json_instead(body: Any, status: int = 200) -> Fault:
    """Some JSON document instead of the answer."""
    return instead("json instead", status, json.dumps(body).encode(), (("content-type", JSON),))


def not_found_200() -> Fault:
    """Z.AI's way to say that a path is wrong: HTTP says success."""
    return replace(json_instead({"code": 500, "msg": "404 NOT_FOUND", "success": False}), name="not found, 200")


def redirect(location: str, status: int = 307) -> Fault:
    """Go elsewhere; a proxy must not."""
    return instead(f"redirect {status}", status, b"", (("location", location),))


def instead(name: str, status: int, body: bytes, headers: Headers) -> Fault:
    return Fault(name, lambda scene: honest(Reply(status, headers, (body,))))


# The connection breaks while the answer is on it


def cut(after: int, *, reset: bool = False, mid_chunk: bool = False) -> Fault:
    """The end after `after` bytes of the body, its framing left open.

    mid_chunk  the last chunk announces more than comes
    """

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head(reply)
        yield from first_bytes(reply, after)
        if mid_chunk and reply.chunked:
            yield b"400\r\nevent: content_bl"
        yield Cut(reset)

    return Fault(f"cut after {after} bytes", steps)


def cut_events(after: At, *, reset: bool = False) -> Fault:
    """The end after some events of a stream, the last chunk missing. A document loses its second half."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        before, _ = split(reply, after)
        yield head(reply)
        yield from body_steps(reply, before)
        yield Cut(reset)

    return Fault(f"cut after {after}", steps)


def cut_before_content(*, reset: bool = False) -> Fault:
    """`message_start`, then the end."""
    return cut_events("message_start", reset=reset)


def cut_after_block(*, reset: bool = False) -> Fault:
    """The first block whole, then the end."""
    return cut_events("content_block_stop", reset=reset)


def early_end(after: At) -> Fault:
    """A stream that ends as HTTP should, but long before `message_stop`."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        before, _ = split(reply, after)
        yield from honest(replace(reply, parts=tuple(before)))

    return Fault(f"early end after {after}", steps)


def error_event(
    after: At = "message_start",
    *,
    kind: str = "overloaded_error",
    message: str = "Overloaded",
    body: Json | None = None,
) -> Fault:
    """An `error` event after some of a stream, which then ends properly. body: the event's data as given."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        before, _ = split(reply, after)
        data = {"type": "error", **(body or anthropic_body(kind, message, scene.trace))}
        stream = replace(reply, headers=typed(reply, SSE), chunked=True)
        yield from honest(replace(stream, parts=(*before, sse(data)) if reply.chunked else (sse(data),)))

    return Fault(f"error event after {after}", steps)


def stall(after: At = 0, seconds: float | None = None) -> Fault:
    """Silence after some events (0: after the head): for ever, or so long and then the rest."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        before, rest = split(reply, after)
        yield head(reply)
        yield from body_steps(reply, before)
        yield Pause(seconds)
        yield from body_steps(reply, rest)
        yield ending(reply)

    return Fault(f"stall after {after}", steps)


def stall_bytes(after: int, seconds: float | None = None) -> Fault:
    """Silence after `after` bytes of the body, perhaps in the middle of an event, then the rest."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head(reply)
        yield from first_bytes(reply, after)
        yield Pause(seconds)
        yield wrap(reply, reply.body[after:])
        yield ending(reply)

    return Fault(f"stall after {after} bytes", steps)


def drip(every: float, *, endless: bool = False, size: int = 1) -> Fault:
    """The body in bits of `size` bytes, `every` seconds apart; endless: comments follow, and no end."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head(reply if not endless else replace(reply, chunked=True))
        dripping = replace(reply, chunked=True) if endless else reply
        for start in range(0, len(reply.body), size):
            yield Pause(every)
            yield wrap(dripping, reply.body[start : start + size])
        while endless:
            for bit in (b":", b"\n", b"\n"):
                yield Pause(every)
                yield chunk(bit)
        yield ending(reply)

    return Fault(f"drip every {every:g} s", steps)


def shredded(size: int = 1) -> Fault:
    """The whole answer, honest, in chunks of `size` bytes: no event arrives in one piece."""
    return replace(drip(0.0, size=size), name=f"shredded {size}")


def goodbye(after: float = 0.0) -> Fault:
    """An honest answer that promises keep-alive, and then closes the connection all the same."""

    def steps(scene: Scene) -> Iterator[Step]:
        yield from honest(scene.reply)
        yield Pause(after)
        yield Cut()

    return Fault("goodbye", steps)


def hints() -> Fault:
    """An interim 103 before the answer."""

    def steps(scene: Scene) -> Iterator[Step]:
        yield b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
        yield from honest(scene.reply)

    return Fault("early hints", steps)


# Helpers


def split(reply: Reply, after: At) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """A stream's events before and behind a place; a document is split in the middle."""
    if not reply.chunked:
        half = len(reply.body) // 2
        return (reply.body[:half],), (reply.body[half:],)
    if isinstance(after, int):
        return reply.parts[:after], reply.parts[after:]
    mark = f"event: {after}\n".encode()
    place = next((index + 1 for index, part in enumerate(reply.parts) if part.startswith(mark)), len(reply.parts))
    return reply.parts[:place], reply.parts[place:]


def first_bytes(reply: Reply, count: int) -> Iterator[bytes]:
    """The first `count` bytes of the body, in this reply's framing."""
    for part in reply.parts:
        if count <= 0:
            return
        yield wrap(reply, part[:count])
        count -= len(part)


def typed(reply: Reply, kind: str) -> Headers:
    """Its headers with another content-type."""
    return (("content-type", kind), *(field for field in reply.headers if field[0] != "content-type"))
