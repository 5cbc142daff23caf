from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.dialects import sse
from mcp_proxy.dialects.anthropic_answer import Listener, rename
from mcp_proxy.dialects.sse import Frames, FrameTooLarge, is_noise, parse, split, without_noise
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


# U7: whatever the upstream makes of line ends, marks, comments and cuts, the events are the same


def told(data: bytes) -> list[tuple[str | None, bytes]]:
    """The events of a whole stream, read as the specification says it, line by line."""
    events: list[tuple[str | None, bytes]] = []
    event, lines = b"", []
    for line in re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if not line:
            if lines:
                events.append((event.decode("utf-8", "replace") or None, b"\n".join(lines)))
            event, lines = b"", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            event = value
    return events


def heard(chunks: list[bytes]) -> tuple[bytes, list[tuple[str | None, bytes]], Listener]:
    """What comes out again, its events, and what was learnt of it."""
    frames, listener, out = Frames(), Listener(), b""
    for part in (*chunks, None):
        whole = frames.end() if part is None else frames.feed(part)
        listener.feed(whole)
        out += whole
    return out + frames.tail, [parse(one) for one in split(out) if sse.data_lines(one)], listener


LINES = st.one_of(
    st.sampled_from([
        b"event: message_start", b"event:ping", b"event: message_stop", b"event: content_block_start",
        b'data: {"type": "message_stop"}', b'data: {"type":"message_start","message":{"model":"m"}}', b"data:",
        b"data", b": a comment", b":", b"id: 7", b"retry: 10", b"dat", b" data: x", "data: \u2028\u2029\u0085".encode(),
        b"data: \xff\xfe\x00\xc3", b"data: \xef\xbb\xbf", b"",
    ]),
    st.binary(max_size=12).map(lambda line: b"data: " + line.replace(b"\r", b"").replace(b"\n", b"")),
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
WIRES = st.builds(
    lambda mark, lines: mark + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, ENDS), max_size=20),
)


@given(WIRES, st.lists(st.integers(0, 500), max_size=8))
def test_the_events_are_those_of_the_specification_for_every_cut(wire: bytes, places: list[int]) -> None:
    """U7."""
    out, events, listener = heard([wire])
    assert out == wire, "not a byte is changed"
    assert events == told(wire)
    assert heard(cut(wire, places)) == (out, events, listener)
    assert heard([wire[at : at + 1] for at in range(len(wire))]) == (out, events, listener)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("name", STREAMS)
def test_what_is_learnt_of_a_stream_depends_neither_on_its_line_ends_nor_on_its_cuts(name: str, end: bytes) -> None:
    """U7."""
    plain = STREAMS[name]
    _, events, listener = heard([plain])
    assert listener.started and (listener.done or listener.error is not None)
    wire = b"\xef\xbb\xbf" + plain.replace(b"\n", end)
    chance = random.Random(name)
    for _ in range(20):
        chunks = cut(wire, [chance.randrange(len(wire)) for _ in range(9)])
        assert heard(chunks) == (wire, events, listener)


@pytest.mark.parametrize("name", list(STREAMS)[:1])
def test_a_stream_may_be_cut_at_every_byte(name: str) -> None:
    """U7."""
    for end in (b"\n", b"\r\n", b"\r"):
        wire = STREAMS[name].replace(b"\n", end)
        whole = heard([wire])
        step = max(1, len(wire) // 4000)
        for at in range(0, len(wire), step):
            frames, listener = Frames(), Listener()
            for part in (wire[:at], wire[at:]):
                listener.feed(frames.feed(part))
            listener.feed(frames.end())
            assert listener == whole[2], f"cut at byte {at}"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_name_is_changed_whatever_the_line_ends(end: bytes) -> None:
    """U7."""
    frame = b'\xef\xbb\xbfevent: message_start\nid: 1\ndata: {"message":\ndata: {"model": "upstream"}}\n\n'
    wanted = frame.replace(b'"upstream"', b'"asked"').replace(b"\n", end)
    assert rename(frame.replace(b"\n", end), "asked") == wanted


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 24])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_line_of_ten_megabytes_is_one_event(size: int, end: bytes) -> None:
    """U7."""
    wire = b"event: ping" + end + b"data: " + b"a" * (10 << 20) + end * 2
    out, events, _ = heard([wire[at : at + size] for at in range(0, len(wire), size)])
    assert out == wire and events == [("ping", b"a" * (10 << 20))]


def test_an_end_that_is_sure_only_at_the_streams_end_is_an_end() -> None:
    """U7: behind a CR an LF may follow; once nothing does, it was the line's end."""
    frames = Frames()
    assert frames.feed(b"data: a\r\rdata: b\r\r") == b"data: a\r\r"
    assert (frames.end(), frames.tail) == (b"data: b\r\r", b"")
    for left in (b"data: a", b"data: a\r", b"data: a\n", b""):
        frames = Frames()
        assert (frames.feed(left), frames.end(), frames.tail) == (b"", b"", left)


@pytest.mark.parametrize(
    "frame",
    [b"\n", b"\r\n", b": ping\n\n", b":\n\n", b"data\n\n", b"event:\n\n", b"id: 1\n\n", b"retry:5\r\r",
     b"odd\ndata:x\n\n", b"\xef\xbb\xbfdata: a\n\n", b"\xef\xbb\xbf\n\n"],
)  # fmt: skip
def test_what_a_reader_knows_or_skips_is_no_noise(frame: bytes) -> None:
    assert not is_noise(frame) and without_noise(b"event: a\ndata: b\n\n" + frame).endswith(frame)


@pytest.mark.parametrize(
    "frame",
    [b"\x00\xff\xfe\n\n", b"HTTP/1.1 503 No\r\ncontent-type: x\r\n\r\n", b"dat: a\n\n", b"{\n}\n\n", b"datax\n\n"],
)
def test_a_frame_without_any_field_is_noise(frame: bytes) -> None:
    assert is_noise(frame)
    assert without_noise(b"data: a\n\n" + frame + b"\n: b\n\n") == b"data: a\n\n\n: b\n\n"
