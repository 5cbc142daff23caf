"""U4, U5, U9: bodies that are too large, in a coding nobody asked for, or no answer though their status says so."""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_proxy.gateway import answer as answer_room
from tests.e2e.harness import KEY, in_front_of, message, settings, store
from tests.e2e.test_process import served
from tests.faults.answers import STREAM, Turns, is_told, is_whole, messages, one, well
from tests.faults.line import until
from tests.faults.speech import BLOCK, EVENT_STREAM, START, answer, chunk, delta, event, refusal
from tests.faults.speech import message as said_message
from tests.faults.upstream import Talk, upstream

Part = Callable[[Talk], Awaitable[None]]
MEGABYTE = 1 << 20
IN_THE_SOCKETS = 12 * MEGABYTE
"""What the buffers of a connection on loopback may take in though nobody reads."""


def closing(said: bytes) -> Part:
    async def part(talk: Talk) -> None:
        await talk.say(said)
        talk.writer.close()

    return part


def flooding(head: bytes, piece: bytes, size: int) -> Part:
    """Says this, and then `size` bytes as fast as they are taken."""

    async def part(talk: Talk) -> None:
        await talk.say(head)
        for _ in range(size // len(piece)):
            await talk.say(piece)
        talk.writer.close()

    return part


JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
TEXT = b'{"type":"message","role":"assistant","content":[{"type":"text","text":"'
PING = event("ping", padding="a" * 4000)

# what is sent; the bound it meets, made small; how much may have been taken
FLOODS: dict[str, tuple[Part, dict[str, int], bool]] = {
    "a message that never ends": (
        flooding(JSON + b"\r\n" + TEXT, b"a" * 65_536, 200 * MEGABYTE),
        {"MAX_MESSAGE_BYTES": MEGABYTE},
        False,
    ),
    "a message of a declared 200 MB": (
        flooding(JSON + b"content-length: 209715200\r\n\r\n" + TEXT, b"a" * 65_536, 200 * MEGABYTE),
        {"MAX_MESSAGE_BYTES": MEGABYTE},
        False,
    ),
    "pings before any content": (
        flooding(EVENTS + b"\r\n" + START, PING, 200 * MEGABYTE),
        {"MAX_HELD_BYTES": MEGABYTE},
        True,
    ),
    "a frame that never ends": (
        flooding(EVENTS + b"\r\n" + START + b"event: content_block_start\ndata: ", b"a" * 65_536, 200 * MEGABYTE),
        {},
        True,
    ),
    "a coded message": (
        flooding(JSON + b"content-encoding: gzip\r\n\r\n", b"\x1f\x8b" * 32_768, 200 * MEGABYTE),
        {},
        False,
    ),
    "a coded stream": (
        flooding(EVENTS + b"content-encoding: br\r\n\r\n", b"\x5b\xff" * 32_768, 200 * MEGABYTE),
        {},
        True,
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_left_at_its_bound_and_the_next_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flood: str
) -> None:
    """U5."""
    part, bounds, streams = FLOODS[flood]
    for name, bytes_ in bounds.items():
        monkeypatch.setattr(answer_room, name, bytes_)
    async with upstream(messages(part)) as a0, upstream(messages(well)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            assert is_whole(await proxy.ask(stream=streams), streams=streams)
            assert (len(a0.asked()), len(a1.asked())) == (1, 1)
            await until(lambda: a0.open == 0, 1.0)
            limit = 16 * MEGABYTE if flood == "a frame that never ends" else MEGABYTE
            assert a0.said < limit + IN_THE_SOCKETS, "what is not wanted is not taken"


async def test_an_event_over_the_limit_in_mid_stream_is_a_cut(tmp_path: Path) -> None:
    """U5."""
    begun = EVENTS + b"\r\n" + START + BLOCK + delta("hel")
    async with upstream(messages(flooding(begun, b"data: " + b"a" * 65_530, 40 * MEGABYTE))) as a0:
        async with in_front_of(tmp_path, a0) as proxy:
            came = b""
            with pytest.raises(httpx.RemoteProtocolError):
                async with proxy.client.stream("POST", "/v1/messages", json=message(stream=True)) as reply:
                    async for piece in reply.aiter_raw():
                        came += piece
            assert came == START + BLOCK + delta("hel")
            await until(lambda: a0.open == 0, 1.0)
            assert a0.said < 16 * MEGABYTE + IN_THE_SOCKETS


async def test_a_large_event_within_the_limit_is_passed_on(tmp_path: Path) -> None:
    """U5, the twin: an image of some megabytes, as one event."""
    large = delta("a" * 10 * MEGABYTE)
    said = STREAM.replace(delta("hel"), large)
    async with upstream(messages(closing(EVENT_STREAM + chunk(said) + b"0\r\n\r\n"))) as a0:
        async with in_front_of(tmp_path, a0) as proxy:
            assert (await proxy.ask(stream=True)).content == said


REFUSALS = {
    "gzip": gzip.compress(b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}'),
    "gzip cut": gzip.compress(b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}')[:20],
    "br": b"\x0b\x02\x80\x03",
}


@pytest.mark.usefixtures("unbroken")
async def test_a_refusal_in_a_coding_is_read_by_its_status(tmp_path: Path) -> None:
    """U4: what is said is an error of ours, never the coded bytes."""
    turns = Turns()
    async with one(tmp_path, turns) as (proxy, _):
        for coding, body in REFUSALS.items():
            for status, shown in ((529, 529), (503, 502), (500, 502), (400, 400), (413, 413)):
                field = f"content-encoding: {coding.split()[0]}"
                turns.otherwise = answer(body, "application/json", field, status=status)
                reply = await proxy.ask()
                assert reply.status_code == shown and "content-encoding" not in reply.headers, (coding, status)
                assert reply.json()["type"] == "error" and reply.json()["error"]["message"].isprintable()


INSIDE_A_200: list[tuple[dict[str, Any], str, int]] = [
    # the document; what becomes of the account; the status where nobody is left
    ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}, "limited", 429),
    ({"type": "error", "error": {"type": "authentication_error", "message": "bad key"}}, "invalid", 503),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "", 529),
    ({"type": "error", "error": {"type": "api_error", "message": "oops"}}, "", 502),
]


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
async def test_an_error_inside_a_200_is_what_it_says(tmp_path: Path, streams: bool) -> None:
    """U9."""

    async def case(home: Path, document: dict[str, Any], becomes: str, status: int) -> None:
        framed = event("error", **{key: value for key, value in document.items() if key != "type"})
        said = answer(framed, "text/event-stream") if streams else answer(document)
        async with upstream(messages(closing(said))) as a0, upstream(messages(well)) as a1:
            async with in_front_of(home / "two", a0, a1) as proxy:
                assert is_whole(await proxy.ask(stream=streams), streams=streams), document
                assert (len(a0.asked()), len(a1.asked())) == (1, 1)
                seat = proxy.gateway.pool.seats[0]
                assert ("limited" if seat.closed else "invalid" if seat.account.invalid else "") == becomes, document
            async with in_front_of(home / "one", a0, toml="[routing]\nmax_wait = 0\n") as proxy:
                reply = await proxy.ask(stream=streams)
                assert reply.status_code == status, (document, reply.text)
                assert reply.json()["type"] == "error" and reply.json()["request_id"]

    await asyncio.gather(*(case(tmp_path / f"{number}", *row) for number, row in enumerate(INSIDE_A_200)))


