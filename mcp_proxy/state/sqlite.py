"""The default store: one SQLite file that the processes of one host share.

Limits and warm conversations can be learnt anew, so a damaged file is moved aside and a fresh one begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, Tallied, Tripped, Used
from mcp_proxy.core.ids import AccountId, Conversation, ModelId
from mcp_proxy.core.quota import Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.disk.sqlite import FileTrouble, NewerFile, SharedFile, is_damage, look_through, text, transaction
from mcp_proxy.state.worth import AHEAD, GRACE, MAX_CONVERSATIONS, REMEMBERED, STALE, TALLIED

VERSION = 2
"""Of the tables below, in the file's `user_version`. An older file is given those that it lacks, and keeps its rows."""

_TABLES = """
CREATE TABLE IF NOT EXISTS quotas (
  account TEXT NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL,
  left REAL, resets REAL, read_at REAL NOT NULL,
  PRIMARY KEY (account, bucket, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS limits (
  account TEXT NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL,
  until REAL NOT NULL, why TEXT NOT NULL, read_at REAL NOT NULL, strikes INTEGER NOT NULL,
  PRIMARY KEY (account, bucket, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS served (
  session TEXT NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL,
  account TEXT NOT NULL, at REAL NOT NULL, warm_until REAL NOT NULL,
  PRIMARY KEY (session, agent, model)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (account TEXT NOT NULL PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS breakers (
  subject TEXT NOT NULL PRIMARY KEY, failures INTEGER NOT NULL, trips INTEGER NOT NULL,
  until REAL NOT NULL, at REAL NOT NULL, status INTEGER NOT NULL, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tallies (
  account TEXT NOT NULL, slot REAL NOT NULL, writer TEXT NOT NULL, tokens INTEGER NOT NULL,
  PRIMARY KEY (account, slot, writer)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS served_at ON served (at, session, agent, model);
"""

# Each writes only over what `worth.order` calls smaller.
_KEEP_QUOTA = """
INSERT INTO quotas VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET left = excluded.left, resets = excluded.resets, read_at = excluded.read_at
WHERE (excluded.read_at, ifnull(excluded.left, -1.0), ifnull(excluded.resets, -1.0))
    > (quotas.read_at, ifnull(quotas.left, -1.0), ifnull(quotas.resets, -1.0))"""
_KEEP_LIMIT = """
INSERT INTO limits VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  until = excluded.until, why = excluded.why, read_at = excluded.read_at, strikes = excluded.strikes
WHERE (excluded.read_at, excluded.until, excluded.strikes, excluded.why)
    > (limits.read_at, limits.until, limits.strikes, limits.why)"""
_KEEP_SERVED = """
INSERT INTO served VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET account = excluded.account, at = excluded.at, warm_until = excluded.warm_until
WHERE (excluded.at, excluded.warm_until, excluded.account) > (served.at, served.warm_until, served.account)"""
_KEEP_USED = """
INSERT INTO used VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > used.at"""
_KEEP_BREAKER = """
INSERT INTO breakers VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET failures = excluded.failures, trips = excluded.trips, until = excluded.until,
  at = excluded.at, status = excluded.status, why = excluded.why
WHERE (excluded.at, excluded.trips, excluded.failures, excluded.until, excluded.status, excluded.why)
    > (breakers.at, breakers.trips, breakers.failures, breakers.until, breakers.status, breakers.why)"""
_KEEP_TALLY = """
INSERT INTO tallies VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET tokens = excluded.tokens WHERE excluded.tokens > tallies.tokens"""
_TRIM_SERVED = """
DELETE FROM served WHERE (session, agent, model) IN (
  SELECT session, agent, model FROM served ORDER BY at DESC, session DESC, agent DESC, model DESC LIMIT -1 OFFSET ?)"""

_KINDS = frozenset(kind.value for kind in Kind)
"""A neighbour of another version may write more; what we do not know we do not read."""

# The SQL of `worth.worth_keeping`, by table.
_WORTH = {
    "quotas": "ifnull(resets + :grace, read_at + :stale) > :now AND read_at <= :now + :ahead",
    "limits": "max(until, read_at) + :grace > :now AND read_at <= :now + :ahead",
    "served": "warm_until + :grace > :now AND at <= :now + :ahead",
    "used": "at + :remembered > :now AND at <= :now + :ahead",
    "breakers": "max(until, at) + :grace > :now AND at <= :now + :ahead",
    "tallies": "slot + :tallied > :now AND slot <= :now + :ahead",
}


StateTrouble = FileTrouble
"""The state file cannot be used or written; what it says is for people."""

NewerState = NewerFile
"""Written by a version of this program that knows more than this one."""


def _silent(message: str) -> None:
    """For who does not care."""


