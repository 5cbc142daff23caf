"""C1 to C7: the client leaves, or crawls.

Whoever has left is not served: the upstream is closed within a second, the account is free and not blamed. Whoever
crawls has deadlines: one for a body, one for a write.

C4 is about a sign-in that is renewed while its client leaves; there is no renewal yet (a key is its own token), so
there is nothing to test. It comes with the first provider that renews.

The edge alone, without gateway and upstream, is in `tests/mcp_proxy/server/test_stream.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from mcp_proxy.gateway import asking
from tests.e2e.harness import Proxy, in_front_of, nothing_is_held, post
from tests.faults import speech
from tests.faults.line import Line, until
from tests.faults.upstream import Play, Talk, by_path, saying, silent, upstream

WELL = speech.answer(speech.message())
REFUSED = speech.refusal(529, "overloaded_error", "busy")
SOON = speech.refusal(429, "rate_limit_error", "slow down", "retry-after: 1")

LEAVING: dict[str, Callable[[Line], None]] = {
    "fin": lambda line: line.close(),
    "reset": lambda line: line.close(reset=True),
    "half-close": lambda line: line.half_close(),
}


def answers(*plays: Play) -> Play:
    """The first messages are answered so, one after the other; every further one well."""
    left = list(plays)

    async def next_one(talk: Talk) -> None:
        await (left.pop(0) if left else saying(WELL))(talk)

    return by_path({"/v1/messages": next_one})


def then_silence(*said: bytes) -> Play:
    async def play(talk: Talk) -> None:
        for piece in said:
            await talk.say(piece)
        await silent(talk)

    return play


@contextlib.asynccontextmanager
async def noticing() -> AsyncIterator[list[object]]:
    """What the event loop complains of."""
    loop, troubles = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    yield troubles
    loop.set_exception_handler(None)


def nobody_is_blamed(proxy: Proxy) -> bool:
    return all(
        not seat.breaker.failures and not seat.address.failures and not seat.closed for seat in proxy.gateway.pool.seats
    )


WHOLE = json.dumps(speech.message("a long answer" * 50)).encode()
HALF_MESSAGE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE) + WHOLE[:99]
)
BEGUN = speech.EVENT_STREAM + speech.chunk(speech.START)
TALKING = BEGUN + speech.chunk(speech.BLOCK) + speech.chunk(speech.delta("hel"))
MOMENTS: dict[str, tuple[tuple[bytes, ...], bool, bytes]] = {
    "before the head": ((), True, b""),
    "before the head of a whole message": ((), False, b""),
    "before the first content": ((BEGUN,), True, b""),
    "in the middle of a whole message": ((HALF_MESSAGE,), False, b""),
    "in the middle of a stream": ((TALKING,), True, b"hel"),
    "behind the first whole block": ((TALKING + speech.chunk(speech.BLOCK_END),), True, b"content_block_stop"),
}
"""What the upstream has said before it falls silent, whether a stream was asked for, and what the client has seen."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_who_leaves_closes_the_upstream_within_a_second_and_blames_nobody(tmp_path: Path, moment: str) -> None:
    """C1, C2, C5: whichever way it leaves; the account then serves the next one at the first attempt."""
    said, streamed, seen = MOMENTS[moment]
    async with upstream(answers(*[then_silence(*said)] * len(LEAVING))) as up, in_front_of(tmp_path, up) as proxy:
        async with noticing() as troubles:
            for number, leave in enumerate(LEAVING.values(), 1):
                line = await Line(proxy.port).open()
                await line.send(post(streamed))
                await until(lambda number=number: len(up.asked()) == number)
                await line.see(seen)
                leave(line)
                await until(lambda number=number: len(up.left_after) == number, 1.0)
                await until(lambda: nothing_is_held(proxy), 1.0)
                line.close()
                assert nobody_is_blamed(proxy)
                assert proxy.gateway.recent[-1].outcome == "client_gone"
        answer = await proxy.ask()
        assert (answer.status_code, answer.headers["x-proxy-attempts"]) == (200, "1")
    assert troubles == []


