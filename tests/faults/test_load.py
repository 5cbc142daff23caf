"""L1 to L7: load, and what is left when it has gone.

L1, L2 and L6 run for seconds by default and for minutes with `-m soak`; L4 is here at a tenth of its size. What is
asserted is that all is there, in order and bounded, and that nothing is left over; never how fast it was.

The caps of L5 without a gateway behind them are in `tests/mcp_proxy/server/test_guard.py` and `test_stream.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import re
import resource
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.model import Account, AccountId, ApiKey, Entry, Secret
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.cli.compose import serving
from mcp_proxy.server import guard, stream
from tests.e2e.harness import KEY, in_front_of, message, nothing_is_held, post, serving_accounts, settings
from tests.faults import speech
from tests.faults.line import Line, open_sockets, until
from tests.faults.upstream import Play, Talk, by_path, saying, silent, upstream

WELL = speech.answer(speech.message())
MEGABYTE = 1 << 20
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def messages(play: Play) -> Play:
    return by_path({"/v1/messages": play})


def resident(pid: int | str = "self") -> int:
    """Memory of a process now, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


# L1: many streams


def counting(events: int, pause: float) -> Play:
    """An answer of numbered events, one every so often; each says when it was said."""

    async def play(talk: Talk) -> None:
        await talk.say(speech.EVENT_STREAM + speech.chunk(speech.START) + speech.chunk(speech.BLOCK))
        for number in range(events):
            said = asyncio.get_running_loop().time()
            await talk.say(speech.chunk(speech.delta(f"<{number}@{said:.6f}>")))
            await asyncio.sleep(pause)
        await talk.say(speech.chunk(speech.BLOCK_END) + speech.chunk(speech.STOP) + speech.LAST_CHUNK)

    return play


async def reads_in_order(port: int, events: int) -> float:
    """Read one stream of numbered events; the longest that one was under way, seconds."""
    loop, number, longest, seen = asyncio.get_running_loop(), 0, 0.0, b""
    line = await Line(port).open()
    try:
        await line.send(post())
        while speech.LAST_CHUNK not in seen[-9:]:
            piece = await line.more(30)
            assert piece, "cut"
            seen = seen[-200:] + piece
            for found in re.finditer(rb"<(\d+)@([\d.]+)>", seen):
                if int(found[1]) < number:
                    continue  # seen with the piece before
                assert int(found[1]) == number, "one is missing, or they are out of order"
                number, longest = number + 1, max(longest, loop.time() - float(found[2]))
        assert number == events and b'"message_stop"' in seen
        return longest
    finally:
        line.close()


@needs_proc
@pytest.mark.parametrize(
    ("streams", "seconds"),
    [(40, 1.5), pytest.param(200, 60, marks=[pytest.mark.soak, pytest.mark.timeout(180)])],
)
async def test_every_event_of_many_streams_arrives_once_and_in_order(
    tmp_path: Path, streams: int, seconds: float
) -> None:
    """L1."""
    events = round(seconds * 10)
    async with contextlib.AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream(messages(counting(events, 0.1)))) for _ in range(3)]
        accounts = [
            ("anthropic", f"key-of-a{n}-sk-fake", {"label": f"a{n}", "base_url": up.url("")})
            for n, up in enumerate(ups)
        ]
        async with serving_accounts(tmp_path, accounts) as proxy:
            reading = [asyncio.ensure_future(reads_in_order(proxy.port, events)) for _ in range(streams)]
            await asyncio.sleep(min(seconds / 2, 10))
            warm = resident()
            longest = await asyncio.gather(*reading)
            gc.collect()
            assert resident() - warm < 15 * MEGABYTE
            assert max(longest) < 5.0, "an event is not kept back"
            assert sum(len(up.asked()) for up in ups) == streams
            await until(lambda: nothing_is_held(proxy))
    print(f"longest on the way: {max(longest) * 1000:.1f} ms")


# L2: short requests, one account failing


