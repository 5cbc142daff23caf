"""uvicorn's parser with limits: how large a head may be, how long it may take, how many may connect.

uvicorn has no deadline for a head, and its fast parser no limit for one (a head of 20 MB was accepted).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mcp_proxy.core.failure import error_type
from mcp_proxy.dialects.anthropic_answer import error_body
from mcp_proxy.server.stream import CONNECTION, new_request_id

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 32 * 1024
MAX_HEAD_FIELDS = 100
MAX_URL_BYTES = 8 * 1024
MAX_CONNECTIONS = 2048
_UPGRADE = re.compile(rb"(\r\n)upgrade([ \t]*:)", re.IGNORECASE)


class _Refused(Exception):
    """A head we do not accept; raised through the parser, which stops there."""


class GuardedHttp(HttpToolsProtocol):
    """One client connection. A surplus one is reset; a head too large, too slow or ambiguous is refused."""

    def __init__(self, *args: Any, max_connections: int = MAX_CONNECTIONS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._refusal = (400, "the request is not HTTP we accept")
        self.on_left: Callable[[], None] | None = None
        """What is to be done when the client leaves: set by the visit that is under way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > min(self._max_connections, MAX_CONNECTIONS):
            transport.abort()
            return
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        if self.on_left is not None:
            self.on_left()

    def eof_received(self) -> None:
        """A half-close is a hang-up: what the client has not taken of a running answer is not waited for."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        cycle, in_head = self.cycle, self._in_head
        if cycle is None or cycle.response_complete:
            self._arm()
            data = _without_upgrade(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._disarm()  # the head of a new request is complete
        if in_head and self._in_head and self.cycle is cycle and self.parser is not None:
            self._head_bytes += len(data)  # not where a head begins behind a body: most of that is the body
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refusal = (431, "the request's head is too large")
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(414, "the request's address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEAD_FIELDS:
            self._refuse(431, "the request has too many header fields")

    def on_headers_complete(self) -> None:
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(431, "the request's head is too large")
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and hosts != 1):
            self._refuse(400, "a request needs HTTP/1.0 or 1.1 and one Host")
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            self._refuse(400, "a body may be chunked, and nothing else")  # else it is refused after it was begun
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer in Anthropic's shape and close; where another answer is running, only close."""
        self._disarm()
        if self.cycle is None or self.cycle.response_complete:
            status, why = self._refusal
            request_id = new_request_id()
            body = error_body(error_type(status), why, request_id)
            head = (
                STATUS_LINE[status],
                b"content-type: application/json\r\nconnection: close\r\n",
                b"request-id: %b\r\n" % request_id.encode(),
                b"content-length: %d\r\n\r\n" % len(body),
            )
            self.transport.write(b"".join(head) + body)
        self.transport.close()

    def _refuse(self, status: int, why: str) -> None:
        self._refusal = (status, why)
        raise _Refused

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._expire)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expire(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


def _without_upgrade(data: bytes) -> bytes:
    """The beginning of a request, its offer to change the protocol renamed: the parser would drop the body for it.

    An offer may be ignored (RFC 9110, 7.8); Java's client makes one with every request over plain http.
    """
    end = data.find(b"\r\n\r\n")
    end = len(data) if end < 0 else end
    if _UPGRADE.search(data, 0, end) is None:
        return data
    return _UPGRADE.sub(rb"\1x-offered\2", data[:end]) + data[end:]
