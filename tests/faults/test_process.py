"""P1 to P5: the proxy as a process, starved of files and memory, refused its start, told to stop, put to sleep."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

from accounts.model import Account, AccountId, ApiKey, Credential, Entry, Secret
from tests.e2e.harness import KEY, message
from tests.faults import speech
from tests.faults.line import Line
from tests.faults.process import (
    PROXY,
    WHOLE,
    Process,
    accounts,
    closed_to,
    environment,
    free_port,
    messages,
    proxy,
    served,
    store_is_whole,
    until,
    vault_of,
)
from tests.faults.upstream import Talk, Upstream, by_path, saying, upstream

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="limits and signals as Linux has them")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    return made


class Held:
    """A part of `by_path`: begins a stream, and ends it once it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0

    async def __call__(self, talk: Talk) -> None:
        self.begun += 1
        await talk.say(speech.EVENT_STREAM + b"".join(map(speech.chunk, speech.stream()[:-2])))
        gone = asyncio.ensure_future(talk.reader.read(1))
        going = asyncio.ensure_future(self.go.wait())
        try:
            await asyncio.wait({gone, going}, return_when=asyncio.FIRST_COMPLETED)
            if going.done():
                await talk.say(b"".join(map(speech.chunk, speech.stream()[-2:])) + speech.LAST_CHUNK)
        finally:
            gone.cancel()
            going.cancel()
            talk.writer.close()


# P1


