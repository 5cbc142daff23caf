"""One connection: whole requests in through h11, any bytes out, and its end seen the moment it comes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import h11

from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.replies import Cut, Pause, Step

MAX_HEAD = 256 * 1024
"""Bytes of a request head; more than the API's edge takes, less than would hurt."""

LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""On, for no time: closing then sends RST."""

BREATH = 0.02
"""Seconds before a reset, so that what was sent before it has been read: a reset may overtake."""


class Left(Exception):
    """The client closed the connection while it was being answered."""


class Unreadable(Exception):
    """What came is not HTTP."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came.

    headers  in order, names in the case they were written in
    whole    False where the body was too long and the rest of it was not read
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    whole: bool = True

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)


class Line(asyncio.Protocol):
    """A client's connection. `gone` is set once the client closed its side, `lost` once nothing is left of it."""

    def __init__(self, opened: Callable[[Line], None]) -> None:
        self.gone = asyncio.Event()
        self.lost = asyncio.Event()
        self.sent = 0
        self._opened = opened
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._parser = h11.Connection(h11.SERVER, MAX_HEAD)
        self._spent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.receive_data(data)
        self._arrived.set()

    def eof_received(self) -> bool:
        self.gone.set()
        self._arrived.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        for event in (self.gone, self.lost, self._arrived, self._writable):
            event.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def hear(self, limit: int) -> Heard | None:
        """The next whole request, its body cut at `limit` bytes; None where the client is gone.

        Raises `Unreadable`.
        """
        self._renew()
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._next()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if request is not None and len(body) > limit:
                    return _heard(request, bytes(body[:limit]), whole=False)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                self._spent = True
                return _heard(request, bytes(body), whole=True)
            elif event is h11.NEED_DATA and not self.gone.is_set():
                if self._parser.they_are_waiting_for_100_continue:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._arrived.clear()
                await self._arrived.wait()
            else:
                return None

    def _renew(self) -> None:
        """h11 frames one exchange only if it sends the answer too, so each request has a parser of its own."""
        if self._spent:
            rest, _ = self._parser.trailing_data
            self._parser = h11.Connection(h11.SERVER, MAX_HEAD)
            self._spent = False
            if rest:
                self._parser.receive_data(rest)

    def _next(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as trouble:
            raise Unreadable(str(trouble)) from trouble

    async def play(self, steps: Iterable[Step]) -> bool:
        """Do these steps; whether the connection is still open after them. Raises `Left`."""
        for step in steps:
            if isinstance(step, bytes):
                await self._write(step)
            elif isinstance(step, Pause):
                await self._wait(step.seconds)
            else:
                await self.end(step)
                return False
        return True

    async def _write(self, data: bytes) -> None:
        if self.gone.is_set():
            raise Left
        self._transport.write(data)
        self.sent += len(data)
        if self._writable.is_set():
            await asyncio.sleep(0)
        else:
            await self._writable.wait()

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.gone.wait()
                raise Left

    async def end(self, cut: Cut = Cut()) -> None:  # noqa: B008 - frozen
        """Close it, after what was written has left, or reset it."""
        if cut.reset:
            await self._wait(BREATH)
            self.reset()
        else:
            self._transport.close()

    def reset(self) -> None:
        """RST, now."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        self._transport.abort()


def _heard(request: h11.Request, body: bytes, *, whole: bool) -> Heard:
    return Heard(
        method=request.method.decode("ascii"),
        target=request.target.decode("ascii", "replace"),
        headers=tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw_items()),
        body=body,
        whole=whole,
    )