@needs_proc
@pytest.mark.parametrize("seconds", [1.5, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(180)])])
async def test_an_account_that_fails_half_the_time_fails_no_client(tmp_path: Path, seconds: float) -> None:
    """L2: 32 clients that ask again as soon as they are answered."""
    loop, asked = asyncio.get_running_loop(), 0

    async def halting(talk: Talk) -> None:
        nonlocal asked
        asked += 1
        await talk.say(WELL if asked % 2 else speech.refusal(500, "api_error", "internal"))

    async with upstream(messages(halting)) as bad, upstream(messages(saying(WELL))) as good:
        accounts = [
            ("anthropic", f"key-of-a{n}-sk-fake", {"label": f"a{n}", "base_url": up.url("")})
            for n, up in enumerate((bad, good, good))
        ]
        async with serving_accounts(tmp_path, accounts) as proxy:
            begun, answered = loop.time(), 0

            async def client(number: int) -> None:
                nonlocal answered
                line = await Line(proxy.port).open()
                while loop.time() - begun < seconds:
                    await line.send(post(stream=False, metadata={"user_id": f"{number}-{answered}"}))
                    reply = await line.reply(seconds=10)
                    assert (reply.status, reply.complete) == (200, True), reply.body
                    answered += 1
                line.close()

            clients = [asyncio.ensure_future(client(number)) for number in range(32)]
            await asyncio.sleep(seconds / 3)
            warm = resident()
            await asyncio.gather(*clients)
            bad.heard.clear()
            good.heard.clear()
            gc.collect()
            assert resident() - warm < (15 + seconds / 60) * MEGABYTE
            assert asked > 0 and answered > 32
            await until(lambda: nothing_is_held(proxy))
    print(f"{answered / seconds:.0f} requests a second, the failing account was asked {asked} times")


# L6: idle connections, and many short requests


