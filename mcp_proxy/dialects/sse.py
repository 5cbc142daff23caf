"""Server-sent events as byte frames. Wire: html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6."""

from __future__ import annotations

import re

FRAME_LIMIT = 16 * 1024 * 1024
"""Longest frame we hold, bytes. The largest real ones are images of some megabytes in base64."""

_BOM = b"\xef\xbb\xbf"
# No possessive and no atomic groups here: Python 3.11.2, Debian 12's, matches them wrongly.
_END = rb"(?:\r\n|\n|\r(?!\n))"
_FRAME = re.compile(rb"(?:[^\r\n]+" + _END + rb")*" + _END)
_LINE = re.compile(rb"([^\r\n]*)" + _END + rb"?")
_KNOWN = re.compile(rb"(?:|data|event|id|retry)(?::|\Z)")
# While bytes are still to come, a CR is a line's end only once the byte behind it is known.
_SURE_END = rb"(?:\n|\r\n|\r(?=[^\n]))"
_SURE_BLANK = re.compile(_SURE_END * 2)
_SURE_LEADING = re.compile(_SURE_END)


class FrameTooLarge(Exception):
    """A frame passed the limit: what comes is no event stream, or not one we can hold."""


class Frames:
    """Cuts a byte stream behind its blank lines, whatever the chunks are.

    A frame is everything up to and with the blank line that ends it, byte for byte; a blank line with nothing
    before it is a frame of its own. Everything fed comes out again: returned, or still in `tail`.
    """

    __slots__ = ("_limit", "_tail")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """What came after the last complete frame. By the specification it is dropped at the stream's end."""
        return bytes(self._tail)

    def feed(self, data: bytes) -> bytes:
        """The frames that are complete now, in one piece; empty where there is none.

        Raises `FrameTooLarge`.
        """
        tail = self._tail
        if b"\r" in data or b"\r" in tail[-3:]:
            return self._feed_any(data)
        cut = data.rfind(b"\n\n") + 2
        if cut == 1:
            cut = 1 if data[:1] == b"\n" and (not tail or tail[-1] == 0x0A) else 0
        if not cut:
            tail += data
            self._check(len(tail))
            return b""
        done = bytes(tail) + data[:cut] if tail else data[:cut]
        self._tail = bytearray(data[cut:])
        return self._checked(done)

    def end(self) -> bytes:
        """The frame that the stream's end completes: behind its last CR no LF can come any more. Mostly empty."""
        if not self._tail.endswith(b"\r"):
            return b""
        done = self._feed_any(b".")  # any byte but LF settles it
        del self._tail[-1:]
        return done

    def _feed_any(self, data: bytes) -> bytes:
        """The same where lines may end in CR or CRLF."""
        tail = self._tail
        start = max(0, len(tail) - 3)
        tail += data
        cut = 0
        if leading := _SURE_LEADING.match(tail):
            cut = leading.end()
            start = max(start, cut)
        for blank in _SURE_BLANK.finditer(tail, start):
            cut = blank.end()
        while cut and (leading := _SURE_LEADING.match(tail, cut)):
            cut = leading.end()
        done = bytes(tail[:cut])
        self._tail = tail[cut:]
        return self._checked(done)

    def _checked(self, done: bytes) -> bytes:
        if len(done) > self._limit:
            self._check(max(map(len, split(done))))
        self._check(len(self._tail))
        return done

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise FrameTooLarge(f"an event is longer than {self._limit} bytes")


def split(frames: bytes) -> list[bytes]:
    """The single frames in what `Frames.feed` returned."""
    return _FRAME.findall(frames)


def is_noise(frame: bytes) -> bool:
    """Whether a frame says something, but nothing of an event stream: no field of the specification, no comment.

    Every reader drops it; but for some its bytes are too much, as they are no text.
    """
    lines = [line for line in _LINE.findall(frame.removeprefix(_BOM)) if line]
    return bool(lines) and not any(_KNOWN.match(line) for line in lines)


def without_noise(frames: bytes) -> bytes:
    """Whole frames without those that are none."""
    return b"".join(frame for frame in split(frames) if not is_noise(frame))


def data_lines(frame: bytes) -> list[tuple[int, int]]:
    """Where the values of the frame's `data` fields stand in it."""
    found = []
    for name, start, end in _fields(frame):
        if name == b"data":
            found.append((start, end))
    return found


def parse(frame: bytes) -> tuple[str | None, bytes]:
    """The event's name (None where it has none) and its data, lines joined by LF."""
    event: str | None = None
    data: list[bytes] = []
    for name, start, end in _fields(frame):
        if name == b"data":
            data.append(frame[start:end])
        elif name == b"event":
            event = frame[start:end].decode("utf-8", "replace") or None
    return event, b"\n".join(data) if len(data) != 1 else data[0]


def _fields(frame: bytes) -> list[tuple[bytes, int, int]]:
    """Name and place of the value of each line that is no comment."""
    found = []
    position = len(_BOM) if frame.startswith(_BOM) else 0
    while position < len(frame) and (line := _LINE.match(frame, position)):
        start, end = line.span(1)
        position = line.end()
        colon = frame.find(b":", start, end)
        if start == end or colon == start:
            continue
        if colon < 0:
            found.append((frame[start:end], end, end))
            continue
        value = colon + 2 if frame[colon + 1 : min(colon + 2, end)] == b" " else colon + 1
        found.append((frame[start:colon], value, end))
    return found


def frame(event: str, data: bytes) -> bytes:
    """One frame of our own; `data` holds no line break."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
