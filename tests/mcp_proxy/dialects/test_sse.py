from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.dialects import sse
from mcp_proxy.dialects.sse import Frames, FrameTooLarge, parse, split
from tests.mcp_proxy.dialects.fixtures import STREAMS

PIECES = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: x", b"event:a", b":c", "\u2028\u0085".encode(), b"{"]


def feed(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    """All frames, and what was left."""
    frames = Frames()
    out = [frame for chunk in chunks for frame in split(frames.feed(chunk))]
    return out, frames.tail


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.sampled_from(PIECES), max_size=24).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_frames_do_not_depend_on_where_the_bytes_were_cut(data: bytes, places: list[int]) -> None:
    whole = feed([data])
    assert feed(cut(data, places)) == whole
    assert feed([data[at : at + 1] for at in range(len(data))]) == whole
    assert b"".join(whole[0]) + whole[1] == data


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_comes_out_as_it_went_in(name: str) -> None:
    data = STREAMS[name]
    chance = random.Random(7)
    for _ in range(50):
        frames, tail = feed(cut(data, [chance.randrange(len(data)) for _ in range(9)]))
        assert b"".join(frames) + tail == data
        assert frames == split(data)


@pytest.mark.parametrize(
    ("data", "frames", "tail"),
    [
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"], b""),
        (b"data: a\r\n\r\ndata: b", [b"data: a\r\n\r\n"], b"data: b"),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r"], b"data: b\r\r"),
        (b"data: a\n\r\nx", [b"data: a\n\r\n"], b"x"),
        (b"a\nb\r\nc", [], b"a\nb\r\nc"),
        (b"\n\na\n\n\n", [b"\n", b"\n", b"a\n\n", b"\n"], b""),
        (b"data: a\n\r", [], b"data: a\n\r"),
        (b"data: a\xe2\x80\xa8\xe2\x80\xa8b\n\n", [b"data: a\xe2\x80\xa8\xe2\x80\xa8b\n\n"], b""),
    ],
)
def test_a_frame_ends_behind_its_blank_line(data: bytes, frames: list[bytes], tail: bytes) -> None:
    assert feed([data]) == (frames, tail)


@pytest.mark.parametrize(
    ("frame", "event", "data"),
    [
        (b"event: ping\ndata: {}\n\n", "ping", b"{}"),
        (b"event:ping\r\ndata:{}\r\n\r\n", "ping", b"{}"),
        (b"\xef\xbb\xbfevent: a\ndata: b\n\n", "a", b"b"),
        (b": hello\n\n", None, b""),
        (b"data: one\rdata:  two\r\r", None, b"one\n two"),
        (b"event: a\nevent: b\nid: 3\nretry\ndata\n\n", "b", b""),
        (b"event:\ndata: x:y\n\n", None, b"x:y"),
        (b"\n", None, b""),
        (b"data: a\xe2\x80\xa8b", None, b"a\xe2\x80\xa8b"),
        (b"event: a\xff\n\n", "a\ufffd", b""),
    ],
)
def test_a_frame_gives_its_event_and_its_data(frame: bytes, event: str | None, data: bytes) -> None:
    assert parse(frame) == (event, data)
    assert b"\n".join(frame[start:end] for start, end in sse.data_lines(frame)) == data


def test_our_own_frame_reads_back() -> None:
    assert parse(sse.frame("error", b"{}")) == ("error", b"{}")


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_frame_over_the_limit_is_refused_however_it_comes(size: int, end: bytes) -> None:
    data = b"data: ok" + end * 2 + b"x" * 100 + end * 2 + b"y"

    def run(limit: int) -> None:
        frames = Frames(limit)
        for at in range(0, len(data), size):
            frames.feed(data[at : at + size])

    run(110)
    with pytest.raises(FrameTooLarge):
        run(99)


@given(st.binary(max_size=60))
def test_any_bytes_parse(data: bytes) -> None:
    parse(data)
    assert b"".join(split(data + b"\n\n")) == data + b"\n\n"