async def test_who_has_asked_for_more_at_once_and_leaves_is_noticed_too(tmp_path: Path) -> None:
    """C2: requests that wait behind a running answer hide nobody's leaving, and are not served any more."""
    for waiting in (1, 5):
        for leave in LEAVING.values():
            async with upstream(answers(then_silence(TALKING))) as up:
                async with in_front_of(tmp_path / f"{waiting}{id(leave)}", up) as proxy:
                    line = await Line(proxy.port).open()
                    await line.send(post())
                    await line.see(b"hel")
                    await line.send(post() * waiting)
                    await asyncio.sleep(0.02)  # so that they have come
                    leave(line)
                    await until(lambda up=up: len(up.left_after) == 1, 1.0)
                    await until(lambda proxy=proxy: nothing_is_held(proxy), 1.0)
                    line.close()
                    assert len(up.asked()) == 1


# C3: between two attempts


async def is_over(proxy: Proxy, outcome: str = "client_gone") -> None:
    """The one request has ended so, and there is nothing left that could go on with it."""
    await until(lambda: proxy.gateway.recent and proxy.gateway.recent[-1].outcome == outcome, 1.0)
    await until(lambda: nothing_is_held(proxy), 1.0)


async def test_who_leaves_while_one_account_is_asked_is_not_served_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: a silent one, and one whose refusal does not end."""
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.2)
    endless = REFUSED[:-1]
    async with upstream(answers(then_silence(), then_silence(endless))) as first, upstream(answers()) as second:
        async with in_front_of(tmp_path, first, second) as proxy:
            for number in (1, 2):
                line = await Line(proxy.port).open()
                await line.send(post())
                await until(lambda number=number: len(first.asked()) == number)
                line.close()
                await until(lambda number=number: len(first.left_after) == number, 1.0)
                await is_over(proxy)
                assert second.asked() == [] and nobody_is_blamed(proxy)


async def test_who_stays_is_served_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3, without the fault."""
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.2)
    async with upstream(answers(then_silence())) as first, upstream(answers(saying(speech.streamed()))) as second:
        async with in_front_of(tmp_path, first, second) as proxy:
            line = await Line(proxy.port).open()
            await line.send(post())
            reply = await line.reply()
            assert (reply.status, reply.headers["x-proxy-attempts"], reply.complete) == (200, "2", True)
            assert reply.body == b"".join(speech.stream())
            assert (len(first.asked()), len(second.asked())) == (1, 1)
            line.close()


async def test_who_leaves_while_waiting_for_a_reset_is_asked_for_nowhere(tmp_path: Path) -> None:
    """C3: three wait, two of them leave; after the reset the upstream hears of the third alone."""
    async with upstream(answers(saying(SOON))) as up, in_front_of(tmp_path, up) as proxy:
        lines = [await Line(proxy.port).open() for _ in range(3)]
        for line in lines:
            await line.send(post(stream=False))
            await until(lambda: proxy.gateway.pool.seats[0].closed)
        await until(lambda: len(proxy.gateway.recent) == 3)
        for line in lines[1:]:
            line.close()
        await until(lambda: len(proxy.server._edge.visits) == 1, 0.5)
        assert len(up.asked()) == 1, "all of this was before the reset"
        reply = await lines[0].reply()
        assert (reply.status, reply.headers["x-proxy-reason"]) == (200, "waited")
        await until(lambda: nothing_is_held(proxy))
        assert [each.outcome for each in proxy.gateway.recent] == ["ok", "client_gone", "client_gone"]
        assert len(up.asked()) == 2
        lines[0].close()


# C5: half-closed


