"""The journal in the state's file: what is written is found, summed up and forgotten, and neither harms the other."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcp_proxy.core.journal import By, Detail, Medians, Question, Row, Standing, pack
from mcp_proxy.core.time import Instant
from mcp_proxy.disk.sqlite import FileTrouble
from mcp_proxy.journal.sqlite import SqliteJournal
from mcp_proxy.state.sqlite import SqliteStore
from tests.contracts.state_contract import NOW, known, quota

DAY = 86_400.0


def row(request: str, **how: Any) -> Row:
    """A request that was answered, ten seconds ago."""
    fields: dict[str, Any] = {
        "begun": Instant(NOW - 10), "total": 2.0, "first": 0.5, "asked": "m", "model": "glm", "provider": "zai",
        "account": "a1", "outcome": "ok", "status": 200, "reason": "sticky", "stream": True, "attempts": 1,
        "input": 100, "cache_read": 10, "cache_write": 1, "output": 50,
        "detail": pack(Detail(("tier",), (Standing("a1", "zai", model="m", rank=(1,)),))),
    }  # fmt: skip
    return Row(**{**fields, "request": request, **how})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def question(by: By = By.MODEL, **how: Any) -> Question:
    return replaced(Question(Instant(NOW), 7, by), **how)


def test_a_row_is_found_by_either_id_and_the_newest_without_one(path: Path) -> None:
    first, second = row("req_1", upstream="up_1", reasoning=7, hour=True), row("req_2", model=None, upstream=None)
    journal = SqliteJournal(path)
    assert journal.find(None) is None, "nothing was ever written"
    journal.write([first, second])
    assert (journal.find("req_1"), journal.find("up_1")) == (first, first)
    assert (journal.find(None), journal.find("req_2")) == (second, second)
    assert journal.find("req_3") is None and journal.find("\ud800") is None
    journal.close()
    assert SqliteJournal(path).find("req_1") == first, "by another process"


def test_a_row_that_is_there_already_stays_as_it_is(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row("req_1")])
    journal.write([row("req_1", status=500), row("req_2")])
    found = journal.find("req_1")
    assert found is not None and found.status == 200
    assert sum(tally.requests for tally in journal.used(question()).tallies) == 2
    journal.close()


def test_a_text_that_is_none_is_kept_as_far_as_it_is_one(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row("req_1", asked="m\ud800ö")])
    found = journal.find("req_1")
    assert found is not None and found.asked == "m?ö"
    journal.close()


def test_usage_is_summed_up_by_everything_that_can_be_asked_for(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write(
        [
            row("1"),
            row("2", reasoning=5, attempts=2, hour=True),
            row("3", account="a2", provider="kimi", model="k2", outcome="cut", begun=Instant(NOW - 2 * DAY)),
            row("4", account=None, provider=None, model=None, outcome="failed", input=None, output=None, first=None),
            row("5", outcome="client_gone", key="other"),
            row("6", begun=Instant(NOW - 9 * DAY)),
        ]
    )
    found = {by: journal.used(question(by)) for by in By}
    for by, used in found.items():
        assert sum(tally.requests for tally in used.tallies) == 5, by
        assert NOW - 7 * DAY <= used.since <= NOW - 6 * DAY, "whole days of this machine"
    groups = {by: {tally.group for tally in used.tallies} for by, used in found.items()}
    assert groups[By.ACCOUNT] == {"a1", "a2", ""} and groups[By.PROVIDER] == {"zai", "kimi", ""}
    assert groups[By.MODEL] == {"glm", "k2", ""} and groups[By.KEY] == {"default", "other"}
    assert len(groups[By.DAY]) == 2
    glm = next(tally for tally in found[By.MODEL].tallies if tally.group == "glm")
    assert (glm.requests, glm.failovers, glm.errors, glm.input, glm.output, glm.reasoning) == (3, 1, 0, 300, 150, 5)
    assert (glm.cache_write, glm.cache_write_hour) == (3, 1)
    assert sum(tally.errors for tally in found[By.KEY].tallies) == 2, "a client that leaves is no error"
    assert next(tally for tally in found[By.MODEL].tallies if tally.group == "k2").reasoning is None
    assert [tally.group for tally in journal.used(question(provider="kimi")).tallies] == ["k2"]
    assert {tally.period for tally in journal.used(question(borders=(Instant(NOW - DAY),))).tallies} == {0, 1}
    journal.close()


@pytest.mark.parametrize(("seconds", "median"), [([1.0], 1.0), ([3.0, 1.0], 2.0), ([9.0, 1.0, 2.0], 2.0)])
def test_medians_are_of_what_was_answered(path: Path, seconds: list[float], median: float) -> None:
    journal = SqliteJournal(path)
    rows = [row(f"{number}", first=each, total=each + 1) for number, each in enumerate(seconds)]
    journal.write([*rows, row("none", first=None, total=1000.0)])
    medians = journal.used(question()).medians
    assert medians == {None: Medians(median, median + 1), "glm": Medians(median, median + 1)}
    journal.close()


def test_what_is_old_is_forgotten_some_at_a_time(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row(f"{number}", begun=Instant(NOW - number * DAY)) for number in range(10)])
    before = Instant(NOW - 5.5 * DAY)
    assert [journal.trim(before, 3) for _ in range(3)] == [3, 1, 0]
    assert journal.find("5") is not None and journal.find("6") is None
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM journal_detail").fetchone() == (6,)
    journal.close()


def test_state_and_journal_live_in_one_file_whoever_comes_first(path: Path) -> None:
    for number in (1, 2):
        file = path.with_name(f"{number}.db")
        journal, store = SqliteJournal(file), None
        if number == 1:
            store = SqliteStore(file)
        journal.write([row("req_1")])
        store = store or SqliteStore(file)
        store.save([quota(0.5, -1)])
        journal.write([row("req_2")])
        assert known(store) == {quota(0.5, -1)} and journal.find("req_2") is not None
        with contextlib.closing(sqlite3.connect(file)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.close()
        journal.close()


def test_damage_moves_the_file_aside_and_both_go_on(path: Path) -> None:
    said: list[str] = []
    store, journal = SqliteStore(path), SqliteJournal(path, say=said.append)
    journal.write([row(f"{number}", detail=os.urandom(2000)) for number in range(300)])
    store.save([quota(0.5, -1)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'journal'").fetchone()
        db.execute("PRAGMA user_version = 1")  # so that no connection trusts what it remembers of the pages
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    journal.write([row("after")])
    assert len(said) == 1 and "state.db.damaged-1" in said[0] and "journal begins anew" in said[0]
    store.save([quota(0.4, 0)])
    assert known(store) == {quota(0.4, 0)}, "it follows"
    assert journal.find("after") is not None and journal.find("1") is None
    store.close()
    journal.close()


def test_a_file_that_is_removed_takes_no_row_along_that_comes_later(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row("req_1")])
    for file in path.parent.iterdir():
        file.unlink()
    journal.write([row("req_2")])
    assert journal.find("req_2") is not None and journal.find("req_1") is None
    journal.close()


def test_what_a_newer_version_wrote_is_left_alone_and_the_state_is_not(path: Path) -> None:
    SqliteJournal(path).write([row("req_1")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE journal_version SET version = 99")
    journal = SqliteJournal(path)
    with pytest.raises(FileTrouble, match="newer version"):
        journal.write([row("req_2")])
    with pytest.raises(FileTrouble, match="newer version"):
        journal.find(None)
    SqliteStore(path).close()
    assert [file.name for file in path.parent.glob("*damaged*")] == []


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_only_the_owner_can_read_it(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row("req_1")])
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    journal.close()


def test_who_looks_keeps_no_writer_waiting(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write([row("req_1")])
    journal._file.look(lambda db: (db.execute("BEGIN"), db.execute("SELECT * FROM journal").fetchone(),
                                   journal.write([row("req_2")])), empty=None)  # fmt: skip
    assert journal.find("req_2") is not None
    journal.close()


def test_opening_the_file_gives_no_lock_of_this_process_back(path: Path) -> None:
    """An end of any descriptor of a file gives back all locks that its process has on it (POSIX): SQLite's too.

    Then another process that closes takes the log away, and with it what is written later.
    """
    store = SqliteStore(path)
    store.save([quota(0.5, -1)])
    journal = SqliteJournal(path)
    journal.write([row("req_1")])
    assert _closed_by_another(path), "the log is still there"
    journal.write([row("req_2")])
    store.save([quota(0.4, 0)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM journal").fetchone() == (2,)
    store.close()
    journal.close()


def _closed_by_another(path: Path) -> bool:
    import subprocess
    import sys

    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM used'); db.close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    return path.with_name(f"{path.name}-wal").exists()


@pytest.mark.slow
def test_half_a_million_rows_are_summed_up_within_seconds_and_slow_no_start(path: Path) -> None:
    journal = SqliteJournal(path)
    for start in range(0, 500_000, 5000):
        journal.write(
            [
                msgspec.structs.replace(row(f"req_{n}"), begun=Instant(NOW - n * 5), total=n % 977 / 10, detail=b"")
                for n in range(start, start + 5000)
            ]
        )
    begun = time.perf_counter()
    assert sum(tally.requests for tally in journal.used(question(days=90)).tallies) == 500_000
    assert time.perf_counter() - begun < 20, "four, on an idle machine"
    begun = time.perf_counter()
    SqliteStore(path).close()
    assert time.perf_counter() - begun < 0.5
    journal.close()
