"""A client of bare bytes: one request on a connection of its own, and what came of it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from typing import Any

from benchmarks.soak.history import Reply

_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


def request(key: str, session: str, body: dict[str, Any], patience: float) -> bytes:
    """The bytes of one request to /v1/messages. patience: how long the client says it waits."""
    data = json.dumps(body).encode()
    head = (
        "POST /v1/messages HTTP/1.1",
        "host: localhost",
        f"x-api-key: {key}",
        f"x-claude-code-session-id: {session}",
        f"x-stainless-timeout: {patience:g}",
        "content-type: application/json",
        "connection: close",
        f"content-length: {len(data)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


async def ask(port: int, data: bytes, seconds: float) -> Reply:
    """Send these bytes and read the answer to its end. Raises `TimeoutError` after so many seconds."""
    raw = bytearray()
    async with asyncio.timeout(seconds):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return Reply()
        try:
            writer.write(data)
            while piece := await reader.read(65536):
                raw += piece
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
    return read(bytes(raw))


async def hang_up(port: int, data: bytes, after: float, *, reset: bool) -> None:
    """Send these bytes, and be gone after so many seconds."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return
    try:
        writer.write(data)
        async with asyncio.timeout(after):
            while await reader.read(65536):
                pass
    except (OSError, TimeoutError):
        pass
    finally:
        if reset:
            found = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def read(raw: bytes) -> Reply:
    """One answer, whole or as far as it came."""
    top, end, rest = raw.partition(b"\r\n\r\n")
    if not end or not top.startswith(b"HTTP/1.1 "):
        return Reply()
    status_line, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body, whole = _body(headers, rest)
    return Reply(int(status_line.split()[1]), headers, body, whole)


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bool]:
    if "content-length" in headers:
        length = int(headers["content-length"])
        return rest[:length], len(rest) == length
    body = bytearray()
    at = 0
    while (size := _CHUNK.match(rest, at)) is not None:
        length = int(size[1], 16)
        if length == 0:
            return bytes(body), rest[size.end() :] == b"\r\n"
        body += rest[size.end() : size.end() + length]
        at = size.end() + length + 2
    return bytes(body), False
