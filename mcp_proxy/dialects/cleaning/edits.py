"""Changes to a body by where they stand in it: every byte that no change names stays as it is."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from mcp_proxy.core.messages import Member, Span


class Edit(NamedTuple):
    """The bytes `start` to `end` give way to `value`."""

    start: int
    end: int
    value: bytes = b""


def edited(body: bytes, edits: Sequence[Edit]) -> bytes:
    """`body` with all edits made, none of which reaches into another; the same object where there are none."""
    if not edits:
        return body
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    position = 0
    for edit in sorted(edits):
        pieces += (view[position : edit.start], edit.value)
        position = edit.end
    pieces.append(view[position:])
    return b"".join(pieces)


def removed(spans: Sequence[Span], leaving: Set[int]) -> list[Edit]:
    """The edits that take values out of an array, or members out of an object, each with one comma.

    spans    all of them in order; a member's begins with its key
    leaving  the places of those that go
    """
    last = max((place for place in range(len(spans)) if place not in leaving), default=-1)
    edits = [Edit(spans[place].start, spans[place + 1].start) for place in leaving if place < last]
    if spans and last < len(spans) - 1:
        start = spans[last].end if last >= 0 else spans[0].start
        edits.append(Edit(start, spans[-1].end))
    return edits


def whole(members: Sequence[Member]) -> list[Span]:
    """Members with their keys, as `removed` wants them."""
    return [Span(member.start, member.value.end) for member in members]
