"""Raw upstreams on loopback: what they receive is bytes, what they answer is bytes, when they like."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from mcp_proxy.core.http import Headers, UpstreamRequest

Play = Callable[["Talk"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Talk:
    """One connection, from the upstream's side. number: which one it is, from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[bytes]

    async def hear(self) -> bytes:
        """One whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        request = head + (await self.reader.readexactly(length) if length else b"")
        self.heard.append(request)
        return request

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def left(self) -> None:
        """Wait until the client has gone."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.close()


@dataclass
class Upstream:
    """heard: every request, whole; connections: how many there were; open: how many there are."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    def url(self, path: str = "/v1/messages") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def request(
        self, path: str = "/v1/messages", headers: Headers = (), body: bytes = b"{}", read_timeout: float = 5.0
    ) -> UpstreamRequest:
        return UpstreamRequest("POST", self.url(path), headers, body, read_timeout)


@contextlib.asynccontextmanager
async def upstream(play: Play) -> AsyncIterator[Upstream]:
    """An upstream whose every connection plays this, then closes."""
    made = Upstream()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        made.open += 1
        try:
            await play(Talk(made.connections, reader, writer, made.heard))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            made.open -= 1
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def answering(*answers: bytes) -> Play:
    """Answers each request of a connection in turn, the last for ever, and keeps the connection."""

    async def play(talk: Talk) -> None:
        for number in range(1_000_000):
            await talk.hear()
            await talk.say(answers[min(number, len(answers) - 1)])

    return play
