"""Where the members of a JSON object stand in its bytes, so that one can be changed and the rest left alone."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

import msgspec

from mcp_proxy.core.messages import Member, Span

Bytes: TypeAlias = bytes | memoryview
"""A part of a body, and one that is not copied: copying twenty megabytes takes longer than reading them."""

PIECE = 256 * 1024
"""How much of a body is looked at in one step. The other threads wait for the end of a step."""

NULL = b"null"


class BadJson(ValueError):
    """The bytes are no JSON object. Its text is for people and quotes nothing of the bytes."""


_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_KEY = re.compile(rb'[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*')
_AFTER = re.compile(rb"[ \t\n\r]*([,}])")
_OPEN = re.compile(rb"[ \t\n\r]*\{")
_WHITE = re.compile(r"[ \t\n\r]*")


def members(body: bytes) -> tuple[Member, ...]:
    """The top-level members of a JSON object, in order, one twice if it stands there twice.

    Raises `BadJson` for what is no UTF-8, no JSON (NaN and Infinity are none), no object or too deep.
    Numbers of any size and lone surrogate escapes pass: JavaScript clients send the latter when they cut a text.
    """
    # msgspec does not look at the UTF-8 of what it skips.
    if not body.isascii() and not _is_utf8(body):
        raise BadJson("the body is not valid UTF-8")
    try:
        raws = _RAW_MEMBERS.decode(body)
    except RecursionError:
        raise BadJson("the body is nested too deeply") from None
    except msgspec.ValidationError:
        raise BadJson("the body is not a JSON object") from None
    except msgspec.DecodeError:
        # A lone surrogate is an error to msgspec, and the standard parser has the better words for a real one.
        return _slow_members(body)
    return _walk(body, raws) or (_slow_members(body) if raws else ())


def _is_utf8(body: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(body), PIECE):
            decoder.decode(body[at : at + PIECE], at + PIECE >= len(body))
    except UnicodeDecodeError:
        return False
    return True


def _walk(body: bytes, raws: dict[str, msgspec.Raw]) -> tuple[Member, ...] | None:
    """The members of a body known to be valid; None where they do not fit, as when a key stands there twice."""
    opened = _OPEN.match(body)
    if opened is None:
        return None
    found: list[Member] = []
    position = opened.end()
    last = b","
    for key, raw in raws.items():
        head = _KEY.match(body, position)
        if last != b"," or head is None:
            return None
        value = memoryview(raw)
        end = head.end() + len(value)
        if not all(body.startswith(piece, head.end() + PIECE * number) for number, piece in enumerate(_pieces(value))):
            return None
        after = _AFTER.match(body, end)
        if after is None:
            return None
        found.append(Member(key, head.start(1), Span(head.end(), end)))
        position, last = after.end(), after[1]
    return tuple(found) if last == b"}" else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers stay text: the value is not wanted, and Python refuses to convert very long ones.
_SLOW = json.JSONDecoder(parse_constant=_no_constant, parse_int=str, parse_float=str)


def _slow_members(body: bytes) -> tuple[Member, ...]:
    """The same by the standard parser, member by member. Raises `BadJson`."""
    try:
        return tuple(_slow_walk(body.decode()))
    except RecursionError:
        raise BadJson("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"the body is not valid JSON: {error.msg} (character {error.pos})") from None
    except ValueError as error:
        raise BadJson(f"the body is not valid JSON: {error}") from None


class _Places:
    """Where characters of a text stand in its UTF-8, asked for from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._seen, self._bytes = text, 0, 0

    def at(self, index: int) -> int:
        self._bytes += len(self._text[self._seen : index].encode())
        self._seen = index
        return self._bytes


def _slow_walk(text: str) -> list[Member]:
    found: list[Member] = []
    position = _token(text, 0, "{")
    if text[position : position + 1] == "}":
        _end(text, position + 1)
        return found
    byte_at = _Places(text).at

    while True:
        if text[position : position + 1] != '"':
            raise json.JSONDecodeError("Expecting a property name", text, position)
        key, end = _SLOW.raw_decode(text, position)
        key_start = byte_at(position)
        value = _token(text, end, ":")
        _, end = _SLOW.raw_decode(text, value)
        found.append(Member(key, key_start, Span(byte_at(value), byte_at(end))))
        position = _skip(text, end)
        if text[position : position + 1] == "}":
            _end(text, position + 1)
            return found
        position = _token(text, position, ",")


