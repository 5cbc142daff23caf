"""A line of stdin while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TextIO

LIMIT = 64 * 1024
"""Bytes. What is longer is no line that a person pasted."""

_waiting = bytearray()
"""What was read beyond the last line; stdin is one for the whole process, and so is this."""


async def line(stream: TextIO) -> str | None:
    """The next line without its end; None at the end of the stream.

    Read from the system beneath the stream, so nothing is held when this is cancelled: a stream that is being read
    when the interpreter ends would take it down.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return _text(stream.readline().encode())  # text in memory: nothing to wait for
    while b"\n" not in _waiting and len(_waiting) < LIMIT:
        if not (read := await _read(descriptor)):
            break
        _waiting.extend(read)
    found, end, rest = bytes(_waiting).partition(b"\n")
    _waiting[:] = rest
    return _text(found + end)


def _text(raw: bytes) -> str | None:
    return raw.decode("utf-8", "replace").rstrip("\r\n") if raw else None


async def _read(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except NotImplementedError:
        return await _read_beside(descriptor)
    except OSError:
        return os.read(descriptor, LIMIT)  # a plain file, or nothing: neither keeps anybody waiting
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return _read_now(descriptor)


def _read_now(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, LIMIT)
    except OSError:  # a terminal that is gone
        return b""


async def _read_beside(descriptor: int) -> bytes:
    """The same where a loop cannot watch stdin (Windows): by a thread that may be left waiting."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def keep(found: bytes) -> None:
        if not done.done():
            done.set_result(found)

    def read() -> None:
        found = _read_now(descriptor)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(keep, found)

    threading.Thread(target=read, daemon=True).start()
    return await done
