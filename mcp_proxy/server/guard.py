"""uvicorn's parser with limits: how large a head may be, how long it may take, how many may connect.

uvicorn has no deadline for a head, and its fast parser no limit for one (a head of 20 MB was accepted).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mcp_proxy.core.failure import error_type
from mcp_proxy.dialects.anthropic_answer import error_body
from mcp_proxy.server.stream import CONNECTION, new_request_id

log = structlog.get_logger("mcp_proxy.server")

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 32 * 1024
MAX_HEAD_FIELDS = 100
MAX_URL_BYTES = 8 * 1024
MAX_CONNECTIONS = 2048
SEND_BUFFER_BYTES = 256 * 1024
"""What the system may hold for one client. Left alone it takes megabytes, and some hundred clients that read nothing
took all the memory that it has for connections."""

MAX_WAITING = 16
"""So many requests may wait behind a running answer with the socket still read: only so is a leaving client seen."""

_UPGRADE = re.compile(rb"(\r\n)upgrade([ \t]*:)", re.IGNORECASE)


class _Refused(Exception):
    """A head we do not accept; raised through the parser, which stops there."""


class GuardedHttp(HttpToolsProtocol):
    """One client connection. A surplus one is reset; a head too large, too slow or ambiguous is refused."""

    def __init__(self, *args: Any, max_connections: int = MAX_CONNECTIONS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._bytes_of_no_body = 0
        self._in_head = True
        self._moved = False
        self._watch: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._refusal = (400, "the request is not HTTP we accept")
        self.on_left: Callable[[], None] | None = None
        """What is to be done when the client leaves: set by the visit that is under way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > min(self._max_connections, MAX_CONNECTIONS):
            transport.abort()
            return
        bounded = transport.get_extra_info("socket")
        if bounded is not None:
            bounded.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stop_watching()
        super().connection_lost(exc)
        running = self._running
        if running is not None and not running.response_complete:  # uvicorn tells only the last that was asked
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        if self.on_left is not None:
            self.on_left()

    def eof_received(self) -> None:
        """A half-close is a hang-up: what the client has not taken of a running answer is not waited for."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._arm()
        if self._in_head:
            data = _without_upgrade(data)
        self._moved = False
        super().data_received(data)
        if self.cycle is not cycle:
            self._disarm()  # the head of a new request is complete
        # what is neither body nor the end of a head is kept by the parser: heads, trailers, chunk extensions
        self._bytes_of_no_body = 0 if self._moved else self._bytes_of_no_body + len(data)
        if self._bytes_of_no_body > MAX_HEAD_BYTES and self.parser is not None and not self.transport.is_closing():
            self._refusal = (431, "the request's head or framing is too large")
            self.send_400_response("")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(414, "the request's address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # behind the last chunk: the head has been judged already
        super().on_header(name, value)
        if len(self.headers) > MAX_HEAD_FIELDS:
            self._refuse(431, "the request has too many header fields")

    def on_headers_complete(self) -> None:
        self._in_head, self._moved = False, True
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(431, "the request's head is too large")
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and hosts != 1):
            self._refuse(400, "a request needs HTTP/1.0 or 1.1 and one Host")
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            self._refuse(400, "a body may be chunked, and nothing else")  # else it is refused after it was begun
        if not self.url.startswith(b"/") and b"://" in self.url:
            self._take_host_from_target()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        super().on_headers_complete()
        if 0 < len(self.pipeline) <= MAX_WAITING:
            self.flow.resume_reading()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser reads nothing behind such a head

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._stop_watching()
        super()._start_asgi_task(cycle, app)

    def expect_taken(self, seconds: float) -> None:
        """Cut the client if it takes nothing for so long of what it has still to get of answers that are over.

        A polite close waits until all is written, and so did a connection whose client read nothing: for ever.
        """
        self._stop_watching()
        running = self._running
        left = self.transport.get_write_buffer_size()
        if left and (self.transport.is_closing() or running is None or running.response_complete):
            self._watch = self.loop.call_later(seconds, self._look, left, seconds)

    def _look(self, before: int, seconds: float) -> None:
        if self.transport.get_write_buffer_size() >= before:
            log.warning("client reads nothing, cut", seconds=seconds)
            self.transport.abort()
        else:
            self.expect_taken(seconds)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = self._moved = True
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._disarm()  # a body that was answered before it came: from here on the connection is idle
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _take_host_from_target(self) -> None:
        """A target in absolute form overrules the Host field (RFC 9112, 3.2.2)."""
        authority = self.url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
        self.headers[:] = [pair for pair in self.headers if pair[0] != b"host"] + [(b"host", authority)]

    def send_400_response(self, msg: str) -> None:
        """Answer in Anthropic's shape and close; where another answer is running, or due before, only close."""
        self._disarm()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._is_in_body_of(cycle):
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
        if cycle is not None:
            cycle.disconnected = True  # nothing may be written behind this
            cycle.message_event.set()
        self.transport.close()

    def _is_in_body_of(self, cycle: RequestResponseCycle) -> bool:
        """Whether a request's body is still coming, its own is the next answer, and that has not begun."""
        return cycle.more_body and not cycle.response_started and not self.pipeline

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
