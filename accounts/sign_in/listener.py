"""Waits on a loopback address for the browser to come back from a provider's page (RFC 8252, 7.3).

Whoever knocks is answered with one plain page and sent away; only a GET of our path, at our host, with our state ends
the wait. No more is read of anybody than a head.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import socket
import sys
from collections.abc import AsyncIterator

from accounts.exits import Exit, Trouble
from accounts.sign_in.callback import Answer, Denied, Granted, Unusable, of_query

HEAD_LIMIT = 16 * 1024
"""Bytes of a request's head. Google's callback has some 700."""

HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0
"""How long a visitor may go on sending after the answer, so that it reads the answer instead of a reset."""

MOST_VISITS = 32
ATTEMPTS = 20

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""
_HEAD = (
    "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'\r\n\r\n"
)


@contextlib.asynccontextmanager
async def listening(port: int, path: str, state: str, found: asyncio.Future[Answer]) -> AsyncIterator[int]:
    """While this lasts, a callback with our state becomes the result of `found`; gives the port.

    port  the one to listen on where it is free, else another is taken

    Raises Trouble where no port can be had.
    """
    loop, sockets = asyncio.get_running_loop(), _sockets(port)
    actual = int(sockets[0].getsockname()[1])
    door = _Door(f"localhost:{actual}", path, state, found)
    servers: list[asyncio.AbstractServer] = []
    try:
        while sockets:
            servers.append(await loop.create_server(lambda: _Visit(door), sock=sockets[0]))
            sockets.pop(0)
        yield actual
    finally:
        for server in servers:
            server.close()
        for left in sockets:
            left.close()
        await door.cleared()


class _Door:
    """What all visits share."""

    def __init__(self, host: str, path: str, state: str, found: asyncio.Future[Answer]) -> None:
        self.host, self.path, self.state, self.found = host, path, state, found
        self.visits: dict[_Visit, asyncio.Transport] = {}
        self._shut, self._cleared = False, asyncio.Event()

    def let_in(self, visit: _Visit, transport: asyncio.Transport) -> None:
        """Somebody knocks; where there are too many, the one that has been here longest goes."""
        if len(self.visits) >= MOST_VISITS:
            oldest = next(iter(self.visits))
            self.visits.pop(oldest).abort()
        self.visits[visit] = transport
        if self._shut:
            transport.abort()

    def let_out(self, visit: _Visit) -> None:
        """Somebody has left."""
        self.visits.pop(visit, None)
        if self._shut and not self.visits:
            self._cleared.set()

    async def cleared(self) -> None:
        """Everybody leaves; what was answered is on its way already."""
        self._shut = True
        for transport in self.visits.values():
            transport.abort() if transport.get_write_buffer_size() else transport.close()
        if self.visits:
            await self._cleared.wait()

    def answer(self, head: str) -> tuple[str, str, str]:
        """Status line, title and text for a request's head; the first that answers our question is kept."""
        read = self._read(head)
        if isinstance(read, Unusable):
            return "400 Bad Request", "This is not the answer to the sign-in", f"Ignored: {read.why}."
        if self.found.done():
            return "400 Bad Request", "The sign-in is over", "It was answered before."
        self.found.set_result(read)
        if isinstance(read, Denied):
            return "400 Bad Request", "The sign-in was refused", f"The page said: {read.said}"
        return "200 OK", "Answer received", "You can close this page and go back to the terminal."

    def _read(self, head: str) -> Granted | Denied | Unusable:
        first, *fields = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[0] != "GET" or not words[2].startswith("HTTP/1."):
            return Unusable("only a GET is answered here")
        hosts = [value.strip() for name, _, value in (line.partition(":") for line in fields) if name.lower() == "host"]
        if [host.lower() for host in hosts] != [self.host]:
            return Unusable("it asks for another host")
        path, _, query = words[1].partition("?")
        return of_query(query, self.state) if path == self.path else Unusable("it asks for another page")


class _Visit(asyncio.Protocol):
    """One connection: a head is read, a page is written, and that is all."""

    def __init__(self, door: _Door) -> None:
        self._door, self._head, self._answered = door, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket's is one
        self._transport = transport
        self._door.let_in(self, transport)
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if len(head) > HEAD_LIMIT:
            self._say("400 Bad Request", "This is not the answer to the sign-in", "Ignored: it is too long.")
        elif end:
            self._say(*self._door.answer(head.decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._door.let_out(self)

    def _say(self, status: str, title: str, text: str) -> None:
        body = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode("utf-8", "replace")
        self._answered, self._head = True, b""
        self._transport.write(_HEAD.format(status=status, length=len(body)).encode() + body)
        self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)
        if self._transport.can_write_eof():
            self._transport.write_eof()


def _sockets(port: int) -> list[socket.socket]:
    """Listening sockets on one port of 127.0.0.1 and ::1. Raises Trouble."""
    for wanted in (port, *[0] * ATTEMPTS):
        try:
            return _pair(wanted)
        except OSError:
            continue
    raise Trouble("no port of this machine can be listened on; sign in with --no-browser", Exit.FAILED)


def _pair(port: int) -> list[socket.socket]:
    first = _bound(socket.AF_INET, "127.0.0.1", port)
    try:
        return [first, _bound(socket.AF_INET6, "::1", first.getsockname()[1])]
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            first.close()
            raise
    return [first]  # a machine without IPv6


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # there, only past connections are passed over
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(MOST_VISITS)  # on Linux it is this call, not the one before, that finds a port taken
    except BaseException:
        made.close()
        raise
    return made