def _skip(text: str, position: int) -> int:
    white = _WHITE.match(text, position)
    return white.end() if white else position


def _token(text: str, position: int, token: str) -> int:
    """Behind `token` and the white space after it."""
    position = _skip(text, position)
    if text[position : position + 1] != token:
        raise json.JSONDecodeError(f"Expecting {token!r}", text, position)
    return _skip(text, position + 1)


def _end(text: str, position: int) -> None:
    if _skip(text, position) != len(text):
        raise json.JSONDecodeError("Extra data", text, position)


def loads(data: Bytes | bytearray) -> Any:
    """A small JSON document as Python values; None where it is none. Never raises."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(bytes(data).decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def items(data: Bytes) -> Iterator[memoryview]:
    """The bytes of each value of a JSON array, in order; none where it is no array. Never raises.

    A thread that reads a large array so, value by value, never keeps the others waiting for long.
    """
    try:
        for raw in _RAW_ITEMS.decode(data):
            yield memoryview(raw)
    except RecursionError:
        return
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A lone surrogate is an error to msgspec; beside it, too, everything stays as it is written.
        yield from (memoryview(data)[slice(*span)] for span in _slow_elements(bytes(data), 0))


def elements(body: bytes, span: Span) -> tuple[Span, ...]:
    """Where the values of the JSON array at `span` stand in `body`; none where it is no array. Never raises."""
    data = body[slice(*span)]
    try:
        raws = _RAW_ITEMS.decode(data)
    except RecursionError:
        return ()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _slow_elements(data, span.start)
    found: list[Span] = []
    position = 1
    for raw in raws:
        value = bytes(raw)
        start = data.index(value, position)  # between two values stand white space and one comma
        found.append(Span(span.start + start, span.start + start + len(value)))
        position = start + len(value)
    return tuple(found)


def _slow_elements(data: bytes, offset: int) -> tuple[Span, ...]:
    """The same by the standard parser, for an array with a lone surrogate in it; none where it is no array."""
    found: list[Span] = []
    try:
        text = data.decode()
        byte_at = _Places(text).at
        position = _token(text, 0, "[")
        while found or text[position : position + 1] != "]":
            _, end = _SLOW.raw_decode(text, position)
            found.append(Span(offset + byte_at(position), offset + byte_at(end)))
            position = _skip(text, end)
            if text[position : position + 1] == "]":
                break
            position = _token(text, position, ",")
        _end(text, position + 1)
    except (ValueError, RecursionError):
        return ()
    return tuple(found)


def members_at(body: bytes, span: Span) -> tuple[Member, ...]:
    """The members of the JSON object at `span`, by where they stand in `body`; none for any other. Never raises."""
    try:
        found = members(body[slice(*span)])
    except BadJson:
        return ()
    at = span.start
    return tuple(Member(key, at + start, Span(at + value.start, at + value.end)) for key, start, value in found)


def picked(data: Bytes, *keys: str) -> tuple[memoryview, ...]:
    """The bytes of some top-level members of a JSON object, the last of each name; `null` for what it lacks."""
    try:
        raws = _RAW_MEMBERS.decode(data)
        return tuple(memoryview(raws.get(key, NULL)) for key in keys)
    except RecursionError:
        return (memoryview(NULL),) * len(keys)
    except (msgspec.DecodeError, UnicodeDecodeError):
        parts = {part.key: memoryview(data)[slice(*part.value)] for part in members_at(bytes(data), Span(0, len(data)))}
        return tuple(parts.get(key, memoryview(NULL)) for key in keys)


def is_text(value: Bytes) -> bool:
    """Whether the bytes of a JSON value are those of a string."""
    return bytes(value[:1]) == b'"'


def replace(body: bytes, span: Span, value: bytes) -> bytes:
    """`body` with the bytes at `span` replaced; the same object where nothing changes."""
    if body[span.start : span.end] == value:
        return body
    before, after = memoryview(body)[: span.start], memoryview(body)[span.end :]
    if len(body) <= PIECE:
        return b"".join((before, value, after))
    return b"".join((*_pieces(before), value, *_pieces(after)))  # of bytes alone: lets the other threads go on


def _pieces(view: memoryview) -> Iterator[bytes]:
    return (bytes(view[at : at + PIECE]) for at in range(0, len(view), PIECE))


def quoted(text: str) -> bytes:
    """`text` as a JSON string; a lone surrogate becomes its escape."""
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:
        return json.dumps(text).encode()