@needs_proc
@pytest.mark.parametrize(
    ("seconds", "requests"), [(1.5, 300), pytest.param(600, 10_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
async def test_idle_connections_and_short_requests_leave_nothing_behind(
    tmp_path: Path, seconds: float, requests: int
) -> None:
    """L6: an upstream ends its idle connections now and then; no client ever hears of it."""
    loop, used, stale = asyncio.get_running_loop(), Counter[int](), 0

    async def forgetful(talk: Talk) -> None:
        nonlocal stale
        used[talk.number] += 1
        if used[talk.number] % 7 == 0:  # it had gone idle, and its end crossed with this request
            stale += 1
            talk.writer.close()
            return
        await talk.say(WELL)

    async with upstream(messages(forgetful)) as up, in_front_of(tmp_path, up) as proxy:
        idle = [await Line(proxy.port).open() for _ in range(20)]
        for line in idle:
            await line.send(post(stream=False))
            assert (await line.reply()).status == 200
        pause, begun = seconds / requests, loop.time()
        sockets, warm = open_sockets(), resident()
        for number in range(requests):
            line = await Line(proxy.port).open()
            await line.send(post(stream=False))
            assert (await line.reply()).status == 200, number
            line.close()
            await asyncio.sleep(max(0.0, begun + number * pause - loop.time()))
            up.heard.clear()
        assert stale > requests / 20
        await until(lambda: open_sockets() <= sockets + 4)
        gc.collect()
        assert resident() - warm < 15 * MEGABYTE
        if seconds < 100:  # an idle connection is kept for two minutes
            for line in idle:
                await line.send(post(stream=False))
                assert (await line.reply()).status == 200
        for line in idle:
            line.close()


# L3: hang-ups


def stalling(over: asyncio.Event) -> Play:
    """Any of an upstream's moments, in turn: silence at once, within a stream, a flood, a whole answer. Then sound."""

    async def play(talk: Talk) -> None:
        number = len(talk.upstream.heard)
        if over.is_set():
            await talk.say(WELL)
            return
        if number % 4 == 0:
            await silent(talk)
            return
        await talk.say(speech.EVENT_STREAM + speech.chunk(speech.START) + speech.chunk(speech.BLOCK))
        if number % 4 == 1:
            await silent(talk)
        elif number % 4 == 2:
            piece = speech.chunk(speech.delta("x" * 1000) * 64)
            for _ in range(200):
                await talk.say(piece)
            talk.writer.close()
        else:
            await talk.say(b"".join(map(speech.chunk, speech.stream()[2:])) + speech.LAST_CHUNK)

    return play


async def hangs_up(port: int, rng: random.Random, patience: float) -> None:
    """Ask, take some or nothing of it, and be gone in some way at some moment. patience: 1.0 on a machine at rest."""
    line = await Line(port).open(small=rng.random() < 0.5)
    request = post()
    if rng.random() < 0.1:
        request = request[: rng.randrange(len(request))]
    try:
        await line.send(request)
        await asyncio.sleep(rng.random() * 0.03 * patience)
        if rng.random() < 0.5:
            with contextlib.suppress(TimeoutError):
                await line.more(rng.random() * 0.02 * patience)
    finally:
        line.close(reset=rng.random() < 0.5)


HANG_UPS = 2000


async def test_two_thousand_hang_ups_at_random_moments_leave_nothing_behind(tmp_path: Path) -> None:
    """L3: before the head, in mid-stream, in a blocked write, with FIN and with RST."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    over = asyncio.Event()
    async with upstream(messages(stalling(over))) as up, in_front_of(tmp_path, up) as proxy:
        assert (await proxy.client.get("/livez")).status_code == 200
        await until(lambda: up.heard)  # the background work has begun
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        before = up.open

        async def one_after_the_other(patience: float) -> None:
            for _ in range(HANG_UPS // 100):
                await hangs_up(proxy.port, rng, patience)

        for patience in (1.0, 4.0, 16.0):  # where the machine is busy all may have left before they were looked at
            await asyncio.gather(*(one_after_the_other(patience) for _ in range(100)))
            if len(up.asked()) > HANG_UPS / 20:
                break
        await until(lambda: nothing_is_held(proxy), 3.0)
        # kept connections, which are good for another request, are two sockets here and one task of the upstream
        await until(lambda: open_sockets() - 2 * (up.open - before) <= sockets, 3.0)
        await until(lambda: len(asyncio.all_tasks()) - (up.open - before) <= tasks, 3.0)
        assert len(up.asked()) > HANG_UPS / 20, "many had reached it"
        assert not proxy.gateway.pool.seats[0].closed
        assert {each.outcome for each in proxy.gateway.recent} <= {"client_gone", "ok"}
        over.set()
        assert (await proxy.ask()).status_code == 200


# L4: readers that do not read


def flood(size: int, ended: list[int]) -> Play:
    """An answer of so many bytes, as fast as it is taken."""
    piece = speech.chunk(speech.delta("x" * 60_000))

    async def play(talk: Talk) -> None:
        try:
            # no more in our own socket than we can help: what is measured is the proxy
            talk.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            await talk.say(speech.EVENT_STREAM + speech.chunk(speech.START) + speech.chunk(speech.BLOCK))
            for _ in range(size // len(piece)):
                await talk.say(piece)
        finally:
            ended.append(talk.number)

    return play


def by_stream(streamed: Play, whole: Play) -> Play:
    """One part for those who ask for a stream, one for the others."""

    async def play(talk: Talk) -> None:
        await (streamed if b'"stream": true' in talk.upstream.heard[-1] else whole)(talk)

    return messages(play)


HELD_BY_THE_WAY = 30 * MEGABYTE
"""What the sockets between one upstream and its client may hold, by far."""


@pytest.mark.parametrize("readers", [30, pytest.param(300, marks=pytest.mark.slow)])
async def test_readers_that_read_nothing_hold_their_upstreams_back_and_are_cut(tmp_path: Path, readers: int) -> None:
    """L4: everybody else is served meanwhile."""
    loop, ended = asyncio.get_running_loop(), list[int]()
    async with upstream(by_stream(flood(200 * MEGABYTE, ended), saying(WELL))) as up:
        async with in_front_of(tmp_path, up, environ={"WRITE_TIMEOUT_SEC": "1"}) as proxy:
            lines = [await Line(proxy.port).open(small=True) for _ in range(readers)]
            for line in lines:
                await line.send(post())
            await until(lambda: len(up.asked()) == readers, 30)
            begun, others = loop.time(), 0
            while len(ended) < readers:
                assert loop.time() - begun < 60
                assert (await proxy.ask()).status_code == 200
                others += 1
            assert others >= 3
            await until(lambda: nothing_is_held(proxy), 1.0)
            assert up.said < readers * 4.5 * MEGABYTE, "neither is it the system that takes it all"
            for line in lines:
                assert not (await line.rest(5)).endswith(speech.LAST_CHUNK)
                line.close()


# L5: the caps


async def test_what_is_above_the_cap_of_connections_is_reset_and_the_rest_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5."""
    monkeypatch.setattr(guard, "MAX_CONNECTIONS", 4)
    go = asyncio.Event()
    async with upstream(messages(held_until(go))) as up, in_front_of(tmp_path, up) as proxy:
        streams = [await Line(proxy.port).open() for _ in range(3)]
        for line in streams:
            await line.send(post())
            await line.see(b"content_block_start")
        idle = await Line(proxy.port).open()
        await idle.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await idle.reply()).status == 200
        for _ in range(20):
            surplus = await Line(proxy.port).open()
            with contextlib.suppress(OSError):
                await surplus.send(post())
            assert await surplus.rest(1.0) == b""
            surplus.close()
        assert len(up.asked()) == 3
        go.set()
        for line in streams:
            reply = await line.reply()
            assert reply.complete and reply.body == b"".join(speech.stream())
            line.close()
        await until(lambda: len(proxy.server.server_state.connections) == 1)
        again = await Line(proxy.port).open()
        await again.send(post())
        assert (await again.reply()).complete
        for line in (again, idle):
            line.close()


def held_until(go: asyncio.Event) -> Play:
    """An answer that goes on when it is told to."""
    first, second, *rest = speech.stream()

    async def play(talk: Talk) -> None:
        await talk.say(speech.EVENT_STREAM + speech.chunk(first) + speech.chunk(second))
        await go.wait()
        await talk.say(b"".join(map(speech.chunk, rest)) + speech.LAST_CHUNK)

    return play


async def test_what_is_above_the_cap_of_requests_is_told_to_come_back_and_the_rest_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: 529 with `retry-after`, on a connection that is good for another try."""
    monkeypatch.setattr(stream, "MAX_REQUESTS", 3)
    go = asyncio.Event()
    async with upstream(messages(held_until(go))) as up, in_front_of(tmp_path, up) as proxy:
        streams = [await Line(proxy.port).open() for _ in range(3)]
        for line in streams:
            await line.send(post())
            await line.see(b"content_block_start")
        surplus = [await Line(proxy.port).open() for _ in range(20)]
        for number, line in enumerate(surplus):
            for _ in range(2):
                request = post(metadata={"user_id": "x" * 100_000 * (number % 2)})
                await line.send(request)
                reply = await line.reply()
                assert (reply.status, reply.headers["content-type"]) == (529, "application/json")
                assert int(reply.headers["retry-after"]) >= 1 and "x-should-retry" not in reply.headers
                told = json.loads(reply.body)
                assert (told["type"], told["error"]["type"]) == ("error", "overloaded_error")
                assert told["request_id"] == reply.headers["request-id"]
                assert reply.headers["x-proxy-account"] == "none" and reply.headers["x-proxy-attempts"] == "0"
        assert len(up.asked()) == 3 and len(proxy.server._edge.visits) == 3
        go.set()
        for line in streams:
            reply = await line.reply()
            assert reply.complete and reply.body == b"".join(speech.stream())
        await until(lambda: nothing_is_held(proxy))
        for line in surplus:
            await line.send(post())
            assert (await line.reply()).complete
        for line in (*streams, *surplus):
            line.close()


# L7: the loop is never held up

LONGEST = 0.05
"""How long the loop may be held up, seconds."""
ROUNDS = 5
"""A machine may be busy with something else; that it is so in each of several rounds is unlikely."""


async def held_up(work: Callable[[], Awaitable[object]]) -> float:
    """The longest that this process kept the loop from turning while this was done, seconds.

    Where it had no processor meanwhile, somebody else did: only what it computed counts, in whichever thread.
    """
    worst, over = 0.0, False

    async def turning() -> None:
        nonlocal worst
        last, spent = time.perf_counter(), time.process_time()
        while not over:
            await asyncio.sleep(0.001)
            now, spent_now = time.perf_counter(), time.process_time()
            worst = max(worst, min(now - last, spent_now - spent))
            last, spent = now, spent_now

    watching = asyncio.ensure_future(turning())
    await asyncio.sleep(0.005)
    await work()
    await asyncio.sleep(0.005)
    over = True
    await watching
    return worst


async def is_not_held_up(work: Callable[[], Awaitable[object]]) -> None:
    gc.collect()
    gc.freeze()  # what pytest holds is not the proxy's to look through
    try:
        found = []
        for _ in range(ROUNDS):
            found.append(await held_up(work))
            if found[-1] <= LONGEST:
                return
        raise AssertionError([f"{each * 1000:.0f} ms" for each in found])
    finally:
        gc.unfreeze()


def many(count: int, mark: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            Account(AccountId(f"{n:06x}"), "anthropic", f"{mark}{n}", base_url="http://127.0.0.1:1"),
            ApiKey(Secret(f"sk-fake-{n}")),
        )
        for n in range(count)
    )


@pytest.mark.parametrize(
    ("count", "environ"),
    [(1000, {}), (3, {"MCP_PROXY_VAULT_PASSPHRASE": "a fake passphrase of the tests"})],
    ids=["a thousand accounts", "a key from a passphrase"],
)
async def test_a_store_that_is_written_does_not_hold_the_loop_up(
    tmp_path: Path, count: int, environ: dict[str, str]
) -> None:
    """L7: nor does reading it back, a thousand accounts or a key to be derived."""
    at = settings(tmp_path, **environ)
    marks = iter("abcdefgh")
    async with serving(at, 1.0) as (_, gateway, _):

        async def saved() -> None:
            mark = next(marks)
            at.paths.accounts_file.unlink(missing_ok=True)
            # a new store, whose key nobody has derived yet, by a vault of its own, as another process has one
            await asyncio.to_thread(open_vault(at).edit, lambda _: many(count, mark))
            await until(lambda: [seat.account.label[0] for seat in gateway.pool.seats] == [mark] * count, 10)

        await is_not_held_up(saved)


LARGE: dict[str, Callable[[], dict[str, Any]]] = {
    "one text": lambda: message("x" * 20_000_000),
    "one text that is no ASCII": lambda: message("é" * 10_000_000),
    "an image": lambda: message(
        "x", messages=[{"role": "user", "content": [{"type": "image", "source": {"data": "A" * 20_000_000}}]}]
    ),
    "many blocks": lambda: message(
        "x", messages=[{"role": "user", "content": [{"type": "text", "text": f"block {n}"} for n in range(500_000)]}]
    ),
    "many messages": lambda: message("x", messages=[{"role": "user", "content": f"{n}"} for n in range(500_000)]),
}

CLIENT = """
import socket, sys
body = open(sys.argv[2], "rb").read()
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as line:
    line.sendall(b"POST %s HTTP/1.1\\r\\nhost: localhost\\r\\nx-api-key: %s\\r\\nconnection: close\\r\\n"
                 b"content-length: %d\\r\\n\\r\\n" % (sys.argv[4].encode(), sys.argv[3].encode(), len(body)) + body)
    came = b""
    while data := line.recv(65536):
        came += data
print(came[9:12].decode())
"""


BY_DEFAULT = [
    ("one text", "/v1/messages"),
]
BOTH = [(about, path) for about in LARGE for path in ("/v1/messages", "/v1/messages/count_tokens")]


@pytest.mark.parametrize(
    ("about", "path"), [pytest.param(*each, marks=[] if each in BY_DEFAULT else [pytest.mark.slow]) for each in BOTH]
)
async def test_twenty_megabytes_of_request_do_not_hold_the_loop_up(tmp_path: Path, about: str, path: str) -> None:
    """L7: the client is a process of its own, or its work would be held against the proxy."""
    body = json.dumps(LARGE[about](), ensure_ascii=False).encode()
    assert 18_000_000 < len(body) < 32 * MEGABYTE
    (tmp_path / "body").write_bytes(body)
    del body
    account = ("custom", "key-of-a0-sk-fake", {"label": "a0", "base_url": "http://127.0.0.1:1"})
    async with serving_accounts(tmp_path / "home", [account]) as proxy:

        async def asked() -> None:
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-c", CLIENT, str(proxy.port), str(tmp_path / "body"), KEY, path),
                stdout=subprocess.PIPE,
            )
            out, _ = await client.communicate()
            # nobody listens upstream: a message is tried and fails, a count is our own
            assert out.strip() == (b"502" if path == "/v1/messages" else b"200"), out

        await is_not_held_up(asked)