def few_files(count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


async def test_few_files_are_shared_out_so_that_what_is_begun_can_be_ended(home: Path) -> None:
    """P1."""
    held = Held()
    async with upstream(messages(held)) as up:
        accounts(home, up)
        async with served(home, limits=few_files(64)) as running:
            assert running.said("64 open files are allowed")
            asking = [asyncio.create_task(running.ask(stream=True)) for _ in range(40)]
            await until(lambda: sum(each.done() for each in asking) >= 30 and held.begun == 10)
            ended = [each for each in asking if each.done()]
            answers = [each.result() for each in ended if each.exception() is None]
            assert answers, "who could connect is answered"
            for answer in answers:
                assert answer.status_code == 529
                assert answer.json()["error"]["type"] == "overloaded_error"
                assert answer.headers["retry-after"] == "1"
            for each in ended:
                assert each.exception() is None or isinstance(each.exception(), httpx.TransportError)
            assert running.descriptors() < 64
            held.go.set()
            begun = [await each for each in asking if each not in ended]
            assert len(begun) == 10 and all(answer.text.endswith('"message_stop"}\n\n') for answer in begun)
            assert (await running.ask(stream=True)).status_code == 200
            assert len(running.said()) < 20, running.said()
            running.signal()
            assert await running.ended() == 0
    store_is_whole(home, {"a0"})


@contextlib.contextmanager
def squeezed(running: Process, spare: int) -> Iterator[None]:
    """For a while the process may open only this many files more than it has now."""
    number = resource.RLIMIT_NOFILE
    before = resource.prlimit(running.popen.pid, number)  # type: ignore[attr-defined]
    highest = max(int(each) for each in os.listdir(f"/proc/{running.popen.pid}/fd"))
    resource.prlimit(running.popen.pid, number, (highest + 1 + spare, before[1]))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        resource.prlimit(running.popen.pid, number, before)  # type: ignore[attr-defined]


async def test_with_no_file_left_to_open_it_answers_what_it_can_says_little_and_recovers(home: Path) -> None:
    """P1. Accepting, connecting, and reading and writing the stores all fail for a while."""
    async with upstream(messages(saying(WHOLE))) as up, upstream(messages(saying(WHOLE))) as other:
        accounts(home, up)
        async with served(home) as running:
            lines = [await Line(running.port).open() for _ in range(3)]
            asked = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n%b"
            body = httpx.Request("POST", "http://x", json=message()).content
            await lines[0].send(asked % (KEY.encode(), len(body), body))
            assert (await lines[0].reply()).status == 200
            vault = vault_of(home)
            with squeezed(running, 0):
                begun, said = time.monotonic(), len(running.said())
                for line in lines:
                    await line.send(asked % (KEY.encode(), len(body), body))
                replies = [await line.reply() for line in lines]
                for reply in replies:
                    # the kept connection to the upstream may serve one after the other; a new one there is none for
                    assert reply.status in (200, 529), reply
                assert 529 in [reply.status for reply in replies]
                refused = next(reply for reply in replies if reply.status == 529)
                assert b'"overloaded_error"' in refused.body and refused.headers["retry-after"] == "1"
                strangers = [await _knock(running.port) for _ in range(20)]
                assert b"" in strangers, "nobody waits for an answer that cannot come"
                entry = vault.entries()[0]
                vault.add(*_another(entry, other))
                await until(lambda: running.said("account store unreadable, serving from memory"))
                await asyncio.sleep(0.6)  # it looks again
                lasted = time.monotonic() - begun
                assert len(running.said()) - said < 20 * lasted, running.said()[said:]
                assert len(running.said("unreadable")) == 1
            async with asyncio.timeout(2):
                while not (running.said("accounts reloaded") and (await running.ask()).status_code == 200):
                    await asyncio.sleep(0.02)
            for line in lines:
                line.close()
            assert running.tracebacks() == []
            running.signal()
            assert await running.ended() == 0
    store_is_whole(home, {"a0", "a9"})


def _another(entry: Entry, other: Upstream) -> tuple[Account, Credential]:
    account = replace(entry.account, id=AccountId("00000f"), label="a9", base_url=other.url(""))
    return account, ApiKey(Secret("key-of-a9-sk-fake"))


async def _knock(port: int) -> bytes:
    """What a new connection hears, where it asks whether we live."""
    line = await Line(port).open()
    try:
        with contextlib.suppress(ConnectionError):
            await line.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return await line.rest()
    finally:
        line.close()


# P2


def size_of(process: Process) -> int:
    """Its address space, in bytes."""
    fields = Path(f"/proc/{process.popen.pid}/statm").read_text().split()
    return int(fields[0]) * resource.getpagesize()


async def test_with_no_memory_left_new_work_is_refused_and_a_running_stream_ends_well(home: Path) -> None:
    """P2."""
    held = Held()
    async with upstream(by_path({"/v1/messages": held})) as up:
        accounts(home, up)
        async with served(home) as running:
            streaming = asyncio.create_task(running.ask(stream=True))
            await until(lambda: held.begun == 1)
            before = (home / "accounts.json").read_bytes()
            ceiling = (size_of(running) + 6 * 2**20, resource.RLIM_INFINITY)
            resource.prlimit(running.popen.pid, resource.RLIMIT_AS, ceiling)  # type: ignore[attr-defined]
            huge = [asyncio.create_task(running.ask(padding="x" * (16 * 2**20))) for _ in range(4)]
            for each in await asyncio.gather(*huge, return_exceptions=True):
                if isinstance(each, httpx.Response):
                    assert each.status_code in (500, 529)
                    assert each.json()["type"] == "error" and "x" * 100 not in each.text
                else:
                    assert isinstance(each, httpx.TransportError), each
            assert held.begun == 1, "nothing of it reached the upstream"
            assert (await running.client.get("/livez")).status_code == 200
            held.go.set()
            assert (await streaming).text.endswith('"message_stop"}\n\n')
            free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(running.popen.pid, resource.RLIMIT_AS, free)  # type: ignore[attr-defined]
            answer = await running.ask(padding="x" * (16 * 2**20), stream=True)
            assert answer.text.endswith('"message_stop"}\n\n'), "the same with memory is served"
            assert running.tracebacks() == [line for line in running.tracebacks() if "MemoryError" in line]
            assert len(running.said()) < 20
            running.signal()
            assert await running.ended() == 0
    assert (home / "accounts.json").read_bytes() == before
    store_is_whole(home, {"a0"})


# P3


def refused(home: Path, *words: str, **environ: str) -> tuple[int, str]:
    """How a start that must fail ended: exit code and what it said, checked for form and cost."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = proxy(home, "serve", *words, **environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 2.0
    assert run.stdout == ""
    assert 1 <= len(run.stderr.splitlines()) <= 2, run.stderr
    assert "Traceback" not in run.stderr and KEY not in run.stderr
    assert run.stderr.startswith("proxy: ")
    return run.returncode, run.stderr


def test_a_start_that_cannot_be_says_why_in_a_line_or_two(home: Path) -> None:
    """P3. The positive twin is every other test here."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = refused(home, "--port", str(taken.getsockname()[1]))
        assert code == 2 and "cannot listen" in said
    port = ("--port", str(free_port()))
    code, said = refused(home, *port, PROXY_API_KEY="")
    assert code == 2 and "PROXY_API_KEY=" in said
    config = home / "config.toml"
    for content, names in ((b"[server\n", "config.toml"), (b"[server]\nprot = 1\n", "port")):
        config.write_bytes(content)
        code, said = refused(home, *port)
        assert code == 2 and names in said, said


@pytest.mark.parametrize(
    "what",
    [
        "key open to others",
        pytest.param("folder in its place", marks=pytest.mark.slow),
        pytest.param("store open to others", marks=pytest.mark.slow),
        pytest.param("store of another", marks=pytest.mark.slow),
    ],
)
def test_a_store_that_cannot_be_read_ends_the_start_and_stays_as_it_is(home: Path, what: str) -> None:
    """P3."""
    accounts(home, Upstream(port=9))
    store, key = home / "accounts.json", home / "vault.key"
    content = store.read_bytes()
    expected = 7
    if what == "store open to others":
        store.chmod(0o644)
    elif what == "folder in its place":
        store.unlink()
        store.mkdir(0o700)
    elif what == "store of another":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(store, 12345, 12345)
    else:
        key.chmod(0o644)
    code, _ = refused(home, "--port", str(free_port()))
    assert code == expected
    assert store.is_dir() or store.read_bytes() == content


# P4


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_told_to_end_it_takes_nobody_new_and_lets_a_running_answer_end(home: Path, number: int) -> None:
    """P4."""
    held = Held()
    async with upstream(messages(held)) as up:
        accounts(home, up)
        async with served(home) as running:
            streaming = asyncio.create_task(running.ask(stream=True))
            await until(lambda: held.begun == 1)
            running.signal(number)
            await until(lambda: closed_to(running.port))
            assert running.popen.poll() is None
            held.go.set()
            assert (await streaming).text.endswith('"message_stop"}\n\n')
            assert await running.ended() == 0
            assert running.tracebacks() == []
            assert running.said()[-1].endswith("stopped")
    store_is_whole(home, {"a0"})


@pytest.mark.slow
async def test_a_closed_terminal_is_no_signal_to_who_was_told_to_ignore_it(home: Path) -> None:
    """P4. `nohup proxy serve`."""
    async with upstream(messages(saying(WHOLE))) as up:
        accounts(home, up)
        async with served(home, limits=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as running:
            running.signal(signal.SIGHUP)
            await asyncio.sleep(0.5)  # it looks ten times a second whether it is to end
            assert not closed_to(running.port)
            assert (await running.ask()).status_code == 200
            running.signal()
            assert await running.ended() == 0


@pytest.mark.slow
async def test_a_stream_that_never_ends_has_the_real_grace_and_then_is_told(home: Path) -> None:
    """P4."""
    held = Held()
    async with upstream(messages(held)) as up:
        accounts(home, up)
        async with served(home) as running:
            streaming = asyncio.create_task(running.ask(stream=True))
            await until(lambda: held.begun == 1)
            begun = time.monotonic()
            running.signal()
            text = (await streaming).text
            assert 19 < time.monotonic() - begun < 22
            assert text.rpartition("event: ")[2].startswith("error\n") and "overloaded_error" in text
            assert "message_stop" not in text
            assert await running.ended() == 0
            assert running.tracebacks() == []


@pytest.mark.parametrize(
    ("number", "codes"),
    [
        (signal.SIGTERM, {0, 1}),
        pytest.param(signal.SIGINT, {130}, marks=pytest.mark.slow),
    ],
)
async def test_told_twice_it_ends_within_a_second_whatever_waits(home: Path, number: int, codes: set[int]) -> None:
    """P4. A stream is running, and a thread waits for the store, which another process holds."""
    held = Held()
    parts = {"/v1/messages": held}
    async with (
        upstream(by_path(parts)) as up,
        upstream(messages(saying(speech.refusal(401, "authentication_error")))) as bad,
    ):
        accounts(home, bad, up)
        async with served(home) as running:
            with FileLock(home / "accounts.json.lock"):
                streaming = asyncio.create_task(running.ask(stream=True))
                await until(lambda: held.begun == 1 and running.said("credential refused"))
                running.signal(number)
                await until(lambda: closed_to(running.port))
                running.signal(number)
                begun = time.monotonic()
                code = await running.ended()
                assert time.monotonic() - begun < 2.0, "0.7 s, and what a busy machine adds"
            assert code in codes
            with contextlib.suppress(httpx.TransportError):
                assert "message_stop" not in (await streaming).text
            assert running.tracebacks() == []
    store_is_whole(home, {"a0", "a1"})


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
async def test_told_again_while_it_saves_it_ends_within_a_second(home: Path, number: int) -> None:
    """P4. Nothing is running any more; a thread waits for the store, which another process holds."""
    async with upstream(messages(saying(speech.refusal(401, "authentication_error")))) as bad:
        accounts(home, bad)
        async with served(home) as running:
            with FileLock(home / "accounts.json.lock"):
                assert (await running.ask()).status_code == 503
                running.signal(number)
                await until(lambda: running.said("stopped"))
                assert running.popen.poll() is None, "the save is waited for"
                running.signal(number)
                assert await running.ended(2.0) in (130, -number)
            assert running.tracebacks() == []
    store_is_whole(home, {"a0"})


async def test_what_is_being_saved_when_it_is_told_to_end_is_saved(home: Path) -> None:
    """P4. The accounts' store while another process holds it, and the limits learnt a moment before."""
    limited = saying(speech.refusal(429, "rate_limit_error", "slow down", "retry-after: 900"))
    async with (
        upstream(messages(saying(speech.refusal(401, "authentication_error")))) as bad,
        upstream(messages(limited)) as up,
    ):
        accounts(home, bad, up)
        async with served(home) as running:
            with FileLock(home / "accounts.json.lock"):
                assert (await running.ask()).status_code == 429
                await until(lambda: running.said("credential refused"))
                running.signal()
                await until(lambda: closed_to(running.port))
                await asyncio.sleep(0.3)
                assert running.popen.poll() is None, "the save is waited for"
            assert await running.ended() == 0
            assert running.tracebacks() == []
        marked = {entry.account.label: entry.account.invalid for entry in vault_of(home).entries()}
        assert marked["a0"] and marked["a1"] is None
        asked = len(up.asked()) + len(bad.asked())
        async with served(home) as running:
            answer = await running.ask()
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 800
            assert len(up.asked()) + len(bad.asked()) == asked, "both are known from before"
            running.signal()
            assert await running.ended() == 0
    store_is_whole(home, {"a0", "a1"})


async def killed_again_and_again(home: Path, rounds: int) -> None:
    """Killed amid requests and saves, each time at another moment; what was learnt long enough ago is known after."""
    limited = saying(speech.refusal(429, "rate_limit_error", "slow down", "retry-after: 9000"))
    async with upstream(messages(saying(WHOLE))) as up, upstream(messages(limited)) as full:
        accounts(home, full, up)
        for number in range(rounds):
            async with served(home) as running:

                async def ask(running: Process = running) -> None:
                    while True:
                        assert (await running.ask()).headers["x-proxy-attempts"] in ("1", "2")

                assert (await running.ask()).status_code == 200
                asking = [asyncio.create_task(ask()) for _ in range(4)]
                await asyncio.sleep(0.7 + 0.13 * number % 0.5)  # the state is written every half second
                vault_of(home).change(AccountId("000000"), lambda known, n=number: replace(known, tier=n))  # type: ignore[misc]
                running.signal(signal.SIGKILL)
                assert await running.ended() == -signal.SIGKILL
                for each in asking:
                    each.cancel()
                for result in await asyncio.gather(*asking, return_exceptions=True):
                    assert isinstance(result, asyncio.CancelledError | httpx.TransportError), result
            store_is_whole(home, {"a0", "a1"})
            assert vault_of(home).entries()[0].account.tier == number
            assert len(full.asked()) == 1, "what was learnt before the first kill is known ever after"


@pytest.mark.slow
async def test_killed_amid_its_work_it_starts_again_with_what_it_knew(home: Path) -> None:
    """P4."""
    await killed_again_and_again(home, 2)


@pytest.mark.slow
async def test_killed_many_times_it_starts_again_with_what_it_knew(home: Path) -> None:
    """P4."""
    await killed_again_and_again(home, 20)


INTERRUPTED = """
import importlib.abc, os, signal, sys
from mcp_proxy.__main__ import main

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mcp_proxy.cli.root":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.exit(main())
"""


def test_interrupted_while_it_imports_it_ends_without_a_word(home: Path) -> None:
    """P4."""
    command = [sys.executable, "-c", INTERRUPTED]
    run = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=20)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


@pytest.mark.slow
def test_interrupted_while_it_starts_it_says_so_and_nothing_else(home: Path) -> None:
    """P4. From the moment on that the program is ours: before it the interpreter starts."""
    for step in range(12):
        run = subprocess.Popen(
            [*PROXY, "serve", "--port", str(free_port())],
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with run:
            maps = Path(f"/proc/{run.pid}/maps")
            while "/_multibytecodec" not in maps.read_text() and "_json" not in maps.read_text():
                time.sleep(0.002)
            time.sleep(0.05 * step)
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=10)
            assert "Traceback" not in err, err
            assert run.returncode in (0, 130, -signal.SIGINT)


# P5


@pytest.mark.parametrize("seconds", [1.5, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_asleep_while_its_upstream_closes_what_was_idle_it_wakes_and_serves(home: Path, seconds: float) -> None:
    """P5. A lid that is closed for a while.

    Of the connections that are kept the upstream closes one half, and has forgotten the other without a word.
    """
    talks: list[Talk] = []
    forgotten: set[int] = set()
    answered = 0

    async def play(talk: Talk) -> None:
        nonlocal answered
        talks.append(talk)
        while True:
            await talk.hear()
            if talk.number in forgotten:
                talk.reset()
                return
            await asyncio.sleep(0.05)
            answered += 1
            await talk.say(WHOLE)

    async with upstream(play) as up:
        accounts(home, up)
        async with served(home) as running:
            first = await asyncio.gather(*(running.ask() for _ in range(8)))
            assert {answer.status_code for answer in first} == {200}
            assert up.open >= 4, "kept for the next"
            running.signal(signal.SIGSTOP)
            kept = [talk for talk in talks if not talk.writer.is_closing()]
            for talk in kept[::2]:
                talk.writer.close()
            forgotten.update(talk.number for talk in kept[1::2])
            await until(lambda: up.open == len(forgotten))
            waiting = [asyncio.create_task(running.ask()) for _ in range(8)]
            await asyncio.sleep(seconds)
            assert not any(each.done() for each in waiting)
            before = answered
            running.signal(signal.SIGCONT)
            answers = await asyncio.gather(*waiting)
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.headers["x-proxy-attempts"] for answer in answers} == {"1"}, "nobody else was to be asked"
            assert answered - before == 8, "each was answered once"
            running.signal()
            assert await running.ended() == 0
            assert running.tracebacks() == []
    store_is_whole(home, {"a0"})
