"""U1, U2, U3, U11, U12, U15: the upstream is silent, drips, or ends too early.

What was cut looks cut, nobody is asked twice for what may have had an effect, and the client never waits for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.gateway import answer as answer_room
from mcp_proxy.gateway import asking, gateway
from tests.e2e.harness import KEY, Proxy, in_front_of
from tests.e2e.harness import message as ask
from tests.faults.answers import NO_MODELS, STREAM, asked_of, is_told, is_whole, messages, sound, well
from tests.faults.line import Line, Reply, until
from tests.faults.speech import (
    BLOCK,
    BLOCK_END,
    EVENT_STREAM,
    LAST_CHUNK,
    START,
    STOP,
    answer,
    chunk,
    delta,
    event,
    message,
    stream,
)
from tests.faults.upstream import Talk, by_path, saying, silent, upstream

Part = Callable[[Talk], Awaitable[None]]
SECOND = {"x-stainless-timeout": "6"}
"""The client waits six seconds, so that we have one."""


async def gone(talk: Talk) -> None:
    """Takes the request, and is gone without a byte."""
    talk.writer.close()


async def reset(talk: Talk) -> None:
    talk.reset()


async def raw(proxy: Proxy, **fields: Any) -> Reply:
    """Ask on a bare line, so that what is cut can be told from what is whole."""
    line = await Line(proxy.port).open()
    try:
        await line.send(request(**fields))
        return await line.reply()
    finally:
        line.close()


def request(**fields: Any) -> bytes:
    body = json.dumps(ask(**fields)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def all_is_told(reply: Reply, sent: bytes) -> None:
    """What was sent has come, whole frames of it; that it is not all is told, and never by a made-up end."""
    assert reply.status == 200 and b"message_stop" not in reply.body and b"end_turn" not in reply.body
    came, error, told = reply.body.partition(b"event: error\ndata: ")
    assert came == sent
    if BLOCK_END in came:
        assert reply.complete and json.loads(told)["error"]["type"] == "api_error"
        assert json.loads(told)["request_id"] == reply.headers["request-id"]
    else:
        assert not reply.complete and not error


# silence


async def test_a_silent_upstream_costs_no_more_than_the_clients_own_time(tmp_path: Path) -> None:
    """U1."""
    async with upstream(messages(silent)) as a0, in_front_of(tmp_path, a0) as proxy:
        begun = asyncio.get_running_loop().time()
        ways = (proxy.ask(stream=streams, headers=SECOND) for streams in (True, False))
        for reply in await asyncio.gather(*ways):
            assert is_told(reply, 504)
        assert asyncio.get_running_loop().time() - begun < 3
        await until(lambda: len(a0.left_after) == 2 and a0.open == 0, 1.0)
        assert len(a0.asked()) == 2
        assert proxy.gateway.pool.seats[0].closed == {}, "silence is no limit"


async def test_of_two_silent_ones_both_are_asked_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U1."""
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(gateway, "BUDGET_SECONDS", 0.4)
    async with upstream(messages(silent)) as a0, upstream(messages(silent)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            begun = asyncio.get_running_loop().time()
            reply = await proxy.ask(stream=True)
            assert is_told(reply, 504) and reply.headers["x-proxy-attempts"] == "2"
            assert asyncio.get_running_loop().time() - begun < 3
            assert (len(a0.asked()), len(a1.asked())) == (1, 1)
            await until(lambda: len(a0.left_after) == len(a1.left_after) == 1, 1.0)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_real_head_deadline_leaves_a_silent_upstream_for_the_next(tmp_path: Path) -> None:
    """U1, with the real number."""
    async with upstream(messages(silent)) as a0, upstream(messages(well)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            exchange_seconds = asking.HEAD_SECONDS
            assert exchange_seconds <= 100
            loop = asyncio.get_running_loop()
            begun = loop.time()
            reply = await proxy.client.post("/v1/messages", json=ask(stream=True), timeout=exchange_seconds + 20)
            assert is_whole(reply, streams=True)
            assert exchange_seconds - 1 < loop.time() - begun < exchange_seconds + 5


# drips


def dripping(before: bytes, drop: bytes, every: float = 0.02) -> Part:
    """Says this, and then a drop now and then, for ever."""

    async def part(talk: Talk) -> None:
        await talk.say(before)
        while True:
            await asyncio.sleep(every)
            await talk.say(drop)

    return part


DRIPS = {
    "a head": dripping(b"HTTP/1.1 200 OK\r\nx-odd: ", b"a"),
    "fields of a head": dripping(b"HTTP/1.1 200 OK\r\n", b"x-odd: a\r\n", 0.1),
    "a body": dripping(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b" "),
    "comments": dripping(EVENT_STREAM, chunk(b":\n\n")),
    "pings": dripping(EVENT_STREAM + chunk(START), chunk(event("ping"))),
    "a frame": dripping(EVENT_STREAM + chunk(START + b"event: content_block_start\ndata: "), chunk(b" ")),
}


async def test_an_answer_that_drips_and_never_begins_ends_with_the_requests_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U2."""
    monkeypatch.setattr(gateway, "BUDGET_SECONDS", 2.0)

    async def part(talk: Talk) -> None:
        await DRIPS[asked_of(talk)["messages"][0]["content"]](talk)

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        begun = asyncio.get_running_loop().time()
        ways = [(drip, streams) for drip in DRIPS for streams in (True, False)]
        replies = await asyncio.gather(*(proxy.ask(drip, stream=streams) for drip, streams in ways))
        assert [way for way, reply in zip(ways, replies, strict=True) if not is_told(reply, 504)] == []
        assert asyncio.get_running_loop().time() - begun < 10
        assert len(a0.asked()) == len(ways)
        await until(lambda: a0.open == 0, 1.0)


@pytest.mark.parametrize(
    ("deadline", "drop"),
    [("FRAME_SECONDS", b"a"), ("STREAM_SECONDS", b":\n\n"), ("STREAM_SECONDS", event("ping"))],
    ids=["a frame that is never whole", "comments", "pings"],
)
async def test_a_stream_that_drips_for_ever_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: str, drop: bytes
) -> None:
    """U2."""
    monkeypatch.setattr(answer_room, deadline, 0.3)
    begun = START + BLOCK + delta("hel")
    async with upstream(messages(dripping(EVENT_STREAM + chunk(begun), chunk(drop)))) as a0:
        async with in_front_of(tmp_path, a0) as proxy:
            reply = await raw(proxy, stream=True)
            reply.body = reply.body.replace(drop, b"") if drop.endswith(b"\n\n") else reply.body
            all_is_told(reply, begun)
            await until(lambda: a0.open == 0, 1.0)


async def test_a_slow_stream_is_left_in_peace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U2, the twin: each frame in its time, the whole longer than any one may take."""
    monkeypatch.setattr(answer_room, "FRAME_SECONDS", 0.3)

    async def slow(talk: Talk) -> None:
        await talk.say(EVENT_STREAM)
        for frame in stream("hello"):
            await asyncio.sleep(0.06)
            await talk.say(chunk(frame))
        await talk.say(LAST_CHUNK)

    async with upstream(messages(slow)) as a0, in_front_of(tmp_path, a0) as proxy:
        reply = await raw(proxy, stream=True)
        assert reply.complete and reply.body == b"".join(stream("hello"))


@pytest.mark.parametrize("drop", [b"", b":\n\n", b"a", event("ping")], ids=["silence", "comments", "bytes", "pings"])
async def test_behind_its_last_event_nobody_waits_long_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop: bytes
) -> None:
    """U2."""
    monkeypatch.setattr(answer_room, "END_SECONDS", 0.2)

    async def part(talk: Talk) -> None:
        said = EVENT_STREAM + chunk(STREAM)
        await (dripping(said, chunk(drop)) if drop else cutting(said, silent))(talk)

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        reply = await raw(proxy, stream=True)
        assert reply.complete and reply.body.startswith(STREAM)
        await until(lambda: a0.open == 0, 1.0)


# cuts


def cutting(said: bytes, then: Part) -> Part:
    async def part(talk: Talk) -> None:
        await talk.say(said)
        await asyncio.sleep(0.03)  # so that it has arrived: a reset may take back what nobody has read yet
        await then(talk)

    return part


def places() -> list[int]:
    """Every end of a frame behind the first content, and somewhere within each."""
    found, at = [], len(START + BLOCK)
    for frame in stream()[2:]:
        found += [at, at + len(frame) // 2]
        at += len(frame)
    return [*found, len(STREAM) - 1]


@pytest.mark.parametrize("end", [gone, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.usefixtures("unbroken")
async def test_a_stream_may_be_cut_anywhere_and_is_never_taken_for_whole(
    tmp_path: Path, end: Part, framing: str
) -> None:
    """U3."""
    cut = 0

    async def part(talk: Talk) -> None:
        said = STREAM[:cut]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(STREAM)
        await cutting(EVENT_STREAM + chunk(said) if framing == "chunked" else head + said, end)(talk)

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        for number, cut in enumerate(places()):
            reply = await raw(proxy, stream=True)
            frames = STREAM[:cut].rpartition(b"\n\n")
            sent = frames[0] + frames[1]
            if b"end_turn" in sent:
                assert b"message_stop" not in reply.body and b"event: error" in reply.body and reply.complete
            else:
                all_is_told(reply, sent)
            assert len(a0.asked()) == number + 1, f"cut at {cut}: asked again"
            assert proxy.gateway.pool.seats[0].breaker.failures, f"cut at {cut}: it counts against its seat"


async def test_a_whole_stream_is_whole_however_it_is_framed(tmp_path: Path) -> None:
    """U3, the twin."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    ways = iter((
        EVENT_STREAM + b"".join(chunk(STREAM[at : at + 1]) for at in range(len(STREAM))) + LAST_CHUNK,
        head + b"content-length: %d\r\n\r\n" % len(STREAM) + STREAM,
        head + b"connection: close\r\n\r\n" + STREAM,
        EVENT_STREAM + chunk(STREAM) + b"0\r\nx-trailer: a\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nlink: <a>\r\n\r\n" + EVENT_STREAM + chunk(STREAM) + LAST_CHUNK,
        EVENT_STREAM + chunk(STREAM),  # all of it came but the end of its framing
    ))  # fmt: skip

    async def part(talk: Talk) -> None:
        await talk.say(next(ways))
        talk.writer.close()

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        for _ in range(6):
            reply = await raw(proxy, stream=True)
            assert reply.complete and reply.body == STREAM
        assert len(a0.asked()) == 6


ODD = (
    b": a comment\n\n" + STREAM.replace(b"hel", "h\u2028\u0085l".encode()),
    STREAM.replace(b"\n", b"\r\n"),
    STREAM.replace(b"\n", b"\r"),
    b"\xef\xbb\xbf" + STREAM.replace(b"hel", b"h\xff\xfe\xc3l"),
    b"\n\n\n" + STREAM.replace(b"event: content_block_stop", b"id: 1\nretry: 5\nunknown\nevent:content_block_stop"),
    STREAM.replace(b'"type": "text_delta"', b'"type":\ndata: "text_delta"'),
    STREAM.replace(b"event: message_delta", b"event:\n\ndata\n\nevent: message_delta"),
)


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_stream_that_is_written_oddly_passes_as_it_is(tmp_path: Path, size: int) -> None:
    """U7, through the whole proxy."""
    ways = iter(ODD)

    async def part(talk: Talk) -> None:
        said = next(ways)
        pieces = [chunk(said[at : at + size]) for at in range(0, len(said), size)]
        await talk.say(EVENT_STREAM + b"".join(pieces) + LAST_CHUNK)

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        for wanted in ODD:
            reply = await raw(proxy, stream=True)
            assert reply.complete and reply.body == wanted


# what may have had an effect


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("end", [gone, reset], ids=["closed", "reset"])
async def test_one_that_dies_over_a_request_is_asked_once_and_then_the_next(
    tmp_path: Path, end: Part, streams: bool
) -> None:
    """U11."""
    async with upstream(messages(end)) as a0, upstream(messages(well)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            reply = await proxy.ask(stream=streams)
            assert is_whole(reply, streams=streams)
            assert (len(a0.asked()), len(a1.asked())) == (1, 1)
            assert reply.headers["x-proxy-attempts"] == "2"
    async with upstream(messages(end)) as a0, in_front_of(tmp_path / "alone", a0) as proxy:
        assert is_told(await proxy.ask(stream=streams), 502)
        assert len(a0.asked()) == 1


async def test_one_that_dies_over_a_request_on_a_kept_connection_is_asked_once_more_at_most(tmp_path: Path) -> None:
    """U11: it may be that the connection had been closed before the request came."""
    alive = True

    async def part(talk: Talk) -> None:
        if alive:
            await talk.say(answer(message()))
        else:
            talk.writer.close()

    async with upstream(by_path({"/v1/messages": part})) as a0, upstream(messages(well)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            assert is_whole(await proxy.ask(), streams=False)
            assert (len(a0.asked()), len(a1.asked())) == (1, 0)
            alive = False
            assert is_whole(await proxy.ask(), streams=False)
            assert len(a0.asked()) - 1 <= 2 and len(a1.asked()) == 1


async def test_after_the_first_event_nobody_else_is_asked(tmp_path: Path) -> None:
    """U11."""
    said = EVENT_STREAM + chunk(START + BLOCK)
    async with upstream(messages(cutting(said, gone))) as a0, upstream(messages(well)) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            all_is_told(await raw(proxy, stream=True), START + BLOCK)
            assert (len(a0.asked()), len(a1.asked())) == (1, 0)


# connections that are kept


async def closing_later(talk: Talk) -> None:
    """Answers, and closes while the connection is idle."""
    await well_kept(talk)
    await asyncio.sleep(0.01)
    talk.writer.close()


async def resetting_later(talk: Talk) -> None:
    await well_kept(talk)
    await asyncio.sleep(0.01)
    talk.reset()


async def once(talk: Talk) -> None:
    """Any other answer: a connection that is not kept."""
    await talk.say(NO_MODELS)
    talk.writer.close()


async def well_kept(talk: Talk) -> None:
    await talk.say(answer(message()))


@pytest.mark.parametrize("end", [closing_later, resetting_later], ids=["closed", "reset"])
async def test_a_connection_that_was_closed_while_idle_is_nobodys_trouble(tmp_path: Path, end: Part) -> None:
    """U12."""
    async with upstream(by_path({"/v1/messages": end}, once)) as a0, in_front_of(tmp_path, a0) as proxy:
        for number in range(20):
            reply = await proxy.ask()
            assert is_whole(reply, streams=False) and reply.headers["x-proxy-attempts"] == "1", number
            await until(lambda: a0.open == 0)
        assert len(a0.asked()) == 20


async def test_a_connection_that_closes_as_the_next_request_comes_is_nobodys_trouble(tmp_path: Path) -> None:
    """U12: the race that no look at the socket can win."""
    answered = set[int]()

    async def part(talk: Talk) -> None:
        if talk.number in answered:
            talk.writer.close()
        else:
            answered.add(talk.number)
            await well_kept(talk)

    async with upstream(by_path({"/v1/messages": part}, once)) as a0, in_front_of(tmp_path, a0) as proxy:
        for number in range(20):
            reply = await proxy.ask()
            assert is_whole(reply, streams=False) and reply.headers["x-proxy-attempts"] == "1", number
        assert len(a0.asked()) > 20, "it did close under some of them"


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
async def test_a_connection_that_stays_is_used_again(tmp_path: Path, streams: bool) -> None:
    """U12, the twin."""
    said = sound(streams=streams)
    part = saying(said[:-5], said[-5:], pause=0.005)  # the end of the body comes by itself
    async with upstream(by_path({"/v1/messages": part})) as a0, in_front_of(tmp_path, a0) as proxy:
        for _ in range(20):
            assert is_whole(await proxy.ask(stream=streams), streams=streams)
        assert a0.connections <= 2 and len(a0.asked()) == 20


# many at once


async def test_one_of_fifty_streams_leaves_and_the_others_notice_nothing(tmp_path: Path) -> None:
    """U15."""
    go, begun, closed = asyncio.Event(), [], []

    async def part(talk: Talk) -> None:
        number = asked_of(talk)["messages"][0]["content"]
        await talk.say(EVENT_STREAM + chunk(START + BLOCK + delta(f"begun {number}")))
        begun.append(number)
        if number == "49":
            await talk.left()
            closed.append(number)
            return
        await go.wait()
        await talk.say(chunk(delta(f"ended {number}") + BLOCK_END + STOP) + LAST_CHUNK)

    async def one(proxy: Proxy, number: int) -> bytes:
        reply = await raw(proxy, text=str(number), stream=True)
        return reply.body if reply.complete else b"cut"

    async with upstream(messages(part)) as a0, in_front_of(tmp_path, a0) as proxy:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(one(proxy, number)) for number in range(49)]
        leaves = await Line(proxy.port).open()
        await leaves.send(request(text="49", stream=True))
        await until(lambda: len(begun) == 50)
        await leaves.see(b"begun 49")
        leaves.close()
        await until(lambda: proxy.gateway.pool.seats[0].in_flight == 49, 1.0)
        await until(lambda: len(closed) == 1, 1.0)
        go.set()
        for number, body in enumerate(await asyncio.gather(*tasks)):
            assert body == b"".join(stream((f"begun {number}", f"ended {number}")))
        assert all(heard.split(b"\r\n")[0].endswith(b" HTTP/1.1") for heard in a0.heard)
