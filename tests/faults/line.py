"""A client without a library: bare sockets, so that every byte, every end and every moment is its own."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any


@dataclass
class Reply:
    """One answer off the wire, its framing undone.

    complete  whether its framing said that it was over
    """

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool


class Line:
    """A client's connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self._port, self._data = port, b""

    async def open(self, *, small: bool = False) -> Line:
        if small:  # a reader that takes next to nothing
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", self._port))
        return self

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def more(self, seconds: float = 3.0) -> bytes:
        """The next bytes; empty at the end, however it came."""
        async with asyncio.timeout(seconds):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
            except ConnectionError:
                return b""
        self._data += data
        return data

    def put_back(self, data: bytes) -> None:
        """What was read past this object, in front of what it has."""
        self._data = data + self._data

    async def rest(self, seconds: float = 3.0) -> bytes:
        """Everything until the end of the connection."""
        async with asyncio.timeout(seconds):
            while await self.more(seconds):
                pass
        found, self._data = self._data, b""
        return found

    async def see(self, what: bytes, seconds: float = 3.0) -> bytes:
        """Read on until this has come."""
        async with asyncio.timeout(seconds):
            while what not in self._data:
                assert await self.more(seconds), f"ended before {what!r}: {self._data[-200:]!r}"
        return self._data

    async def reply(self, *, head: bool = False, seconds: float = 3.0) -> Reply:
        """The next answer, whole or as far as it comes."""
        raw = await self.see(b"\r\n\r\n", seconds)
        top, _, self._data = raw.partition(b"\r\n\r\n")
        status_line, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(status_line.split()[1])
        if head or status == 204:
            return Reply(status, headers, b"", True)
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(self._data) < length and await self.more(seconds):
                pass
            body, self._data = self._data[:length], self._data[length:]
            return Reply(status, headers, body, len(body) == length)
        return Reply(status, headers, *await self._chunks(seconds))

    async def _chunks(self, seconds: float) -> tuple[bytes, bool]:
        body = b""
        while True:
            while not (size := re.match(rb"([0-9a-f]+)\r\n", self._data)):
                if not await self.more(seconds):
                    return body, False
            end = size.end() + int(size[1], 16) + 2
            while len(self._data) < end:
                if not await self.more(seconds):
                    return body, False
            body += self._data[size.end() : end - 2]
            self._data = self._data[end:]
            if int(size[1], 16) == 0:
                return body, True

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def open_sockets() -> int:
    """Sockets of this process now; 0 where the system does not tell."""
    try:
        found = os.listdir("/proc/self/fd")
    except OSError:
        return 0
    return sum(_is_socket(each) for each in found)


def _is_socket(number: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except OSError:
        return False


async def until(holds: Any, seconds: float = 3.0) -> None:
    """Wait until something is so. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.002)