# real numbers, in a process of its own


def bomb(size: int) -> bytes:
    """A small body that decodes to `size` bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * MEGABYTE) for _ in range(size // MEGABYTE)) + packer.flush()


def peak(pid: int) -> int:
    """The most memory a process ever had, bytes."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024  # type: ignore[index]


def big_ones() -> Iterator[tuple[bytes, Part, int]]:
    """The kind of request, what its answer is, and by how much memory may grow meanwhile."""
    packed = bomb(200 * MEGABYTE)
    assert len(packed) < 300_000
    for coding in (b"gzip", b"br", b"zstd", b"deflate"):
        head = b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding, len(packed))
        yield b"whole", closing(JSON + head + packed), 20
        yield b"streamed", closing(EVENTS + head + packed), 20
        yield b"whole", flooding(JSON + b"content-encoding: %b\r\n\r\n" % coding, packed[:65_536], 200 * MEGABYTE), 20
    yield b"streamed", flooding(EVENTS + b"\r\n" + START, PING, 200 * MEGABYTE), 40
    yield b"streamed", flooding(EVENTS + b"\r\n" + START + b"data: ", b"a" * 65_536, 200 * MEGABYTE), 80
    yield b"whole", flooding(JSON + b"\r\n" + TEXT, b"a" * 65_536, 200 * MEGABYTE), 200


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak memory from /proc")
async def test_no_body_however_large_takes_more_memory_than_its_bound(tmp_path: Path) -> None:
    """U5, with the real numbers."""
    playing: Part = well

    async def part(talk: Talk) -> None:
        await playing(talk)

    async with upstream(messages(part)) as a0:
        store(settings(tmp_path), [("anthropic", "key-of-a0-sk-fake", {"label": "a0", "base_url": a0.url("")})])

        def ask(url: str, streams: bool) -> httpx.Response:
            return httpx.post(
                f"{url}/v1/messages", json=message(stream=streams), headers={"x-api-key": KEY}, timeout=60
            )

        opened = served(tmp_path)
        running = await asyncio.to_thread(opened.__enter__)
        try:
            for streams in (False, True):
                assert (await asyncio.to_thread(ask, running.url, streams)).status_code == 200
            before = peak(running.process.pid)
            for kind, playing, more in big_ones():  # noqa: B007 - `part` plays it
                reply = await asyncio.to_thread(ask, running.url, kind == b"streamed")
                assert is_told(reply, 502), reply.text
                grown = (peak(running.process.pid) - before) / MEGABYTE
                assert grown < more, f"{grown:.0f} MB more for a {kind.decode()} answer"
            playing = well
            reply = await asyncio.to_thread(ask, running.url, False)
            assert reply.json() == said_message(), "and it serves on"
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


async def test_a_refusal_whose_document_never_ends_is_read_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U5."""
    monkeypatch.setattr(answer_room, "REFUSAL_SECONDS", 0.2)
    head = refusal(529, "overloaded_error").partition(b"content-length")[0] + b"\r\n"

    async def drip(talk: Talk) -> None:
        await talk.say(head)
        while True:
            await talk.say(b" ")
            await asyncio.sleep(0.02)

    for number, part in enumerate((drip, flooding(head, b" " * 65_536, 200 * MEGABYTE))):
        async with upstream(messages(part)) as a0, in_front_of(tmp_path / f"{number}", a0) as proxy:
            assert is_told(await proxy.ask(), 529)
            await until(lambda there=a0: there.open == 0, 1.0)
            assert a0.said < IN_THE_SOCKETS
