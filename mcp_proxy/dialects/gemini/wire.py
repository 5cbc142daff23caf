"""Gemini's wire as bytes: values out, pieces of an answer in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.sse import Frames, parse, split

LONGEST_FRAME = 64 * 1024 * 1024
"""Images and long tool calls come in one frame each."""

_ENCODER = msgspec.json.Encoder()


def written(value: Any) -> bytes:
    """A value as JSON. Half a surrogate pair, which a client's cut text may hold and Google refuses, becomes U+FFFD."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class Chunks:
    """Cuts an answer into Gemini's response objects, whatever the chunks of bytes are.

    An answer that came whole, as JSON and no stream, is one response object, or a list of them.
    """

    __slots__ = ("_frames", "_streamed")

    def __init__(self) -> None:
        self._frames = Frames(LONGEST_FRAME)
        self._streamed = False

    def feed(self, data: bytes) -> Iterator[tuple[Any, bytes]]:
        """Each value that is complete now, unread as None, and its bytes. Raises `FrameTooLarge`."""
        whole = self._frames.feed(data)
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n")  # the same ends of lines, and all that Google writes
        for frame in split(whole) if b"\r" in whole else whole.split(b"\n\n"):
            if frame.startswith(b"data: {") and b"\n" not in frame and b"\r" not in frame:
                self._streamed = True
                yield loads(frame[6:]), frame[6:]  # as all of them are
            elif frame:
                yield from self._read(frame)

    def _read(self, frame: bytes) -> Iterator[tuple[Any, bytes]]:
        data = parse(frame)[1]
        if data:
            self._streamed = True
            yield from _values(data)

    def end(self) -> Iterator[tuple[Any, bytes]]:
        """What stands behind the last blank line, where it is whole all the same."""
        tail = self._frames.tail.strip()
        if tail[:1] in (b"{", b"[") and not self._streamed:
            yield from _values(tail)
            return
        data = parse(tail)[1]
        if loads(data) is not None:
            yield from _values(data)


def _values(data: bytes) -> Iterator[tuple[Any, bytes]]:
    value = loads(data)
    if not isinstance(value, list):
        yield value, data
        return
    for member in value:
        yield member, written(member)
