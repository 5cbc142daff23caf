"""A client's visit: its leaving, its silence, its slowness, and our going down."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from mcp_proxy.server import stream
from tests.faults.line import until
from tests.mcp_proxy.server.wires import FRAME, served

PING = b"event: ping\n"
MOMENTS = ["/hang", "/stream", "/text", "/flood", "/burst"]


@pytest.mark.parametrize("leaving", ["fin", "reset", "half-close"])
@pytest.mark.parametrize("path", MOMENTS)
async def test_a_client_that_leaves_ends_the_work_at_once(path: str, leaving: str) -> None:
    async with served() as server:
        line = await server.get(path, small=True)
        await server.begun()
        if path != "/hang":
            await line.see(b"\r\n\r\n")
        await asyncio.sleep(0.02)  # so that a flood is blocked in its write
        begun = asyncio.get_running_loop().time()
        if leaving == "half-close":
            line.half_close()
        else:
            line.close(reset=leaving == "reset")
        assert await server.ended() == [(path, "cancelled")]
        assert asyncio.get_running_loop().time() - begun < 0.5
        await until(lambda: not server.edge.visits)


async def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    async with served() as server:
        line = await server.line()
        await line.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf")
        await server.begun()
        line.close()
        await until(lambda: not server.edge.visits)
        assert server.stage.bodies == []
        await server.ended()


async def test_many_leave_at_random_moments_and_nothing_is_left() -> None:
    async with served() as server:
        for number in range(100):
            line = await server.get(MOMENTS[number % 4], small=True)
            await asyncio.sleep((number % 7) / 2000)
            line.close(reset=number % 2 == 0)
        await until(lambda: not server.edge.visits and server.connections == 0)
        assert len(server.stage.ended) == len(server.stage.begun)


async def test_a_request_id_is_on_every_answer_and_never_the_same() -> None:
    async with served() as server:
        line = await server.line()
        ids = set()
        for _ in range(3):
            await line.send(b"GET /echo HTTP/1.1\r\nhost: localhost\r\n\r\n")
            ids.add((await line.reply()).headers["request-id"])
        assert len(ids) == 3 and all(each.startswith("req_") for each in ids)


async def test_pings_fill_the_silence_of_an_event_stream_between_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    async with served() as server:
        line = await server.get("/stream")
        await line.see(PING)
        await asyncio.sleep(0.12)
        server.stage.go.set()
        reply = await line.reply()
        assert reply.complete and reply.headers["cache-control"] == "no-cache"
        frames = reply.body.split(b"\n\n")[:-1]
        pings = [frame for frame in frames if frame.startswith(PING)]
        assert frames[0] + b"\n\n" == frames[-1] + b"\n\n" == FRAME
        assert 2 <= len(pings) == len(frames) - 2
        assert await server.ended() == [("/stream", "done")]


@pytest.mark.parametrize(("path", "until_seen"), [("/text", b"once"), ("/hang", b"")])
async def test_no_ping_where_there_are_no_events_or_no_head(
    monkeypatch: pytest.MonkeyPatch, path: str, until_seen: bytes
) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.03)
    async with served() as server:
        line = await server.get(path)
        await line.see(until_seen)
        await asyncio.sleep(0.1)
        server.stage.go.set()
        assert PING not in (await line.reply()).body


async def test_no_ping_while_frames_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    async with served() as server:
        line = await server.get("/flood")
        seen = 0
        async with asyncio.timeout(3):
            while seen < 4_000_000:
                data = await line.more()
                assert PING not in data
                seen += len(data)


async def test_no_ping_behind_the_end_while_the_upstream_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.02)
    troubles: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    async with served() as server:
        line = await server.get("/lingering")
        assert (await line.reply()).body == FRAME
        await asyncio.sleep(0.1)
        server.stage.go.set()
        await until(lambda: not server.edge.visits)
    gc.collect()
    assert troubles == []


async def test_a_client_that_reads_nothing_is_cut_at_the_write_deadline() -> None:
    async with served(write_seconds=0.2) as server:
        line = await server.get("/flood", small=True)
        begun = asyncio.get_running_loop().time()
        assert await server.ended() == [("/flood", "cancelled")]
        assert 0.15 < asyncio.get_running_loop().time() - begun < 2
        assert not (await line.rest()).endswith(b"0\r\n\r\n")


async def test_a_client_that_reads_nothing_is_also_noticed_by_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    async with served(write_seconds=0.2) as server:
        await server.get("/burst", small=True)
        assert await server.ended() == [("/burst", "cancelled")]
        await until(lambda: not server.edge.visits)


async def test_a_slow_reader_is_not_a_stalled_one() -> None:
    async with served(write_seconds=0.3) as server:
        line = await server.get("/flood")
        for _ in range(8):
            await line.more()
            await asyncio.sleep(0.08)
        assert server.stage.ended == []


async def test_at_the_end_every_running_answer_says_so_in_its_own_way() -> None:
    async with served() as server:
        events, text, nothing, idle = [await server.get(path) for path in ("/stream", "/text", "/hang", "/echo")]
        assert (await idle.reply()).status == 200
        await events.see(FRAME)
        await text.see(b"once")
        await server.begun(4)
        server.edge.end_all()
        told = await events.reply()
        assert told.complete and told.body.startswith(FRAME)
        error = json.loads(told.body.rpartition(b"data: ")[2])
        assert (error["error"]["type"], error["request_id"]) == ("overloaded_error", told.headers["request-id"])
        refused = await nothing.reply()
        assert (refused.status, refused.headers["retry-after"]) == (529, "1")
        assert json.loads(refused.body)["error"]["type"] == "overloaded_error"
        assert not (await text.reply()).complete, "what has no way to say it must look cut"
        await until(lambda: not server.edge.visits)
        assert sorted(server.stage.ended)[1:] == [(path, "cancelled") for path in ("/hang", "/stream", "/text")]


async def test_a_request_above_the_cap_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_REQUESTS", 2)
    async with served() as server:
        running = [await server.get("/stream") for _ in range(2)]
        await server.begun(2)
        surplus = await server.get("/echo")
        reply = await surplus.reply()
        assert (reply.status, reply.headers["retry-after"]) == (529, "1")
        error = json.loads(reply.body)
        assert (error["error"]["type"], error["request_id"]) == ("overloaded_error", reply.headers["request-id"])
        server.stage.go.set()
        assert [(await line.reply()).complete for line in running] == [True, True]
        await until(lambda: not server.edge.visits)
        await surplus.send(b"GET /echo HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await surplus.reply()).status == 200


async def test_what_nobody_expected_tells_nothing_and_ends_properly() -> None:
    async with served() as server:
        line = await server.get("/broken")
        reply = await line.reply()
        assert reply.status == 500 and b"secret" not in reply.body
        assert json.loads(reply.body)["request_id"] == reply.headers["request-id"]
        late = await server.get("/broken/late")
        assert not (await late.reply()).complete
