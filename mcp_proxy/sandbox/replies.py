"""An answer as data: head, parts, framing; and the steps that put it on the wire, which a fault may rewrite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeAlias

from mcp_proxy.core.http import Headers

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for `seconds`; None: until the client leaves."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The end of the connection, by FIN or, with `reset`, by RST."""

    reset: bool = False


Step: TypeAlias = bytes | Pause | Cut
"""What happens next on a connection: these bytes, silence, or its end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer before it is framed.

    headers  without content-length and transfer-encoding, which `framing` writes
    parts    the body; of a stream one event each, and each leaves as one chunk
    delay    seconds of silence before each part of a stream
    chunked  framing: chunks, else a content-length
    """

    status: int
    headers: Headers = ()
    parts: tuple[bytes, ...] = ()
    delay: float = 0.0
    chunked: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def having(self, *fields: tuple[str, str]) -> Reply:
        """The same with these headers more."""
        return replace(self, headers=(*self.headers, *fields))


def document(status: int, body: Any, headers: Headers = ()) -> Reply:
    """A JSON document in one piece."""
    return Reply(status, (("content-type", JSON), *headers), (json.dumps(body, ensure_ascii=False).encode(),))


def page(status: int, html: str, headers: Headers = ()) -> Reply:
    """What an edge or a login page answers instead of the API."""
    return Reply(status, (("content-type", "text/html; charset=utf-8"), *headers), (html.encode(),))


def head_bytes(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """A response head; any status and any text, true or not."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def framing(reply: Reply) -> tuple[str, str]:
    """The header that says where the body ends."""
    return ("transfer-encoding", "chunked") if reply.chunked else ("content-length", str(len(reply.body)))


def head(reply: Reply) -> bytes:
    return head_bytes(reply.status, (*reply.headers, framing(reply)))


def wrap(reply: Reply, data: bytes) -> bytes:
    """Some of the body as this reply's framing carries it."""
    return chunk(data) if reply.chunked and data else data


def ending(reply: Reply) -> bytes:
    return chunk(b"") if reply.chunked else b""


def body_steps(reply: Reply, parts: Sequence[bytes] | None = None) -> Iterator[Step]:
    """The body, part by part and paced, without its end."""
    for part in reply.parts if parts is None else parts:
        if reply.delay:
            yield Pause(reply.delay)
        yield wrap(reply, part)


def honest(reply: Reply) -> Iterator[Step]:
    """The whole answer as it should go."""
    yield head(reply)
    yield from body_steps(reply)
    if last := ending(reply):
        yield last
