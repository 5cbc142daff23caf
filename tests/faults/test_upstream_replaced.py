"""P6: an account is edited while its streams run. They end where they began; who comes later goes elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from accounts.model import ApiKey, Entry, Secret
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.gateway import roster
from tests.e2e.harness import Proxy, in_front_of, settings
from tests.faults.answers import STREAM, is_whole, messages, well
from tests.faults.line import until
from tests.faults.speech import EVENT_STREAM, LAST_CHUNK, chunk, stream
from tests.faults.upstream import Talk, Upstream, upstream

Edit = Callable[[Entry], tuple[Entry, ...]]
STREAMS = 10


def moved(there: Upstream) -> Edit:
    return lambda entry: (replace(entry, account=replace(entry.account, base_url=there.url(""))),)


def rekeyed(_: Upstream) -> Edit:
    return lambda entry: (replace(entry, credential=ApiKey(Secret("another-key-of-a0"))),)


def disabled(_: Upstream) -> Edit:
    return lambda entry: (replace(entry, account=replace(entry.account, enabled=False)),)


def removed(_: Upstream) -> Edit:
    return lambda entry: ()


class Slow:
    """Begins each answer, and ends it when told to."""

    def __init__(self) -> None:
        self.begun, self.go = 0, asyncio.Event()

    async def __call__(self, talk: Talk) -> None:
        frames = stream()
        await talk.say(EVENT_STREAM + b"".join(map(chunk, frames[:3])))
        self.begun += 1
        await self.go.wait()
        for frame in frames[3:]:
            await talk.say(chunk(frame))
            await asyncio.sleep(0.01)
        await talk.say(LAST_CHUNK)
        talk.writer.close()


async def change(proxy: Proxy, home: Path, edit: Edit) -> None:
    """As the command line does it, from another process's view; until the server has taken it over."""

    def write() -> None:
        open_vault(settings(home)).edit(lambda entries: tuple(new for entry in entries for new in edit(entry)))

    before = proxy.gateway.pool.version
    await asyncio.to_thread(write)
    await until(lambda: proxy.gateway.pool.version > before)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LOOK_SECONDS", 0.05)


@pytest.mark.parametrize("edit", [moved, rekeyed, disabled, removed], ids=lambda edit: edit.__name__)
async def test_running_streams_end_where_they_began(tmp_path: Path, edit: Callable[[Upstream], Edit]) -> None:
    """P6."""
    slow = Slow()
    async with upstream(messages(slow)) as a0, upstream(messages(well)) as there:
        async with in_front_of(tmp_path, a0) as proxy:
            loop = asyncio.get_running_loop()
            asking = [loop.create_task(proxy.ask(stream=True)) for _ in range(STREAMS)]
            await until(lambda: slow.begun == STREAMS)
            await change(proxy, tmp_path, edit(there))
            assert [seat.in_flight for seat in proxy.gateway.pool.seats] == [STREAMS] * (edit is not removed)
            slow.go.set()
            for reply in await asyncio.gather(*asking):
                assert reply.content == STREAM
            assert len(a0.asked()) == STREAMS and b"".join(a0.heard).count(b"another-key") == 0
            later = await proxy.ask(stream=True)
            assert [seat.in_flight for seat in proxy.gateway.pool.seats] == [0] * len(proxy.gateway.pool.seats)
            if edit is moved:
                assert is_whole(later, streams=True)
                assert (len(a0.asked()), len(there.asked())) == (STREAMS, 1), "not where it was before"
            elif edit is rekeyed:
                assert is_whole(later, streams=True)
                assert b"x-api-key: another-key-of-a0" in a0.asked()[-1].lower()
            else:
                assert later.status_code == 503 and later.headers["x-should-retry"] == "false"
                assert len(a0.asked()) == STREAMS
            await until(lambda: a0.open == 0, 1.0)


async def test_an_account_that_is_edited_again_and_again_loses_no_stream(tmp_path: Path) -> None:
    """P6."""
    slow = Slow()
    async with upstream(messages(slow)) as a0, upstream(messages(slow)) as a1, in_front_of(tmp_path, a0) as proxy:
        loop, asking = asyncio.get_running_loop(), []
        for number in range(6):
            asking += [loop.create_task(proxy.ask(stream=True)) for _ in range(3)]
            await until(lambda asked=3 * (number + 1): slow.begun == asked)
            await change(proxy, tmp_path, moved((a1, a0)[number % 2]))
        slow.go.set()
        assert [reply.content == STREAM for reply in await asyncio.gather(*asking)] == [True] * 18
        assert (len(a0.asked()), len(a1.asked())) == (9, 9)
        assert proxy.gateway.pool.seats[0].in_flight == 0
