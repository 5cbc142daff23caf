"""One HTTP/1.1 connection to an upstream: a request, then its answer as it comes, then perhaps the next.

The parser is httptools' (llhttp); what is bounded, timed and told apart is here. Errors are httpx's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import cast

import httptools
import httpx

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_FIELDS = 256
"""Real heads have some 40 fields and 8 KB at most; llhttp itself has no limit."""

SMALL_BODY = 16 * 1024
"""Copied behind the head: cheaper than a second write."""

PIECE = 256 * 1024
"""What is handed to the transport at a time: to encrypt or copy twenty megabytes at once holds the loop up."""

END_SECONDS = 5.0
"""How long an upstream may be silent behind the last that matters of its answer."""

NOTHING = memoryview(b"")

PAUSE_BYTES = 256 * 1024
RESUME_BYTES = 64 * 1024
"""What may wait here unread before the upstream is made to wait, and when it may go on."""


class Incoming(httpx.AsyncByteStream):
    """One answer on its way in. What came before a trouble is given before the trouble is raised."""

    def __init__(self, connection: Connection, *, bodiless: bool) -> None:
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._trouble: Exception | None = None
        self.bodiless = bodiless
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.headed = False
        self.until_end = False  # its body has no framing but the end of the connection
        self.complete = False
        self.waiting = 0  # bytes that nobody has taken yet

    async def head(self) -> None:
        """Wait for the head. Raises what went wrong."""
        while not self.headed:
            if self._trouble is not None:
                raise self._trouble
            await self._wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body: what has come since the last time, in one piece; never empty."""
        while True:
            if self._pieces:
                pieces = self._pieces
                piece = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                self.waiting = 0
                self._connection.taken()
                yield piece
            elif self.complete:
                return
            elif self._trouble is not None:
                raise self._trouble
            else:
                await self._wait()

    def expect_end(self) -> None:
        """What is still to come is of no weight."""
        if not self.complete:
            self._connection.expect_end()

    async def aclose(self) -> None:
        """An answer that was not read to its end ends its connection."""
        if not self.complete:
            self._connection.abort()

    async def _wait(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # from the connection

    def push(self, piece: bytes) -> None:
        """More of the body."""
        self._pieces.append(piece)
        self.waiting += len(piece)

    def fail(self, trouble: Exception) -> None:
        """Nothing more will come."""
        if not self.complete and self._trouble is None:
            self._trouble = trouble
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    freed       called when an answer is whole and another request may follow
    lost        called when the connection is gone
    idle_since  loop time at which it was freed
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        freed: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self._freed, self._lost = freed, lost
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._incoming: Incoming | None = None
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._bytes_of_no_body = 0  # heads, trailers and sizes of chunks: what the parser keeps
        self._interim = self._paused = self._full = self.closed = False
        self._unsent = NOTHING  # what the transport has not yet been given of a request's body
        self.answering = False  # at least one byte of the answer has come
        self._silence = 0.0
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, request: bytes, body: bytes, silence: float, *, bodiless: bool) -> Incoming:
        """Send a request on a connection that is free.

        silence   seconds between two signs of life: bytes of the answer, or some of the body taken
        bodiless  whether the answer has no body whatever its head says (HEAD)
        """
        assert self._transport is not None  # noqa: S101 - asked only once connected
        incoming = self._incoming = Incoming(self, bodiless=bodiless)
        self.answering = False
        self._silence, self._heard_at = silence, self.loop.time()
        self._timer = self.loop.call_later(silence, self._listen)
        if len(body) < SMALL_BODY:
            self._transport.write(request + body)
        else:
            self._transport.write(request)
            self._unsent = memoryview(body)
            self._send()
        return incoming

    def expect_end(self) -> None:
        """The end of the answer under way may take some seconds of silence, and no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._silence = min(self._silence, END_SECONDS)
            self._listen()

    def abort(self) -> None:
        """Close at once; whoever waits for an answer here is told."""
        self._end(httpx.ReadError("closed by us"))

    def _send(self) -> None:
        """As much of the body as the transport takes; none once it has found its connection lost."""
        transport = self._transport
        while self._unsent and not self._full and transport is not None and not transport.is_closing():
            piece, self._unsent = self._unsent[:PIECE], self._unsent[PIECE:]
            transport.write(piece)
        if not self._unsent:
            self._unsent = NOTHING  # an empty part of a body holds all of it

    def taken(self) -> None:
        """What had come has been taken: more may."""
        if self._paused and self._incoming is not None and self._incoming.waiting <= RESUME_BYTES:
            self._paused = False
            self._heard_at = self.loop.time()
            if self._transport is not None:
                self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:  # nobody asked for anything
            self.abort()
            return
        self.answering = True
        self._heard_at = self.loop.time()
        headed = incoming.headed
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give(incoming)
            self._end(httpx.RemoteProtocolError("not HTTP that we can read"))
            return
        if self._incoming is not incoming:
            return  # it is whole
        if self._body or incoming.headed > headed:
            self._bytes_of_no_body = 0
        else:
            self._bytes_of_no_body += len(data)
            if self._bytes_of_no_body > MAX_HEAD_BYTES:
                self._end(httpx.RemoteProtocolError("the head or the framing is too large"))
                return
        self._give(incoming)
        if incoming.waiting > PAUSE_BYTES and not self._paused:
            self._paused = True
            assert self._transport is not None  # noqa: S101 - it has just received
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._heard_at = self.loop.time()  # who takes a large body slowly is not silent
        self._send()

    def eof_received(self) -> bool:
        self._cut(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._cut(exc)
        self._lost(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._incoming is None:  # its first bytes would stay in the parser, in front of the next answer
            raise httpx.RemoteProtocolError("an answer nobody asked for")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is None or self._incoming.headed:
            return  # behind the last chunk: a trailer is no field of the head
        self._headers.append((name, value))
        if len(self._headers) > MAX_HEAD_FIELDS:
            raise httpx.RemoteProtocolError("the head has too many fields")

    def on_headers_complete(self) -> None:
        incoming = self._incoming
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if incoming is None or status == 101:
            raise httpx.RemoteProtocolError("an answer nobody asked for")
        if self._interim:
            return
        if sum(len(name) + len(value) for name, value in self._headers) > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError("the head is too large")
        incoming.status, incoming.headers = status, self._headers
        framing = {name.lower() for name, _ in self._headers}
        incoming.until_end = status not in (204, 304) and not framing & {b"content-length", b"transfer-encoding"}
        incoming.headed = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        incoming = self._incoming
        if incoming is not None and not self._interim:
            self._give(incoming, complete=True)

    # what becomes of it

    def _give(self, incoming: Incoming, *, complete: bool = False) -> None:
        """Hand on what has been parsed: all of one read in one piece."""
        if self._body:
            incoming.push(self._body[0] if len(self._body) == 1 else b"".join(self._body))
            self._body.clear()
        if complete or (incoming.headed and incoming.bodiless):
            incoming.complete = True
            self._rest(incoming)
        incoming.wake()

    def _rest(self, incoming: Incoming) -> None:
        """The answer is whole: keep the connection if it may be used again."""
        unsent, transport = bool(self._unsent), self._transport
        self._settle()
        if transport is None or unsent or transport.get_write_buffer_size():
            # an answer before the whole request was sent; to send the rest first might take for ever
            self._end(httpx.ReadError("closed by us"))
            return
        reusable = self._parser.should_keep_alive() and not incoming.bodiless and not incoming.until_end
        if not reusable:
            self.close()
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        self.idle_since = self.loop.time()
        self._freed(self)

    def _settle(self) -> None:
        self._incoming, self._bytes_of_no_body, self._unsent = None, 0, NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen(self) -> None:
        """Whether the upstream has been silent for too long; not while it is us who do not read."""
        now = self.loop.time()
        if self._paused:
            self._heard_at = now
        left = self._heard_at + self._silence - now
        if left > 0.001:
            self._timer = self.loop.call_later(left, self._listen)
        else:
            self._end(httpx.ReadTimeout("silent for too long"))

    def _cut(self, exc: Exception | None) -> None:
        """The upstream has closed: the end of an answer that has no other, else a cut."""
        incoming = self._incoming
        if incoming is not None and exc is None and incoming.headed and incoming.until_end:
            self._give(incoming, complete=True)
            return
        trouble = httpx.ReadError("connection cut")
        trouble.__cause__ = exc
        self._end(trouble)

    def _end(self, trouble: Exception) -> None:
        incoming = self._incoming
        self._settle()
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        if incoming is not None:
            incoming.fail(trouble)

    def close(self) -> None:
        """Close politely: nothing is under way."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()
