"""Heads that are too large, too slow or ambiguous, and the ordinary ones beside them."""

from __future__ import annotations

import asyncio
import json

import pytest

from mcp_proxy.server import guard
from tests.faults.line import until
from tests.mcp_proxy.server.wires import Served, served

HOST = b"host: localhost\r\n"
GET = b"GET /echo HTTP/1.1\r\n" + HOST


def post(body: bytes) -> bytes:
    return b"POST /echo HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (HOST, len(body), body)


REFUSED: list[tuple[str, bytes, int]] = [
    ("one field of 40 kB", GET + b"x: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    ("many fields of 40 kB together", GET + b"x: %b\r\n" % (b"a" * 500) * 80 + b"\r\n", 431),
    ("a head of 40 kB that does not end", GET + b"x: " + b"a" * 40_000, 431),
    ("101 fields", GET + b"x: y\r\n" * 100 + b"\r\n", 431),
    ("200 fields", GET + b"x: y\r\n" * 199 + b"\r\n", 431),
    ("a URL of 9 kB", b"GET /echo?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("a URL of 16 kB that does not end", b"GET /echo?" + b"a" * 16_000, 414),
    ("no Host", b"GET /echo HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", GET + b"Host: evil\r\n\r\n", 400),
    ("two equal Hosts", GET + HOST + b"\r\n", 400),
    ("HTTP/0.9", b"GET /echo\r\n\r\n", 400),
    ("HTTP/2.0", b"GET /echo HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    ("HTTP/1.2", b"GET /echo HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    ("two lengths", GET + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
    ("a length and chunks", GET + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunks and a length", GET + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
    ("a length with a sign", GET + b"content-length: +3\r\n\r\nabc", 400),
    ("an unknown coding", GET + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("two codings", GET + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("a space before the colon", GET + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("a field that goes on in the next line", GET + b"x: a\r\n b\r\n\r\n", 400),
    ("a NUL in a value", GET + b"x: a\x00b\r\n\r\n", 400),
    ("not HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 400),
]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
async def test_a_head_that_is_too_large_or_ambiguous_is_refused_in_our_shape_and_reaches_nobody() -> None:
    async with served() as server:
        for about, head, status in REFUSED:
            line = await server.line()
            await line.send(head)
            reply = await line.reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close"), about
            assert json.loads(reply.body)["error"]["type"] == "invalid_request_error", about
            assert await line.rest() == b"", about
        assert server.stage.begun == []
        await until(lambda: server.connections == 0)


async def test_a_megabyte_of_head_is_cut_off_early() -> None:
    async with served() as server:
        line = await server.line()
        sent = 0
        try:
            await line.send(GET + b"x: ")
            for _ in range(256):
                await line.send(b"a" * 4096)
                sent += 4096
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        answer = await line.rest()
        assert answer == b"" or b" 431 " in answer
        await until(lambda: server.connections == 0)


ACCEPTED: list[tuple[str, bytes]] = [
    ("100 fields", GET + b"x: y\r\n" * 99 + b"\r\n"),
    ("30 kB of head", GET + b"x: " + b"a" * 30_000 + b"\r\n\r\n"),
    ("a URL of 8 kB", b"GET /echo?" + b"a" * 8000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("HTTP/1.0 without Host", b"GET /echo HTTP/1.0\r\n\r\n"),
    ("chunks", b"POST /echo HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("blank lines before", b"\r\n\r\n" + GET + b"\r\n"),
]


@pytest.mark.parametrize(("about", "head"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
async def test_what_is_just_small_enough_passes(about: str, head: bytes) -> None:
    async with served() as server:
        line = await server.line()
        await line.send(head)
        assert (await line.reply()).status == 200


async def drip(server: Served, data: bytes, pause: float) -> bytes:
    """Send a byte now and then until we are cut off."""
    line = await server.line()
    got = asyncio.get_running_loop().create_task(line.rest())
    try:
        for byte in data:
            await line.send(bytes([byte]))
            await asyncio.sleep(pause)
            if got.done():
                break
    except ConnectionError:
        pass
    return await got


async def test_a_head_has_an_absolute_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.2)
    async with served() as server:
        begun = asyncio.get_running_loop().time()
        silent = await server.line()
        again = await server.line()
        await again.send(GET + b"\r\n")
        assert (await again.reply()).status == 200
        await again.send(b"GE")  # half of the next one
        ends = await asyncio.gather(
            silent.rest(), again.rest(), drip(server, GET + b"x" * 200, 0.02), drip(server, b"\r\n" * 200, 0.02)
        )
        assert ends == [b"", b"", b"", b""]
        assert 0.15 < asyncio.get_running_loop().time() - begun < 1.5
        assert len(server.stage.begun) == 1


async def test_a_slow_head_disturbs_nobody_and_a_long_answer_is_not_a_slow_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.15)
    async with served() as server:
        stream = await server.get("/stream")
        slow = [await server.line() for _ in range(50)]
        await asyncio.sleep(0.1)
        quick = await server.get("/echo")
        assert (await quick.reply()).status == 200
        assert await asyncio.gather(*(line.rest() for line in slow)) == [b""] * 50
        server.stage.go.set()
        reply = await stream.reply()
        assert reply.complete and reply.body.count(b"event:") == 2


@pytest.mark.usefixtures("patient")
async def test_a_connection_is_kept_and_requests_may_come_together() -> None:
    async with served() as server:
        line = await server.line()
        for number in range(3):
            await line.send(post(b"kept %d" % number))
            assert (await line.reply()).body == b"kept %d" % number
        await line.send(b"".join(post(b"piped %d" % number) for number in range(5)))
        assert [(await line.reply()).body for _ in range(5)] == [b"piped %d" % number for number in range(5)]
        assert len(server.lines) == 1


@pytest.mark.usefixtures("patient")
async def test_a_large_body_in_front_of_half_a_head_is_not_a_large_head() -> None:
    async with served() as server:
        line = await server.line()
        body = b"b" * 60_000
        await line.send(post(body) + GET)
        assert (await line.reply()).body == body
        await line.send(b"\r\n")
        assert (await line.reply()).status == 200


@pytest.mark.usefixtures("patient")
async def test_a_request_at_fault_behind_one_that_runs_ends_both_without_a_word_in_between() -> None:
    async with served() as server:
        line = await server.get("/stream")
        await line.see(b"event:")
        await line.send(b"not HTTP\r\n\r\n")
        assert b"invalid_request_error" not in await line.rest()
        assert await server.ended() == [("/stream", "cancelled")]


async def test_surplus_connections_are_reset_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_CONNECTIONS", 3)
    async with served() as server:
        kept = [await server.line() for _ in range(3)]
        await until(lambda: server.connections == 3)
        surplus = [await server.line() for _ in range(5)]
        assert await asyncio.gather(*(line.rest() for line in surplus)) == [b""] * 5
        await kept[0].send(GET + b"\r\n")
        assert (await kept[0].reply()).status == 200
        kept[1].close()
        await until(lambda: server.connections == 2)
        again = await server.line()
        await again.send(GET + b"\r\n")
        assert (await again.reply()).status == 200
