"""The SQLite store keeps the contract of all stores, and a file that several processes and bad days can touch."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from mcp_proxy.core.change import StateStore
from mcp_proxy.state.sqlite import SqliteStore, StateTrouble
from tests.contracts.state_contract import NOW, StateContract, known, limited, quota, served, tallied, tripped

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes")


class TestSqliteStore(StateContract):
    @pytest.fixture
    def new(self, tmp_path: Path) -> Callable[[], StateStore]:
        numbers = itertools.count()
        return lambda: SqliteStore(tmp_path / f"{next(numbers)}" / "state.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def test_it_survives_the_process(path: Path) -> None:
    first = SqliteStore(path)
    first.save([quota(0.5, -1), limited(60, -1), served("s", -1)])
    first.close()
    assert known(SqliteStore(path)) == {quota(0.5, -1), limited(60, -1), served("s", -1)}


@posix_only
def test_only_the_owner_can_read_it(path: Path) -> None:
    store = SqliteStore(path)
    store.save([quota(0.5, -1)])
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) == 3, "the database, its log and its index"


@posix_only
def test_a_file_others_could_read_is_closed_to_them(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_stores_on_one_file_see_each_other(path: Path) -> None:
    one, two = SqliteStore(path), SqliteStore(path)
    one.save([quota(0.9, -20)])
    two.save([quota(0.1, -10)])
    one.save([quota(0.9, -20)])
    assert known(one) == known(two) == {quota(0.1, -10)}


WRITER = """
import sys
from pathlib import Path
from mcp_proxy.state.sqlite import SqliteStore
from tests.contracts.state_contract import served
store = SqliteStore(Path(sys.argv[1]))
for step in range(40):
    store.save([served(f"{sys.argv[2]}-{step}", at=step)])
"""


def test_several_processes_write_without_losing_anything(path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)]) for number in range(3)]
    assert [process.wait(30) for process in running] == [0, 0, 0]
    assert len(known(SqliteStore(path))) == 120


OPENER = """
import sys
from pathlib import Path
from mcp_proxy.state.sqlite import SqliteStore
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    SqliteStore(Path(sys.argv[1]) / str(number)).close()
"""


def test_who_opens_a_new_file_while_others_do_waits_for_them(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path)], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        for _ in range(4)
    ]
    for each in openers:
        assert each.stdout is not None and each.stdout.readline() == b"ready\n"
    for each in openers:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.flush()
    ended = [each.communicate(timeout=50)[1].decode() for each in openers]
    assert [each.returncode for each in openers] == [0] * 4, ended


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    broken = {
        "text": b"this is no database, and long enough to be looked at" * 20,
        "cut": whole[: len(whole) // 2],
        "overwritten": whole[:4096] + b"\xff" * (len(whole) - 4096),
    }
    path.write_bytes(broken[how])


@pytest.mark.parametrize("how", ["text", "cut", "overwritten"])
def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begun(path: Path, how: str) -> None:
    store = SqliteStore(path)
    store.save([served(f"{number}", at=number) for number in range(200)])
    store.close()
    said: list[str] = []
    for number in (1, 2):
        damage(path, how)
        broken = path.read_bytes()
        store = SqliteStore(path, say=said.append)
        assert known(store) == set()
        store.save([served(f"{number}", at=number) for number in range(200)])
        store.close()
        assert path.with_name(f"state.db.damaged-{number}").read_bytes() == broken
    assert len(said) == 2 and "state.db.damaged-2" in said[1] and "learnt anew" in said[1]


def test_damage_found_while_open_does_not_stop_the_store(path: Path) -> None:
    said: list[str] = []
    store = SqliteStore(path, say=said.append)
    store.save([served(f"{number}", at=number) for number in range(200)])
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.write(b"\x00" * 4096)
    SqliteStore(path, say=said.append).close()
    store.save([quota(0.5, -1)])
    assert said


def test_reading_only_writes_nothing(path: Path) -> None:
    absent = SqliteStore(path, read_only=True)
    assert list(absent.load(NOW)) == [] and not path.parent.exists()
    writer = SqliteStore(path)
    writer.save([quota(0.5, -1)])
    reader = SqliteStore(path, read_only=True)
    assert known(reader) == {quota(0.5, -1)}
    assert known(reader, now=90 * 86_400) == set()
    assert known(writer) == {quota(0.5, -1)}, "a reader forgets nothing for others"
    with pytest.raises(StateTrouble, match="reading only"):
        reader.save([quota(0.1, 0)])
    reader.close()


def test_a_damaged_file_is_left_alone_by_a_reader(path: Path) -> None:
    SqliteStore(path).close()
    damage(path, "text")
    broken, said = path.read_bytes(), list[str]()
    assert known(SqliteStore(path, read_only=True, say=said.append)) == set()
    assert path.read_bytes() == broken and "damaged" in said[0]


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert known(SqliteStore(path, read_only=True)) == set()
    store = SqliteStore(path)
    store.save([quota(0.5, -1)])
    assert known(store) == {quota(0.5, -1)}


def test_a_file_of_a_newer_version_is_refused_and_untouched(path: Path) -> None:
    SqliteStore(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StateTrouble, match="newer version") as caught:
        SqliteStore(path)
    assert caught.value.exit_code == 7
    assert [file.name for file in path.parent.glob("*damaged*")] == []


def test_an_older_file_gets_what_it_lacks_and_keeps_its_rows(path: Path) -> None:
    store = SqliteStore(path)
    store.save([quota(0.5, -1), served("s", -1)])
    store.close()
    older = sqlite3.connect(path)
    older.executescript("DROP TABLE breakers; DROP TABLE tallies; PRAGMA user_version = 1")
    older.close()
    assert known(SqliteStore(path, read_only=True)) == {quota(0.5, -1), served("s", -1)}
    store = SqliteStore(path)
    store.save([tripped(9, 0), tallied(3)])
    assert known(store) == {quota(0.5, -1), served("s", -1), tripped(9, 0), tallied(3)}
    assert known(SqliteStore(path, read_only=True)) == known(store)


def test_a_kind_of_limit_only_a_neighbour_knows_is_passed_over(path: Path) -> None:
    store = SqliteStore(path)
    store.save([quota(0.5, -1), limited(60, -1)])
    neighbour = sqlite3.connect(path)
    for table in ("quotas", "limits"):
        neighbour.execute(f"UPDATE {table} SET kind = 'of tomorrow'")
    neighbour.commit()
    neighbour.close()
    assert known(store) == set()


def test_a_lock_that_is_never_given_back_is_a_trouble_not_a_hang(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_proxy.disk.sqlite.BUSY_MS", 50)
    store = SqliteStore(path)
    store.save([quota(0.5, -1)])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateTrouble, match="locked"):
        store.save([quota(0.1, 0)])
    assert known(store) == {quota(0.5, -1)}, "reading goes on"
    holder.execute("ROLLBACK")
    store.save([quota(0.1, 0)])
    assert known(store) == {quota(0.1, 0)}
    holder.close()


def test_a_save_is_all_or_nothing(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StateTrouble):
        store.save([quota(0.5, -1), quota(0.5, float("nan"), bucket=limited(0, 0).limit.bucket)])
    assert known(store) == set()


def test_a_folder_in_its_place_is_a_trouble(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StateTrouble, match=r"directory|database file"):
        SqliteStore(path)


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StateTrouble, match="closed"):
        store.load(NOW)
