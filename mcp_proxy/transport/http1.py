"""HTTP/1.1 for one account: connections that are kept, opened and replaced, behind httpx's transport interface.

httpx's own pool looks through every connection at each start and end of a request, and loses one for ever in a
hundred cancelled ones; with aiohttp beneath, a request costs twice as much processor time as here.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias

import aiohappyeyeballs
import httpx

from accounts.hosts import hands_out_secrets
from mcp_proxy.transport.connection import Connection

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""

CONNECT_SECONDS = 10.0
READ_SECONDS = 300.0
KEEP_ALIVE_SECONDS = 120.0
STALE_SECONDS = 0.5
"""A kept connection that the upstream had closed says so at once; a later end may be an upstream that died at work."""

EYEBALLS_SECONDS = 0.25
"""When the next address of a name is tried beside one that has not answered (RFC 8305, 8)."""

_PORTS = {"http": 80, "https": 443}
_UNSAFE = re.compile(rb"[\r\n\0]")


class Body(httpx.AsyncByteStream):
    """A request's body that is there as a whole."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


class Http1Transport(httpx.AsyncBaseTransport):
    """Sends requests as they are: no redirect, no cookie, no environment, nothing decoded, nothing added.

    Raises httpx's errors; of a connection that did not come about the cause is the system's.
    """

    def __init__(self, verify: ssl.SSLContext, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._verify = verify
        self._keep_alive = keep_alive
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and wait for the head. A kept connection that turns out to be closed is replaced, once.

        The request's header fields go out in their order, and no other beside them.
        """
        url = request.url
        origin = (url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS.get(url.scheme, 0))
        timeout = request.extensions.get("timeout", {})
        body = request.stream.content if isinstance(request.stream, Body) else await request.aread()
        head = _head(request)

        async def asked(connection: Connection) -> httpx.Response:
            silence = timeout.get("read") or READ_SECONDS
            incoming = connection.ask(head, body, silence, bodiless=request.method == "HEAD")
            try:
                await incoming.head()
            except BaseException:  # cancelled, too: nobody will read it
                connection.abort()
                raise
            return httpx.Response(incoming.status, headers=incoming.headers, stream=incoming)

        kept = self._take(origin)
        if kept is not None:
            begun = kept.loop.time()
            try:
                return await asked(kept)
            except httpx.ReadError:
                if kept.answering or kept.loop.time() - begun > STALE_SECONDS:
                    raise
        return await asked(await self._connect(origin, timeout.get("connect") or CONNECT_SECONDS))

    def retire(self) -> None:
        """Keep no connection any more: those in use are closed when their answers end."""
        self._keep_alive = 0.0
        for connection in [each for kept in self._idle.values() for each in kept]:
            connection.close()
        self._idle.clear()

    @property
    def busy(self) -> bool:
        """Whether any connection is open."""
        return bool(self._all)

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._idle.clear()
        for connection in tuple(self._all):
            connection.abort()
        await asyncio.sleep(0)  # a transport closes its socket in the next turn

    def _take(self, origin: Origin) -> Connection | None:
        """The connection used last: the others may then grow old. None where all are closed or too old."""
        kept = self._idle.get(origin, [])
        while kept:
            connection = kept.pop()
            if not connection.closed and connection.loop.time() - connection.idle_since < self._keep_alive:
                return connection
            connection.close()
        return None

    def _free(self, origin: Origin, connection: Connection) -> None:
        if not self._keep_alive:
            connection.close()
            return
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(self._keep_alive, self._sweep, connection.loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has been idle for too long."""
        self._sweeper = None
        old = loop.time() - self._keep_alive
        for origin, kept in list(self._idle.items()):
            for connection in kept:
                if connection.idle_since <= old:
                    connection.close()
            self._idle[origin] = [connection for connection in kept if not connection.closed]
            if not self._idle[origin]:
                del self._idle[origin]
        if self._idle:
            self._sweeper = loop.call_later(self._keep_alive / 4, self._sweep, loop)

    async def _connect(self, origin: Origin, seconds: float) -> Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        if scheme not in _PORTS:
            raise httpx.UnsupportedProtocol("only http and https")
        connection = Connection(loop, partial(self._free, origin), self._all.discard)
        verify, server = (self._verify, host) if scheme == "https" else (None, None)
        try:
            async with asyncio.timeout(seconds):
                sock = await _connected(loop, host, port)
                try:
                    await loop.create_connection(lambda: connection, sock=sock, ssl=verify, server_hostname=server)
                except BaseException:
                    connection.abort()  # asyncio says good-bye in TLS first, on a socket that would be another's
                    sock.close()
                    raise
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("no connection in time") from exc
        except OSError as exc:
            raise httpx.ConnectError("no connection") from exc
        self._all.add(connection)
        return connection


async def _connected(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A socket connected to the first address that answers. Raises OSError."""
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    found = [each for each in found if not hands_out_secrets(str(each[4][0]))]  # what a name means may change any time
    if not found:
        raise ConnectionRefusedError("an address that serves no account")
    sock = await aiohappyeyeballs.start_connection(
        found, happy_eyeballs_delay=EYEBALLS_SECONDS, interleave=1, loop=loop
    )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a stream may be silent longer than a router remembers
    return sock


def _head(request: httpx.Request) -> bytes:
    """The request's head. Raises httpx.LocalProtocolError for what would not be one head."""
    fields = request.headers.raw
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % field for field in fields]
    if _UNSAFE.search(b" ".join(lines)):
        raise httpx.LocalProtocolError("a line break in the request's head")
    return b"\r\n".join(lines) + b"\r\n\r\n"
