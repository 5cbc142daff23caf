"""The scripted upstream: asyncio and bytes, no HTTP library, so that it can do everything wrong.

It hangs, resets, drips, truncates, lies about lengths and sends bad heads, as a test's play tells it, and reports what
it saw: each request, the connections that are open, and the seconds until its client's close.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mcp_proxy.core.http import Headers, UpstreamRequest

Play = Callable[["Talk"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Talk:
    """One connection, from the upstream's side. number: which one it is, from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: Upstream

    async def hear(self) -> bytes:
        """One whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        request = head + (await self.reader.readexactly(length) if length else b"")
        self.upstream.heard.append(request)
        return request

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        self.upstream.said += len(data)
        await self.writer.drain()

    async def left(self) -> None:
        """Wait until the client has gone, and note how long that took."""
        begun = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.upstream.left_after.append(asyncio.get_running_loop().time() - begun)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


@dataclass
class Upstream:
    """What it has seen so far.

    heard        every request, whole, head and body
    connections  how many there were; open: how many there are
    said         bytes that plays have handed to their connections
    left_after   for each play that waited for its client to leave: seconds until it had
    """

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    said: int = 0
    left_after: list[float] = field(default_factory=list)

    def url(self, path: str = "/v1/messages") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def asked(self, path: str = "/v1/messages") -> list[bytes]:
        """The requests for one path, whatever their query."""
        return [each for each in self.heard if each.split(b" ", 2)[1].split(b"?")[0] == path.encode()]

    def request(
        self, path: str = "/v1/messages", headers: Headers = (), body: bytes = b"{}", read_timeout: float = 5.0
    ) -> UpstreamRequest:
        return UpstreamRequest("POST", self.url(path), headers, body, read_timeout)


@contextlib.asynccontextmanager
async def upstream(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """An upstream whose every connection plays this, then closes. tls: with which it speaks; None: in plain text."""
    made, playing = Upstream(), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        made.connections += 1
        made.open += 1
        try:
            await play(Talk(made.connections, reader, writer, made))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a cancelled task would be complained of by asyncio's own callback
        finally:
            made.open -= 1
            playing.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield made
            server.close()
    finally:
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


def answering(*answers: bytes) -> Play:
    """Answers each request of a connection in turn, the last for ever, and keeps the connection."""

    async def play(talk: Talk) -> None:
        for number in range(1_000_000):
            await talk.hear()
            await talk.say(answers[min(number, len(answers) - 1)])

    return play


def by_path(parts: Mapping[str, Play], otherwise: Play | None = None) -> Play:
    """For each request of a connection the part of its path, which begins when the request has been heard.

    A part that returns with its connection open is followed by that of the next request. Where there is none the
    answer is 404, as an upstream says it that lacks an endpoint.
    """

    async def play(talk: Talk) -> None:
        while not talk.writer.is_closing():
            path = (await talk.hear()).split(b" ", 2)[1].split(b"?")[0].decode("latin-1")
            part = parts.get(path, otherwise)
            await (part(talk) if part is not None else talk.say(NOT_FOUND))

    return play


def saying(*pieces: bytes, pause: float = 0.0) -> Play:
    """A part of `by_path`: these bytes, `pause` seconds apart."""

    async def play(talk: Talk) -> None:
        for piece in pieces:
            await talk.say(piece)
            await asyncio.sleep(pause)

    return play


async def silent(talk: Talk) -> None:
    """A part of `by_path`: nothing, until the client has gone."""
    await talk.left()
    talk.writer.close()