HALF_CLOSED: dict[str, bytes] = {
    "nothing": b"",
    "half a head": b"POST /v1/messages HTTP/1.1\r\nhost: loc",
    "half a body": post()[:-9],
    "half a chunk": post().partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\nff\r\n{",
    "a request": post(),
    "two requests": post() * 2,
    "a request and a half": post() + post()[:50],
}


@pytest.mark.parametrize("stream", [True, False])
async def test_to_close_half_is_to_leave(tmp_path: Path, capfd: pytest.CaptureFixture[str], stream: bool) -> None:
    """C5: at whatever point, without an answer, a traceback, or anything left open."""
    async with upstream(by_path({"/v1/messages": silent})) as up, in_front_of(tmp_path, up) as proxy:
        async with noticing() as troubles:
            for about, data in HALF_CLOSED.items():
                line = await Line(proxy.port).open()
                await line.send(data if stream else data.replace(b'"stream": true', b'"stream":false'))
                line.half_close()
                assert await line.rest() == b"", about
                line.close()
                await until(lambda: nothing_is_held(proxy), 1.0)
            kept = await Line(proxy.port).open()
            await kept.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await kept.reply()).status == 200
            kept.half_close()
            assert await kept.rest() == b""
            kept.close()
        assert nobody_is_blamed(proxy) and troubles == []
        await until(
            lambda: not proxy.server.server_state.connections or len(proxy.server.server_state.connections) <= 1
        )
    assert "Traceback" not in capfd.readouterr().err


# C6: a body that does not end


@contextlib.contextmanager
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the program says, one entry a line, at the level it is run with."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    try:
        with structlog.testing.capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=before)


