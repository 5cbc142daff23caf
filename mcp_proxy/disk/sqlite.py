"""A SQLite file that processes share: made for the owner alone, followed when it is removed, moved aside when damaged.

Each who keeps tables in it has an object of this class, and with it a connection, of its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

BUSY_MS = 5_000
"""How long another process's write is waited for."""


class FileTrouble(OSError):
    """The file cannot be used or written; what it says is for people."""

    exit_code = 7

    def __str__(self) -> str:
        return str(self.args[0])


class NewerFile(FileTrouble):
    """Written by a version of this program that knows more than this one."""


class SharedFile:
    """One connection to the file; may be used from any thread.

    check      whether the tables are there at all; raises `NewerFile`, or `Damaged`
    prepare    makes the tables
    lost       what a person loses with a damaged file, as the end of a sentence
    say        told, in a sentence, when a damaged file was moved aside
    read_only  writes nothing, and an absent or damaged file is an empty one
    patient    a file that cannot be opened now is tried again with every use
    at_once    False: nothing is opened before the first use

    Raises `FileTrouble`.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: Callable[[sqlite3.Connection], bool],
        prepare: Callable[[sqlite3.Connection], None],
        lost: str,
        say: Callable[[str], None],
        read_only: bool = False,
        patient: bool = False,
        at_once: bool = True,
    ) -> None:
        self.path = path.absolute()
        self.read_only = read_only
        self._check, self._prepare, self._lost, self._say = check, prepare, lost, say
        self._lock = threading.Lock()
        self._closed = False
        self._opened: int | None = None  # the inode of the file behind the connection
        self._db: sqlite3.Connection | None = None
        if not at_once:
            return
        try:
            with self._lock, self._troubles():
                self._db = self._open_or_recover()
        except NewerFile:
            raise
        except FileTrouble as trouble:
            if not patient:
                raise
            self._say(f"{trouble}: {lost}")

    def read(self, work: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        """Look, or `empty` where there is no file."""
        with self._lock, self._troubles():
            if self._db is None and not self._closed:
                return empty
            return self._twice(work, empty)

    def write(self, work: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        """Change the file that stands at the path now. `empty` where even a fresh one cannot be had."""
        if self.read_only:
            raise FileTrouble(f"{self.path} was opened for reading only")
        with self._lock, self._troubles():
            self._follow_file()
            return self._twice(work, empty)

    def look(self, work: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        """Look through a connection of its own, for as long as it takes: whoever writes is not kept waiting."""
        with self._troubles():
            db = self._open_to_read()
            if db is None:
                return empty
            try:
                return work(db)
            finally:
                db.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _follow_file(self) -> None:
        """Have the file open that stands at the path: one that was removed would take writes and keep none."""
        if self._db is not None and self._opened != _inode(self.path):
            self._disconnect()
        if self._db is None and not self._closed:
            self._db = self._open_or_recover()

    def _twice(self, work: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        """Do it; where the file turns out damaged, once more on what is there then, and on a fresh one."""
        if self._db is None:
            if self.read_only:
                return empty
            raise FileTrouble(f"{self.path} is closed")
        try:
            return work(self._db)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._disconnect()
            self._db = self._open_or_recover()
        try:
            return empty if self._db is None else work(self._db)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) or self.read_only:
                raise
            self._disconnect()
            self._db = self._recover(proven=self._opened)  # what nobody looks through on opening is found in use
        return empty if self._db is None else work(self._db)

    def _open_or_recover(self) -> sqlite3.Connection | None:
        try:
            return self._open_to_read() if self.read_only else self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        if self.read_only:
            self._say(f"{self.path} is damaged; it is read as empty")
            return None
        return self._recover()

    def _recover(self, proven: int | None = None) -> sqlite3.Connection:
        """Move the damaged file aside, unless another process just did. proven: the inode of one that surely is."""
        from filelock import FileLock

        with FileLock(f"{self.path}.lock", timeout=BUSY_MS / 1000, mode=0o600):
            if proven is None or proven != _inode(self.path):
                try:
                    return self._open()
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
            aside = _move_aside(self.path)
            self._say(f"{self.path} was damaged: kept as {aside.name}; {self._lost}")
            return self._open()

    def _open_to_read(self) -> sqlite3.Connection | None:
        """None: there is nothing to read, or somebody is just making it."""
        if not self.path.exists() or not self.path.stat().st_size:
            return None
        db = _connected(f"{self.path.as_uri()}?mode=ro")
        try:
            made = self._check(db)
        except BaseException:
            db.close()
            raise
        if not made:
            db.close()
            return None
        return db

    def _open(self) -> sqlite3.Connection:
        _make_folder(self.path.parent)
        # Born 0600; SQLite gives its -wal and -shm files the mode of the database. One that is there already is never
        # opened by us: to close it would give back the locks of every connection of this process (fcntl, POSIX).
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if os.name == "posix" and self.path.stat().st_mode & 0o077:
            self.path.chmod(0o600)
        self._opened = _inode(self.path)
        db = _connected(self.path.as_uri())
        try:
            self._check(db)  # first: what it refuses is not even marked
            _read_beside_a_writer(db)
            db.execute("PRAGMA synchronous = NORMAL")
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """SQLite's errors and the system's as `FileTrouble`."""
        try:
            yield
        except FileTrouble:
            raise
        except sqlite3.Error as error:
            raise FileTrouble(f"{self.path}: {error}") from error
        except OSError as error:
            raise FileTrouble(f"{self.path}: {error.strerror or error}") from error


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _make_folder(folder: Path) -> None:
    """With its missing parents, each for the owner alone: `mkdir` would leave the parents to the umask."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _connected(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All that is written in it, or nothing; whoever else writes meanwhile is waited for."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def text(value: str) -> str:
    """What SQLite can hold: a client's lone surrogate is no text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def look_through(db: sqlite3.Connection, tables: Sequence[str]) -> None:
    """Raise `Damaged` where one of these tables, as far as they are there, is not sound.

    Only these: what others keep in the file may be large, and would be read whole with each start.
    """
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in tables:
        if table in there:
            (verdict,) = db.execute(f"PRAGMA quick_check({table})").fetchone()
            if verdict != "ok":
                raise Damaged(verdict)


def _read_beside_a_writer(db: sqlite3.Connection) -> None:
    """Write ahead. Alone of all statements the change waits for nobody who has just opened the file, too."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


class Damaged(sqlite3.DatabaseError):
    """The file can be opened, but is not sound."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is broken, and no retry will do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _move_aside(path: Path) -> Path:
    """`state.db` and what SQLite keeps beside it, under the first free `.damaged-N`."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    return aside
