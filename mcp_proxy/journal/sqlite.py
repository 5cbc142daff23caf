"""The journal in the state's SQLite file, in tables and over a connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mcp_proxy.core.journal import By, Medians, Question, Row, Tally, Used
from mcp_proxy.core.time import Instant
from mcp_proxy.disk.sqlite import NewerFile, SharedFile, text, transaction

VERSION = 1
"""Of the tables below, in one of their own: the file's `user_version` is the state's."""

# What is summed up stands apart from what only `why` reads: a sum over half a million rows reads the small part.
_TABLES = """
CREATE TABLE IF NOT EXISTS journal_version (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS journal (
  id INTEGER PRIMARY KEY, request TEXT NOT NULL UNIQUE, upstream TEXT, begun REAL NOT NULL, first REAL,
  total REAL NOT NULL, session TEXT NOT NULL, key TEXT NOT NULL, caller TEXT NOT NULL, asked TEXT NOT NULL,
  model TEXT, provider TEXT, account TEXT, outcome TEXT NOT NULL, status INTEGER NOT NULL, reason TEXT NOT NULL,
  stream INTEGER NOT NULL, waited INTEGER NOT NULL, hour INTEGER NOT NULL, attempts INTEGER NOT NULL,
  input INTEGER, cache_read INTEGER, cache_write INTEGER, output INTEGER, reasoning INTEGER);
CREATE TABLE IF NOT EXISTS journal_detail (id INTEGER PRIMARY KEY, detail BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS journal_upstream ON journal (upstream) WHERE upstream IS NOT NULL;
CREATE INDEX IF NOT EXISTS journal_begun ON journal (begun);
"""
_MARK = "INSERT INTO journal_version SELECT ? WHERE NOT EXISTS (SELECT * FROM journal_version)"

_COLUMNS = tuple(name for name in Row.__struct_fields__ if name != "detail")
_NAMES = ", ".join(_COLUMNS)
_ADD = f"INSERT OR IGNORE INTO journal ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own
_ADD_DETAIL = "INSERT INTO journal_detail VALUES (?, ?)"
_LOOK = f"SELECT {_NAMES}, detail FROM journal LEFT JOIN journal_detail USING (id)"  # noqa: S608 - our own names

_SINCE = "SELECT cast(strftime('%s', ?, 'unixepoch', 'localtime', 'start of day', ?, 'utc') AS REAL)"
_GROUPS = {
    By.ACCOUNT: "ifnull(account, '')",
    By.MODEL: "ifnull(model, '')",
    By.PROVIDER: "ifnull(provider, '')",
    By.DAY: "date(begun, 'unixepoch', 'localtime')",
    By.KEY: "key",
}
_WHERE = "begun >= :since AND (:provider IS NULL OR provider = :provider)"
_TALLIES = """
SELECT {group} AS what, ifnull(provider, ''), ifnull(model, ''), {period} AS period, count(*), sum(attempts > 1),
  sum(outcome IN ('failed', 'cut', 'error_event')), total(input), total(cache_read), total(cache_write),
  total(iif(hour, cache_write, 0)), total(output), sum(reasoning)
FROM journal WHERE {where} GROUP BY what, provider, model, period"""
_MEDIANS = """
SELECT what, avg(seconds) FROM (
  SELECT {group} AS what, {column} AS seconds, row_number() OVER (PARTITION BY {group} ORDER BY {column}) AS place,
    count(*) OVER (PARTITION BY {group}) AS size
  FROM journal WHERE {where} AND first IS NOT NULL)
WHERE place IN ((size + 1) / 2, (size + 2) / 2) GROUP BY what"""


def _silent(message: str) -> None:
    """For who does not care."""


class SqliteJournal:
    """A `Journal` in one file; may be used from any thread, by several processes.

    say  told, in a sentence, when a damaged file was moved aside

    The file is opened by the first write, and by each that follows one that could not. Raises `FileTrouble`.
    """

    def __init__(self, path: Path, *, say: Callable[[str], None] = _silent) -> None:
        lost = "the journal begins anew"
        self._file = SharedFile(path, check=_check, prepare=_prepare, lost=lost, say=say, at_once=False)

    def write(self, rows: Sequence[Row]) -> None:
        if rows:
            self._file.write(lambda db: _write(db, rows), empty=None)

    def trim(self, before: Instant, at_most: int) -> int:
        return self._file.write(lambda db: _trim(db, before, at_most), empty=0)

    def find(self, request: str | None) -> Row | None:
        return self._file.look(lambda db: _find(db, request), empty=None)

    def used(self, question: Question) -> Used:
        return self._file.look(lambda db: _used(db, question), empty=Used(question.now, (), {}))

    def close(self) -> None:
        self._file.close()


def _check(db: sqlite3.Connection) -> bool:
    """Refuse what a newer version wrote; whether the tables are there.

    They are not looked through: they may be large, and damage in them is found in use.
    """
    try:
        (version,) = db.execute("SELECT max(version) FROM journal_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # nothing else tells it
            return False
        raise
    if version is not None and version > VERSION:
        raise NewerFile(f"the journal was written by a newer version (tables {version}, known {VERSION})")
    return version is not None


def _prepare(db: sqlite3.Connection) -> None:
    with transaction(db):
        for statement in filter(str.strip, _TABLES.split(";")):
            db.execute(statement)
        db.execute(_MARK, (VERSION,))


def _write(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Row by row: with each statement the interpreter's lock is free for others."""
    with transaction(db):
        for row in rows:
            *values, detail = msgspec.structs.astuple(row)
            added = db.execute(_ADD, [text(value) if isinstance(value, str) else value for value in values])
            if added.rowcount:
                db.execute(_ADD_DETAIL, (added.lastrowid, detail))


def _trim(db: sqlite3.Connection, before: Instant, at_most: int) -> int:
    with transaction(db):
        old = db.execute("SELECT id FROM journal WHERE begun < ? LIMIT ?", (before, at_most)).fetchall()
        for table in ("journal", "journal_detail"):
            db.executemany(f"DELETE FROM {table} WHERE id = ?", old)  # noqa: S608 - our own names
    return len(old)


def _find(db: sqlite3.Connection, request: str | None) -> Row | None:
    if request is None:
        found = db.execute(f"{_LOOK} ORDER BY id DESC LIMIT 1").fetchone()
    else:
        asked = (text(request),)
        found = db.execute(f"{_LOOK} WHERE request = ?", asked).fetchone()
        found = found or db.execute(f"{_LOOK} WHERE upstream = ? ORDER BY id DESC LIMIT 1", asked).fetchone()
    if found is None:
        return None
    known = dict(zip((*_COLUMNS, "detail"), found, strict=True))
    flags = {name: bool(known[name]) for name in ("stream", "waited", "hour")}
    return Row(**{**known, **flags, "detail": known["detail"] or b""})


def _used(db: sqlite3.Connection, question: Question) -> Used:
    (since,) = db.execute(_SINCE, (question.now, f"-{question.days - 1} days")).fetchone()
    when = {"since": since, "provider": question.provider}
    borders = {f"border{number}": border for number, border in enumerate(question.borders)}
    period = " + ".join(f"(begun >= :{name})" for name in borders) or "0"
    group = _GROUPS[question.by]
    tallies = db.execute(_TALLIES.format(group=group, period=period, where=_WHERE), when | borders)
    return Used(
        since=Instant(since),
        tallies=[_tally(*columns) for columns in tallies],
        medians=_medians(db, group, when),
    )


def _tally(
    group: str,
    provider: str,
    model: str,
    period: int,
    requests: int,
    failovers: int,
    errors: int,
    *tokens: float | None,
) -> Tally:
    """A line of `_TALLIES`: totals are floats there, so that they cannot overflow."""
    fresh, read, written, hourly, output = (int(each or 0) for each in tokens[:5])
    thought = None if tokens[5] is None else int(tokens[5])
    counts = (requests, failovers, errors, fresh, read, written, hourly, output)
    return Tally(group, provider, model, period, *counts, thought)


def _medians(db: sqlite3.Connection, group: str, when: dict[str, object]) -> dict[str | None, Medians]:
    """By group, and of all: sorted by SQLite, in whose hands nobody waits for this thread."""

    def of(group: str, column: str) -> dict[str | None, float]:
        return dict(db.execute(_MEDIANS.format(group=group, column=column, where=_WHERE), when).fetchall())

    first = of(group, "first") | of("NULL", "first")
    total = of(group, "total") | of("NULL", "total")
    return {what: Medians(first.get(what), total.get(what)) for what in first.keys() | total.keys()}