async def test_a_body_that_stops_or_crawls_is_ended_at_its_deadline(tmp_path: Path) -> None:
    """C6: 408, the connection closed, nobody asked; a slow body that ends in time is as good as any."""
    loop = asyncio.get_running_loop()
    async with upstream(answers()) as up, in_front_of(tmp_path, up, environ={"READ_TIMEOUT_SEC": "1"}) as proxy:
        stopped, crawling, chunked, slow = [await Line(proxy.port).open() for _ in range(4)]
        whole = post(stream=False)
        begun = loop.time()
        await stopped.send(whole[:-9])
        await chunked.send(whole.partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n")
        await crawling.send(whole[:-90])
        crawl = loop.create_task(crawls(crawling, whole[-90:]))
        await slow.send(whole[:-9])
        await asyncio.sleep(0.5)
        assert (await proxy.ask()).status_code == 200
        await slow.send(whole[-9:])
        assert (await slow.reply()).status == 200
        for line in (stopped, crawling, chunked):
            reply = await line.reply()
            told = json.loads(reply.body)
            assert (reply.status, told["error"]["type"], reply.headers["connection"]) == (408, "timeout_error", "close")
            assert told["request_id"] == reply.headers["request-id"]
            assert await line.rest() == b""
        assert 0.9 < loop.time() - begun < 2.5
        await crawl
        assert len(up.asked()) == 2
        for line in (stopped, crawling, chunked, slow):
            line.close()
        await until(lambda: nothing_is_held(proxy), 1.0)


async def crawls(line: Line, data: bytes) -> None:
    """One byte after the other, too slowly; until it is cut off."""
    with contextlib.suppress(OSError):
        for byte in data:
            await line.send(bytes([byte]))
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_body_has_thirty_seconds(tmp_path: Path) -> None:
    """C6, with the real number."""
    loop = asyncio.get_running_loop()
    async with upstream(answers()) as up, in_front_of(tmp_path, up) as proxy:
        line = await Line(proxy.port).open()
        await line.send(post()[:-9])
        begun = loop.time()
        assert (await line.reply(seconds=40)).status == 408 and 29 < loop.time() - begun < 33
        assert up.asked() == []
        line.close()


# C7: an answer that is not taken


def flood(ended: asyncio.Event) -> Play:
    """An answer of 200 MB, as fast as it is taken."""
    piece = speech.chunk(speech.delta("x" * 60_000))

    async def play(talk: Talk) -> None:
        try:
            await talk.say(TALKING)
            for _ in range(200_000_000 // len(piece)):
                await talk.say(piece)
        finally:
            ended.set()

    return play


HELD_BY_THE_WAY = 30_000_000
"""Bytes that the sockets between an upstream and its client may hold, by far."""


async def test_who_reads_a_byte_now_and_then_and_then_nothing_is_cut_at_the_write_deadline(tmp_path: Path) -> None:
    """C7: with one line of warning; the upstream is held back meanwhile, then closed, and nobody is blamed."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    async with upstream(answers(flood(ended))) as up:
        async with in_front_of(tmp_path, up, environ={"WRITE_TIMEOUT_SEC": "1"}) as proxy:
            with logged() as lines:
                line = await Line(proxy.port).open(small=True)
                await line.send(post())
                begun = loop.time()
                for _ in range(5):
                    assert len(await loop.sock_recv(line.socket, 1)) == 1
                    await asyncio.sleep(0.05)
                await until(ended.is_set, 4.0)
                assert 0.9 < loop.time() - begun < 3
                await until(lambda: nothing_is_held(proxy), 1.0)
                assert not (await line.rest()).endswith(speech.LAST_CHUNK), "what was cut looks cut"
                line.close()
                assert up.said < HELD_BY_THE_WAY, "the upstream was held back"
                assert nobody_is_blamed(proxy)
                assert (await proxy.ask()).status_code == 200
            told = [(each["log_level"], each["event"]) for each in lines]
            assert told == [("warning", "client reads nothing, cut"), ("info", "request"), ("info", "request")]


async def test_who_does_not_take_the_end_of_a_finished_answer_is_cut_too(tmp_path: Path) -> None:
    """C7: the last bytes wait below the mark at which a write is blocked, and a polite close waits for them."""
    said, deadlines = deque[bytes](), {"WRITE_TIMEOUT_SEC": "0.5", "IDLE_TIMEOUT_SEC": "1"}

    async def part(talk: Talk) -> None:
        await talk.say(said.popleft() if said else WELL)

    async with upstream(by_path({"/v1/messages": part})) as up:
        async with in_front_of(tmp_path, up, environ=deadlines) as proxy:
            connections, left = proxy.server.server_state.connections, list[int]()
            size = 100_000
            while not left:  # how much the sockets hold differs from system to system
                size += 30_000
                said.append(speech.answer(speech.message("x" * size)))
                line = await Line(proxy.port).open(small=True)
                await line.send(post(stream=False))
                await until(lambda: proxy.gateway.recent and nothing_is_held(proxy))
                left = [each.transport.get_write_buffer_size() for each in connections if _unread(each)]
                if left:
                    await until(lambda: not any(map(_unread, connections)), 2.0)
                    assert not (await line.rest()).endswith(b"}"), "what was cut looks cut"
                line.close()
            assert nobody_is_blamed(proxy)
            assert (await proxy.ask()).status_code == 200


def _unread(connection: Any) -> bool:
    return connection.transport.get_write_buffer_size() > 0


async def test_who_reads_slowly_gets_all_of_it(tmp_path: Path) -> None:
    """C7, without the fault: slower than the upstream, for longer than the deadline, but never still for as long."""
    loop, texts = asyncio.get_running_loop(), ["x" * 60_000] * 300
    async with upstream(answers(saying(speech.streamed(texts)))) as up:
        async with in_front_of(tmp_path, up, environ={"WRITE_TIMEOUT_SEC": "1"}) as proxy:
            line = await Line(proxy.port).open()
            await line.send(post())
            begun, slowly = loop.time(), bytearray()
            while loop.time() - begun < 1.5:
                slowly += await loop.sock_recv(line.socket, 1 << 17)
                await asyncio.sleep(0.05)
            assert len(slowly) < 10_000_000, "it was taken slowly"
            line.put_back(bytes(slowly))
            reply = await line.reply(seconds=10)
            assert reply.complete and reply.body == b"".join(speech.stream(texts))
            line.close()
