"""Rows reach the journal, also one that cannot be written for a while, and none costs the request path anything."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from mcp_proxy.core.journal import By, Question, Row, Used
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import recording
from mcp_proxy.gateway.recording import Recorder
from tests.mcp_proxy.gateway.kit import HandClock
from tests.mcp_proxy.journal.test_sqlite import row
from tests.mcp_proxy.routing.seats import NOW


class FakeJournal:
    """A journal that cannot write until told otherwise."""

    def __init__(self) -> None:
        self.full = False
        self.rows: list[Row] = []
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.trims: list[Instant] = []
        self.old = 0
        self.closed = False

    def write(self, rows: Sequence[Row]) -> None:
        self.threads.add(threading.get_ident())
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.batches.append(len(rows))
        self.rows += rows

    def trim(self, before: Instant, at_most: int) -> int:
        self.trims.append(before)
        gone = min(self.old, at_most)
        self.old -= gone
        return gone

    def find(self, request: str | None) -> Row | None:
        return self.rows[-1] if self.rows else None

    def used(self, question: Question) -> Used:
        return Used(question.now, (), {})

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def recorder(journal: FakeJournal) -> AsyncIterator[Recorder]:
    made = Recorder(journal, HandClock(), 10)
    yield made
    await made.close()


def names(journal: FakeJournal) -> list[str]:
    return [each.request for each in journal.rows]


async def test_rows_are_made_and_written_in_their_order_by_one_thread_off_the_loop() -> None:
    journal = FakeJournal()
    made: set[int] = set()

    def making(number: int) -> Row:
        made.add(threading.get_ident())
        return row(f"{number}")

    async with recorder(journal) as keeping:
        for number in range(250):
            keeping.record(lambda number=number: making(number))  # type: ignore[misc]
        assert (journal.rows, made) == ([], set())
        await keeping.flush()
        assert names(journal) == [f"{number}" for number in range(250)]
        assert journal.batches == [recording.BATCH] * (250 // recording.BATCH)
        assert made == journal.threads and len(made) == 1 and threading.get_ident() not in made
    assert journal.closed


async def test_what_cannot_be_written_is_kept_said_once_and_written_later() -> None:
    journal = FakeJournal()
    journal.full = True
    async with recorder(journal) as keeping:
        with capture_logs() as said:
            for number in range(3):
                keeping.record(lambda number=number: row(f"{number}"))  # type: ignore[misc]
                await keeping.flush()
            assert [line["log_level"] for line in said] == ["error"]
            assert said[0]["error"] == "No space left on device"
            journal.full = False
            await keeping.flush()
        assert names(journal) == ["0", "1", "2"]
        assert [line["log_level"] for line in said] == ["error"]


async def test_a_row_is_made_once_however_often_it_cannot_be_written() -> None:
    journal, made = FakeJournal(), list[str]()
    journal.full = True

    def making() -> Row:
        made.append("1")
        return row("1")

    async with recorder(journal) as keeping:
        keeping.record(making)
        await keeping.flush()
        await keeping.flush()
        journal.full = False
    assert (made, names(journal)) == (["1"], ["1"])


async def test_of_too_many_rows_the_oldest_leave_and_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_QUEUED", 3)
    journal = FakeJournal()
    journal.full = True
    async with recorder(journal) as keeping:
        with capture_logs() as said:
            for number in range(5):
                keeping.record(lambda number=number: row(f"{number}"))  # type: ignore[misc]
            await keeping.flush()
            journal.full = False
            await keeping.flush()
        assert names(journal) == ["2", "3", "4"]
        assert [line["event"] for line in said if "dropped" in line["event"]] == [
            "journal rows are dropped, the oldest first",
            "journal rows were dropped",
        ]
        assert said[-1]["rows"] == 2


async def test_a_row_that_cannot_be_made_takes_no_other_along() -> None:
    journal = FakeJournal()
    async with recorder(journal) as keeping:
        keeping.record(lambda: row("1"))
        keeping.record(lambda: row("2", nothing="like this"))
        keeping.record(lambda: row("3"))
        with capture_logs() as said:
            await keeping.flush()
        assert names(journal) == ["1", "3"] and len(said) == 1


async def test_who_asks_is_told_of_what_has_just_ended() -> None:
    journal = FakeJournal()
    async with recorder(journal) as keeping:
        keeping.record(lambda: row("1"))
        assert await keeping.find(None) == row("1")
        keeping.record(lambda: row("2"))
        await keeping.used(Question(Instant(NOW), 1, By.KEY))
        assert names(journal) == ["1", "2"]


async def test_without_a_journal_nothing_is_kept_and_nothing_found() -> None:
    keeping = Recorder(None, HandClock())
    keeping.record(lambda: row("1"))
    assert await keeping.find(None) is None
    assert (await keeping.used(Question(Instant(NOW), 1, By.KEY))).tallies == ()
    await keeping.close()


async def test_it_writes_by_itself_and_forgets_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FLUSH_SECONDS", 0.001)
    journal = FakeJournal()
    journal.old = 2 * recording.TRIMMED_AT_ONCE + 7
    async with recorder(journal) as keeping:
        running = asyncio.get_running_loop().create_task(keeping.run())
        keeping.record(lambda: row("1"))
        async with asyncio.timeout(5):
            while journal.old or not journal.rows:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert journal.trims == [NOW - 10 * 86_400.0] * 3, "then not again for a while"


async def test_an_end_in_the_middle_of_writing_loses_nothing() -> None:
    journal, going, go = FakeJournal(), threading.Event(), threading.Event()
    write = journal.write

    def slowly(rows: Sequence[Row]) -> None:
        going.set()
        go.wait(5)
        write(rows)

    async with recorder(journal) as keeping:
        journal.write = slowly  # type: ignore[method-assign]
        keeping.record(lambda: row("1"))
        flushing = asyncio.get_running_loop().create_task(keeping.flush())
        await asyncio.to_thread(going.wait, 5)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        keeping.record(lambda: row("2"))
        behind = asyncio.get_running_loop().create_task(keeping.flush())
        await asyncio.sleep(0.01)  # the thread is busy still, and this one has not begun
        behind.cancel()
        await asyncio.gather(behind, return_exceptions=True)
        go.set()
    assert set(names(journal)) == {"1", "2"}, "written once more: the journal knows it already"