class SqliteStore:
    """A `StateStore` in one file; may be used from any thread, by several processes.

    say        told, in a sentence, when a damaged file was moved aside
    read_only  writes nothing, and an absent or damaged file is an empty store
    patient    a file that cannot be opened now is an empty store, and every save tries to open it again

    Raises `StateTrouble`.
    """

    def __init__(
        self, path: Path, *, say: Callable[[str], None] = _silent, read_only: bool = False, patient: bool = False
    ) -> None:
        lost = "limits and warm conversations are learnt anew"
        self._file = SharedFile(
            path, check=_check, prepare=_prepare, lost=lost, say=say, read_only=read_only, patient=patient
        )

    def load(self, now: Instant) -> Sequence[Change]:
        return self._file.read(lambda db: self._load(db, now), empty=())

    def save(self, changes: Sequence[Change]) -> None:
        if changes or self._file.read_only:
            self._file.write(lambda db: _save(db, changes), empty=None)

    def close(self) -> None:
        self._file.close()

    def _load(self, db: sqlite3.Connection, now: Instant) -> Sequence[Change]:
        when = {"now": now, "grace": GRACE, "stale": STALE, "ahead": AHEAD, "remembered": REMEMBERED}
        when["tallied"] = TALLIED
        if not self._file.read_only:
            _forget(db, when)
        known: tuple[Change, ...] = (*_quotas(db, when), *_limits(db, when), *_used(db, when), *_served(db, when))
        if self._file.read_only and db.execute("PRAGMA user_version").fetchone()[0] < 2:
            return known  # nobody has opened it for writing since it was of an older version
        return (*_breakers(db, when), *_tallies(db, when), *known)


def _check(db: sqlite3.Connection) -> bool:
    """Refuse what a newer version wrote, and what is damaged; whether the tables are there."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise NewerState(f"the state file was written by a newer version (tables {version}, known {VERSION})")
    look_through(db, tuple(_WORTH))
    return bool(version)


def _prepare(db: sqlite3.Connection) -> None:
    db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def _save(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    with transaction(db):
        for change in changes:
            if isinstance(change, QuotaRead):
                quota = change.quota
                account = text(change.account)
                db.execute(_KEEP_QUOTA, (account, *map(text, quota.bucket), quota.left, quota.resets, quota.read_at))
            elif isinstance(change, Limited):
                limit = change.limit
                closed = (limit.until, text(limit.why), limit.read_at, change.strikes)
                db.execute(_KEEP_LIMIT, (text(change.account), *map(text, limit.bucket), *closed))
            elif isinstance(change, Used):
                db.execute(_KEEP_USED, (text(change.account), change.at))
            elif isinstance(change, Tripped):
                breaker = change.breaker
                db.execute(_KEEP_BREAKER, (text(change.subject), *breaker[:-1], text(breaker.why)))
            elif isinstance(change, Tallied):
                tally = (text(change.account), change.slot, text(change.writer), change.tokens)
                db.execute(_KEEP_TALLY, tally)
            else:
                warm = (text(change.account), change.at, change.warm_until)
                db.execute(_KEEP_SERVED, (*map(text, change.conversation), *warm))
        (count,) = db.execute("SELECT count(*) FROM served").fetchone()
        if count > MAX_CONVERSATIONS:
            db.execute(_TRIM_SERVED, (MAX_CONVERSATIONS,))


def _forget(db: sqlite3.Connection, when: dict[str, float]) -> None:
    """Drop what is over. Housekeeping: where it cannot be done now, it is done another time."""
    try:
        for table, worth in _WORTH.items():
            db.execute(f"DELETE FROM {table} WHERE NOT ({worth})", when)  # noqa: S608 - our own names
    except sqlite3.OperationalError as error:
        if is_damage(error):
            raise


def _quotas(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[QuotaRead]:
    rows = db.execute(f"SELECT * FROM quotas WHERE {_WORTH['quotas']}", when)  # noqa: S608 - our own names
    for account, bucket, kind, left, resets, read_at in rows:
        if kind not in _KINDS:
            continue
        quota = Quota(Bucket(bucket, Kind(kind)), left, None if resets is None else Instant(resets), Instant(read_at))
        yield QuotaRead(AccountId(account), quota)


def _limits(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[Limited]:
    rows = db.execute(f"SELECT * FROM limits WHERE {_WORTH['limits']}", when)  # noqa: S608 - our own names
    for account, bucket, kind, until, why, read_at, strikes in rows:
        if kind not in _KINDS:
            continue
        limit = RateLimit(Bucket(bucket, Kind(kind)), Instant(until), why, Instant(read_at))
        yield Limited(AccountId(account), limit, strikes)


def _used(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[Used]:
    rows = db.execute(f"SELECT * FROM used WHERE {_WORTH['used']}", when)  # noqa: S608 - our own names
    for account, at in rows:
        yield Used(AccountId(account), Instant(at))


def _breakers(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[Tripped]:
    rows = db.execute(f"SELECT * FROM breakers WHERE {_WORTH['breakers']}", when)  # noqa: S608 - our own names
    for subject, failures, trips, until, at, status, why in rows:
        yield Tripped(subject, Breaker(failures, trips, Instant(until), Instant(at), status, why))


def _tallies(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[Tallied]:
    rows = db.execute(f"SELECT * FROM tallies WHERE {_WORTH['tallies']} ORDER BY slot", when)  # noqa: S608 - our own names
    for account, slot, writer, tokens in rows:
        yield Tallied(AccountId(account), Instant(slot), writer, tokens)


def _served(db: sqlite3.Connection, when: dict[str, float]) -> Iterator[Served]:
    order = "ORDER BY at, session, agent, model"
    rows = db.execute(f"SELECT * FROM served WHERE {_WORTH['served']} {order}", when)  # noqa: S608 - our own names
    for session, agent, model, account, at, warm_until in rows:
        conversation = Conversation(session, agent, ModelId(model))
        yield Served(conversation, AccountId(account), Instant(at), Instant(warm_until))
