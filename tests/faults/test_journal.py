"""The journal of a server that is killed, and of one whose disk is full or not ours to write."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from mcp_proxy.journal.sqlite import SqliteJournal
from tests.e2e.harness import in_front_of
from tests.faults.process import WHOLE, Process, accounts, messages, served
from tests.faults.upstream import saying, upstream

SOUND = messages(saying(WHOLE))
KEPT_SECONDS = 1.0
"""What ended longer ago than this is on the disk."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    return made


def rows(home: Path) -> set[str]:
    """The ids in the journal, in a file that is sound."""
    with contextlib.closing(sqlite3.connect(home / "state.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (lost,) = db.execute("SELECT count(*) FROM journal WHERE id NOT IN (SELECT id FROM journal_detail)").fetchone()
        assert lost == 0, "a row without its detail"
        return {request for (request,) in db.execute("SELECT request FROM journal")}


async def ask_until(process: Process, over: asyncio.Event, ended: dict[str, float]) -> None:
    """Ask without a pause; when each request ended, by its id."""
    while not over.is_set():
        try:
            answer = await process.ask()
        except httpx.TransportError:  # it was killed
            return
        ended[answer.headers["request-id"]] = time.monotonic()


async def killed_in_the_middle(home: Path, seconds: float, clients: int) -> None:
    ended: dict[str, float] = {}
    async with served(home) as process:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as asking:
            for _ in range(clients):
                asking.create_task(ask_until(process, over, ended))
            await asyncio.sleep(seconds)
            process.signal(signal.SIGKILL)
            moment = time.monotonic()
            over.set()
        await process.ended()
    old = {request for request, at in ended.items() if at < moment - KEPT_SECONDS}
    assert old, "some ended in time"
    assert old <= rows(home), f"{len(old - rows(home))} of {len(old)} are lost"


async def test_a_kill_loses_no_row_that_is_older_than_a_second(home: Path) -> None:
    async with upstream(SOUND) as sound:
        accounts(home, sound)
        await killed_in_the_middle(home, 1.3, 1)
    newest = SqliteJournal(home / "state.db").find(None)
    assert newest is not None and newest.outcome == "ok"


@pytest.mark.slow
async def test_kills_at_any_moment_lose_no_row_that_is_older_than_a_second(home: Path) -> None:
    rng = random.Random(9)
    async with upstream(SOUND) as sound:
        accounts(home, sound)
        for _ in range(12):
            await killed_in_the_middle(home, rng.uniform(1.2, 3.0), 16)


async def test_a_journal_that_cannot_be_written_is_said_once_and_written_later(home: Path) -> None:
    async with upstream(SOUND) as sound, in_front_of(home, sound) as proxy:
        await proxy.ask()
        assert (await proxy.client.get("/why/last")).status_code == 200
        with contextlib.closing(sqlite3.connect(home / "state.db", isolation_level=None)) as db, capture_logs() as said:
            # as a full disk does: whatever is written to it fails
            db.execute("CREATE TRIGGER full BEFORE INSERT ON journal BEGIN SELECT raise(ABORT, 'full'); END")
            for _ in range(4):
                assert (await proxy.ask()).status_code == 200
                await proxy.gateway.recorder.flush()
            db.execute("DROP TRIGGER full")
        await proxy.gateway.recorder.flush()
        assert [line["event"] for line in said if line["log_level"] == "error"] == [
            "the journal is not written, its rows wait in memory"
        ]
    assert len(rows(home)) == 5


async def test_a_journal_of_nowhere_harms_no_request(home: Path) -> None:
    (home / "state.db").mkdir()
    async with upstream(SOUND) as sound, in_front_of(home, sound) as proxy:
        assert (await proxy.ask()).status_code == 200
        answer = await proxy.client.get("/why/last")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "api_error")
        assert (await proxy.client.get("/usage")).status_code == 503
        assert (await proxy.ask()).status_code == 200


def test_the_journal_is_read_where_nobody_serves(tmp_path: Path) -> None:
    assert SqliteJournal(tmp_path / "nowhere" / "state.db").find(None) is None
    assert not (tmp_path / "nowhere").exists()
