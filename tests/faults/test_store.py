"""S1 to S8: disks that are full, stores that vanish, writers that are killed, keys that change half-way.

What a single call of the system does to the store is in tests/accounts/vault/: `test_processes.py` (S1),
`test_faults.py` (S2, S3), `test_damage.py` (S5), `test_modes.py` (S7) and `test_rekey.py` (S8). Here are the program
around it, and what is between two calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from accounts.model import Account, AccountId, ApiKey, Entry, Secret
from accounts.vault import seal
from accounts.vault.errors import NotSaved, WrongKey
from accounts.vault.keys import KeyInUse, read_key_file
from accounts.vault.seal import Key, KeySource
from accounts.vault.vault import Vault
from mcp_proxy.cli.adapters import server_running
from mcp_proxy.core.change import Change
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.keeping import Keeper
from mcp_proxy.state.sqlite import NewerState, SqliteStore
from tests.accounts.kit import (
    REPOSITORY,
    CountingFiles,
    FailingFiles,
    MemoryKeychain,
    entry,
    filled,
    leftovers,
    sources,
    vault_in,
)
from tests.contracts.state_contract import NOW, known, quota
from tests.faults import speech
from tests.faults.process import (
    WHOLE,
    Process,
    accounts,
    environment,
    messages,
    proxy,
    served,
    store_is_whole,
    until,
    vault_of,
)
from tests.faults.upstream import Talk, Upstream, saying, upstream
from tests.faults.writer import key_of

STORED = (entry(1), entry(2))
REFUSED = messages(saying(speech.refusal(401, "authentication_error")))
FULL = messages(saying(speech.refusal(429, "rate_limit_error", "slow down", "retry-after: 900")))
SOUND = messages(saying(WHOLE))

linux_only = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="processes as Linux has them")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    return made


# S2, S3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EINTR])
def test_whichever_call_fails_what_was_said_to_be_saved_is_saved(tmp_path: Path, number: int) -> None:
    """S2. No failure is swallowed: without an error of its own the change is there."""
    filled(vault_in(tmp_path / "home"), STORED)
    failures = 0
    for at in itertools.count(1):
        copy = Path(shutil.copytree(tmp_path / "home", tmp_path / f"home-{at}"))
        files = FailingFiles(at, number)
        try:
            vault_in(copy, files).change(AccountId("id0001"), lambda account: replace(account, tier=7))
        except NotSaved:
            failures += 1
        else:
            assert vault_in(copy).entries()[0].account.tier == 7, f"call {at}"
        if not files.failed:
            break
    assert failures >= 8


class Recording(CountingFiles):
    """What becomes visible under which name, and which folder is flushed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.order.append(target.name)

    def fsync_folder(self, folder: Path) -> None:
        super().fsync_folder(folder)
        self.order.append(f"{folder.name}/")


def test_a_key_is_on_the_disk_before_anything_is_sealed_with_it_and_until_nothing_is(tmp_path: Path) -> None:
    """S3, S8. A power cut at any moment leaves a store and the key that opens it."""
    files = Recording()
    filled(vault_in(tmp_path, files), [entry(1)])
    assert files.order[-4:] == ["vault.key", "config/", "accounts.json", "data/"]
    files = Recording()
    filled(vault_in(tmp_path, files), [entry(2)])
    vault_in(tmp_path, files).rekey(KeySource.FILE)
    new, store, backup, old = ["vault.key", "config/"], ["accounts.json", "data/"], ["accounts.json.bak", "data/"], 2
    assert files.order == [*backup, *store, *new, *store, *backup, *new]
    keys = read_key_file(tmp_path / "config" / "vault.key")
    assert keys is not None and len(keys) == 1 < old


# S4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes what room there is."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def bytes_of(home: Path) -> dict[str, bytes]:
    """The files that hold what a person would miss."""
    return {name: (home / name).read_bytes() for name in ("accounts.json", "accounts.json.bak", "vault.key")}


def not_saved(running: Process) -> tuple[int, int]:
    """How often it said so of the accounts, and of the limits."""
    return len(running.said("invalid mark not saved")), len(running.said("limits are not saved"))


async def trouble_and_back(home: Path, *, begin: Callable[[], None], end: Callable[[], None], again: bool) -> None:
    """A credential is refused and a limit learnt while nothing can be saved; what comes of it then, and after it.

    again  look also at what the next start knows
    """
    async with upstream(REFUSED) as bad, upstream(FULL) as full, upstream(SOUND) as up:
        accounts(home, bad, full, up)
        before = bytes_of(home)
        async with served(home) as running:
            begin()
            for _ in range(3):
                assert (await running.ask()).status_code == 200
            await until(lambda: not_saved(running) == (1, 1))
            for _ in range(3):
                assert (await running.ask()).status_code == 200
            assert (len(bad.asked()), len(full.asked())) == (1, 1), "in memory it is known"
            await asyncio.sleep(1.6)  # it tries again, and says no more
            assert not_saved(running) == (1, 1)
            end()
            await until(lambda: running.said("limits are saved again"))
            await until(lambda: vault_of(home).entries()[0].account.invalid, 12)
            assert running.tracebacks() == []
            assert len(running.said()) < 20
            running.signal()
            assert await running.ended() == 0
        after = bytes_of(home)
        assert after["vault.key"] == before["vault.key"]
        assert after["accounts.json.bak"] == before["accounts.json"], "one generation on from what was there"
        if again:
            async with served(home) as running:
                assert (await running.ask()).status_code == 200
                assert (len(bad.asked()), len(full.asked())) == (1, 1), "both are known from before"
                running.signal()
                assert await running.ended() == 0
    store_is_whole(home, {"a0", "a1", "a2"})


@linux_only
async def test_on_a_full_disk_it_serves_from_memory_says_so_once_and_saves_when_there_is_room(small_disk: Path) -> None:
    """S4."""
    home = small_disk / "home"
    home.mkdir(mode=0o700)

    def begin() -> None:
        fill(small_disk)
        before = bytes_of(home)
        run = proxy(home, "accounts", "disable", "a2")
        assert run.returncode == 7 and "No space left" in run.stderr and len(run.stderr.splitlines()) <= 2, run.stderr
        assert bytes_of(home) == before and leftovers(home) == []

    await trouble_and_back(home, begin=begin, end=(small_disk / "filler").unlink, again=True)


@linux_only
async def test_with_its_store_deleted_it_serves_from_memory_and_makes_no_new_one(home: Path) -> None:
    """S4. Neither an empty store nor a new key stands in the place of what was there."""
    aside = home.with_name("aside")

    def begin() -> None:
        aside.mkdir()
        for path in [*home.glob("accounts.json*"), *home.glob("vault.key*"), *home.glob("state.db*")]:
            path.rename(aside / path.name)
        (home / "state.db").mkdir()

    def end() -> None:
        assert not (home / "accounts.json").exists() and not (home / "vault.key").exists()
        (home / "state.db").rmdir()
        for path in aside.iterdir():
            path.rename(home / path.name)

    await trouble_and_back(home, begin=begin, end=end, again=False)


@linux_only
@pytest.mark.slow
async def test_with_its_folder_removed_it_serves_from_memory_and_takes_it_up_again(home: Path) -> None:
    """S4."""
    aside = home.with_name("aside")
    async with upstream(FULL) as full, upstream(SOUND) as up:
        accounts(home, full, up)
        async with served(home) as running:
            home.rename(aside)
            for _ in range(3):
                assert (await running.ask()).status_code == 200
            await until(lambda: running.said("account store unreadable, serving from memory"))
            await until(lambda: (home / "state.db").exists())
            assert stat.S_IMODE(home.stat().st_mode) == 0o700
            assert sorted(path.name for path in home.iterdir() if not path.name.startswith("state.db")) == []
            await asyncio.sleep(0.7)
            assert len(running.said("unreadable")) == 1
            for path in [*aside.glob("accounts.json*"), *aside.glob("vault.key*")]:
                path.rename(home / path.name)
            assert proxy(home, "accounts", "disable", "a0").returncode == 0
            await until(lambda: running.said("accounts reloaded"))
            assert running.tracebacks() == []
            running.signal()
            assert await running.ended() == 0
        assert len(full.asked()) == 1
    store_is_whole(home, {"a0", "a1"})


@linux_only
@pytest.mark.slow
async def test_limits_go_on_being_kept_where_their_file_was_deleted(home: Path) -> None:
    """S4. A deleted file that is still open would take every write and keep none."""
    async with upstream(FULL) as full, upstream(SOUND) as up:
        accounts(home, full, up)
        async with served(home) as running:
            for path in home.glob("state.db*"):
                path.unlink()
            assert (await running.ask()).status_code == 200
            await until(lambda: (home / "state.db").exists())
            running.signal()
            assert await running.ended() == 0
            assert not running.said("not saved")
        async with served(home) as running:
            assert (await running.ask()).status_code == 200
            assert len(full.asked()) == 1, "known from before"
            running.signal()
            assert await running.ended() == 0
    store_is_whole(home, {"a0", "a1"})


@linux_only
@pytest.mark.slow
async def test_on_a_disk_for_reading_only_it_starts_and_serves_and_saves_once_it_can(small_disk: Path) -> None:
    """S4."""
    home = small_disk / "home"
    home.mkdir(mode=0o700)

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    async with upstream(REFUSED) as bad, upstream(FULL) as full, upstream(SOUND) as up:
        accounts(home, bad, full, up)
        remount("ro")
        before = bytes_of_store(home)
        async with served(home) as running:
            assert len(running.said("state.db")) == 1, running.said()
            for _ in range(3):
                assert (await running.ask()).status_code == 200
            await until(lambda: not_saved(running) == (1, 1))
            run = proxy(home, "accounts", "disable", "a2")
            assert run.returncode == 7 and "Read-only" in run.stderr and len(run.stderr.splitlines()) <= 2, run.stderr
            assert bytes_of_store(home) == before
            remount("rw")
            await until(lambda: running.said("limits are saved again"))
            await until(lambda: vault_of(home).entries()[0].account.invalid, 12)
            assert running.tracebacks() == []
            running.signal()
            assert await running.ended() == 0
        assert (len(bad.asked()), len(full.asked())) == (1, 1)
    store_is_whole(home, {"a0", "a1", "a2"})


def bytes_of_store(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="an open file can be deleted")
def test_a_state_file_that_was_deleted_or_replaced_is_begun_anew_and_kept_in(tmp_path: Path) -> None:
    """S4. A deleted file that is still open would take every write and keep none."""
    path = tmp_path / "state" / "state.db"
    store = SqliteStore(path)
    store.save([quota(0.5, -9)])
    for take_away in (lambda: [each.unlink() for each in path.parent.iterdir()], lambda: shutil.rmtree(path.parent)):
        take_away()
        store.save([quota(0.4, -5)])
        with contextlib.closing(SqliteStore(path)) as other:
            assert known(other) == {quota(0.4, -5)}
    with contextlib.closing(SqliteStore(path.with_name("spare.db"))) as spare:
        spare.save([quota(0.3, -3)])
    path.with_name("spare.db").replace(path)
    store.save([quota(0.2, -1)])
    store.close()
    with contextlib.closing(SqliteStore(path)) as other:
        assert known(other) == {quota(0.2, -1)}


def test_a_state_file_that_cannot_be_opened_yet_is_empty_and_a_save_tries_anew(tmp_path: Path) -> None:
    """S4."""
    path, said = tmp_path / "state.db", list[str]()
    path.mkdir()
    store = SqliteStore(path, patient=True, say=said.append)
    assert list(store.load(NOW)) == [] and len(said) == 1 and str(path) in said[0]
    for _ in range(2):
        with pytest.raises(OSError, match=r"state\.db"):
            store.save([quota(0.5, -1)])
    path.rmdir()
    store.save([quota(0.5, -1)])
    assert known(store) == {quota(0.5, -1)}
    store.close()
    with pytest.raises(OSError, match="closed"):
        store.save([quota(0.5, -1)])


def test_a_state_file_of_a_newer_version_is_refused_even_by_the_patient(tmp_path: Path) -> None:
    """S4, S5."""
    import sqlite3

    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    content = path.read_bytes()
    with pytest.raises(NewerState):
        SqliteStore(path, patient=True)
    assert path.read_bytes() == content


@dataclass
class Memory:
    """A state store that keeps what it is given."""

    saved: list[Change] = field(default_factory=list)

    def load(self, now: Instant) -> Sequence[Change]:
        return self.saved

    def save(self, changes: Sequence[Change]) -> None:
        self.saved.extend(changes)

    def close(self) -> None: ...


async def test_a_save_that_is_cancelled_before_a_thread_took_it_up_is_made_later() -> None:
    """S4, P4. Going down cancels what is under way, and saves what is left."""
    store, busy = Memory(), threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        threads.submit(busy.wait, 5)
        keeper = Keeper(store)
        keeper.record(quota(0.5, -1))
        saving = loop.create_task(keeper.flush())
        await asyncio.sleep(0)
        keeper.record(quota(0.4, 0))
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        busy.set()
        assert store.saved == []
        await keeper.flush()
    assert store.saved == [quota(0.5, -1), quota(0.4, 0)]


# S5


def test_a_key_that_differs_in_one_of_its_two_marks_is_another_key() -> None:
    """S5. A header that names our key but was made with another, or the other way round."""
    ours, other = Key(b"k" * 32), Key(b"o" * 32)
    header = seal.header_for(ours, KeySource.FILE, 1)
    assert header.fits(ours)
    for wrong in (replace(header, check=other.check), replace(header, key_id=other.id)):
        assert not wrong.fits(ours) and not wrong.fits(other)
        with pytest.raises(WrongKey):
            seal.unseal(seal.seal(b"{}", ours, wrong), ours)


def test_a_store_with_a_wrong_key_check_alone_is_told_apart_and_left(tmp_path: Path) -> None:
    """S5."""
    vault = filled(vault_in(tmp_path), STORED)
    keys = read_key_file(vault.sources.key_file)
    assert keys is not None
    header = seal.read_header(vault.path.read_bytes())
    content = seal.seal(b'{"accounts": {}}', keys[0], replace(header, check=Key(b"o" * 32).check))
    vault.path.write_bytes(content)
    for attempt in (vault.entries, lambda: filled(vault, [entry(3)]), lambda: vault_in(tmp_path).entries()):
        with pytest.raises(WrongKey):
            attempt()
    assert vault.path.read_bytes() == content


# S6


@dataclass
class Writer:
    """One command line that is started again whenever it was killed, and what its accounts must be.

    expected  label: (enabled, key)
    """

    name: str
    home: Path
    url: str
    seed: int
    expected: dict[str, tuple[bool, str]] = field(default_factory=dict)
    counted: int = 0
    in_doubt: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def history(self) -> Path:
        return self.home.with_name(f"{self.name}.history")

    def start(self) -> None:
        self.history.unlink(missing_ok=True)
        self.seed += 1
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.writer", self.name, str(self.seed), str(self.history)],
            env=environment(self.home, WRITER_URL=self.url, PYTHONPATH=str(REPOSITORY)),
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.process.communicate()[1].decode()
        self.process.kill()
        self.process.communicate()

    def notes(self) -> list[list[str]]:
        """Its history; a last line that was cut is none."""
        if not self.history.exists():
            return []
        return [json.loads(line) for line in self.history.read_bytes().split(b"\n")[:-1]]

    def check(self, stored: dict[str, Entry]) -> None:
        """The store has what was acknowledged, and of what was begun all or nothing."""
        begun: list[str] | None = None
        for note in self.notes():
            if note[0] == "begun":
                begun = note[1:]
            elif begun is not None:
                self._apply(begun, self.expected)
                self.counted += begun[0] == "count"
                begun = None
        found = {
            label: (one.account.enabled, one.credential.key.reveal())  # type: ignore[union-attr]
            for label, one in stored.items()
            if label.startswith(self.name)
        }
        possible = [self.expected]
        if begun is not None:
            self.in_doubt += begun[0] == "count"
            possible.append(dict(self.expected))
            self._apply(begun, possible[1])
        assert found in possible, (begun, found, self.expected)
        self.expected = found

    @staticmethod
    def _apply(change: list[str], to: dict[str, tuple[bool, str]]) -> None:
        what, *words, number = change
        key = key_of(number)
        if what == "add":
            to[words[0]] = (True, key)
        elif what in ("disable", "enable"):
            to[words[0]] = (what == "enable", to[words[0]][1])
        elif what == "rename":
            to[words[1]] = to.pop(words[0])
        elif what == "renew":
            to[words[0]] = (to[words[0]][0], key)
        elif what == "remove":
            del to[words[0]]


async def crowd(home: Path, rounds: int, longest: float, *, kill_server: bool) -> None:
    """Two command lines and a server write to one store, each killed at random; the store is a legal outcome."""
    chance = random.Random(20261121)

    async def judge(talk: Talk) -> None:
        refused = b"-bad" in talk.upstream.heard[-1]
        await talk.say(speech.refusal(401, "authentication_error") if refused else WHOLE)

    async with upstream(messages(judge)) as up:
        kept = [
            Entry(Account(AccountId("00000a"), "anthropic", "shared", enabled=False, tier=0), ApiKey(Secret("sk-s"))),
            Entry(
                Account(AccountId("00000b"), "anthropic", "untouched", enabled=False, base_url="https://x.example/"),
                ApiKey(Secret("sk-u")),
            ),
        ]
        bad = [_refusable(number, up) for number in range(rounds)]
        vault = vault_of(home)
        filled(vault, kept)
        writers = [Writer(name, home, up.url(""), seed=1000 * n) for n, name in enumerate(("one", "two"))]
        async with contextlib.AsyncExitStack() as stack:
            running = await stack.enter_async_context(served(home))
            for writer in writers:
                writer.start()
            try:
                for number in range(rounds):
                    vault.add(bad[number].account, bad[number].credential)
                    await until(lambda: all(len(each.notes()) > 4 for each in writers), 15)
                    await asyncio.sleep(chance.uniform(0, longest))
                    await _asked(running)
                    victim = writers[number % 2]
                    victim.kill()
                    victim.check({one.account.label: one for one in vault.entries()})
                    victim.start()
                    if kill_server and number % 3 == 2:
                        running.signal(signal.SIGKILL)
                        await running.ended()
                        running = await stack.enter_async_context(served(home))
            finally:
                for writer in writers:
                    if writer.process is not None and writer.process.poll() is None:
                        writer.kill()
            for writer in writers:
                writer.check({one.account.label: one for one in vault.entries()})

            def marked() -> bool:
                return all(one.account.invalid for one in vault.entries() if one.account.label.startswith("bad"))

            async with asyncio.timeout(20):
                while not marked():
                    await _asked(running)
                    await asyncio.sleep(0.05)
            running.signal()
            assert await running.ended() == 0
            assert running.tracebacks() == []
    stored = {one.account.label: one for one in vault.entries()}
    assert stored["untouched"] == kept[1]
    counted, in_doubt = (sum(getattr(w, name) for w in writers) for name in ("counted", "in_doubt"))
    shared = stored["shared"].account
    assert counted <= (shared.tier or 0) <= counted + in_doubt and counted > 0
    assert replace(stored["shared"], account=replace(shared, tier=0)) == kept[0]
    for one in bad:
        found = stored[one.account.label]
        assert replace(found, account=replace(found.account, invalid=None)) == one, "nothing but its mark"
    vault.edit(lambda entries: entries)
    store_is_whole(home, set(stored))


def _refusable(number: int, up: Upstream) -> Entry:
    account = Account(AccountId(f"0000b{number}"), "anthropic", f"bad{number}", base_url=up.url(""), tier=0)
    return Entry(account, ApiKey(Secret(f"sk-fake-{number}-bad")))


async def _asked(running: Process) -> None:
    answer = await running.ask(secrets.token_hex(8))  # a conversation of its own: no account is warm for it
    assert answer.status_code in (200, 503), answer.text


@linux_only
async def test_two_command_lines_and_a_server_that_are_killed_leave_what_they_acknowledged(home: Path) -> None:
    """S6."""
    await crowd(home, rounds=3, longest=0.3, kill_server=False)


@linux_only
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_minute_of_killed_writers_leaves_what_they_acknowledged(home: Path) -> None:
    """S6."""
    await crowd(home, rounds=30, longest=1.5, kill_server=True)


@pytest.mark.slow
@linux_only
async def test_two_servers_share_one_store(home: Path) -> None:
    """S6. Both serve, both take over what the command line stores, and what each learns is kept."""
    async with upstream(REFUSED) as bad, upstream(FULL) as full, upstream(SOUND) as up:
        ids = accounts(home, bad, full, up)
        async with served(home) as one, served(home) as two:
            for running in (one, two, one, two):
                answer = await running.ask()
                assert answer.status_code == 200 and answer.headers["x-proxy-account"].endswith(ids["a2"])
            vault_of(home).change(AccountId(ids["a2"]), lambda account: replace(account, label="renamed"))
            for running in (one, two):
                await until(lambda r=running: r.said("accounts reloaded"))  # type: ignore[misc]
                assert (await running.ask()).status_code == 200
            one.signal()
            assert await one.ended() == 0
            assert server_running(home / "accounts.json"), "the other one"
            assert (await two.ask()).status_code == 200
            two.signal()
            assert await two.ended() == 0
            assert not server_running(home / "accounts.json")
            assert one.tracebacks() == two.tracebacks() == []
            assert not one.said("not saved") and not two.said("not saved")
        assert len(bad.asked()) <= 2 and len(full.asked()) <= 2
    assert vault_of(home).entries()[0].account.invalid
    store_is_whole(home, {"a0", "a1", "renamed"})


# S7


COMMANDS = """
import io, os, sys
from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run

os.umask(0)
add = f"accounts add --provider anthropic --base-url {sys.argv[1]} --api-key-stdin --no-verify --label".split()
for stdin, words in (
    ("sk-fake-a-0000000", (*add, "a")),
    ("sk-fake-b-0000000", (*add, "b")),
    ("", ("accounts", "rekey", "--to", "file")),
    ("correct horse battery", ("accounts", "export", sys.argv[2], "--passphrase-stdin")),
):
    sys.stdin = io.StringIO(stdin + chr(10))
    if run(app, words) != 0:
        sys.exit(1)
"""


@linux_only
async def test_every_file_the_program_makes_is_its_owners_alone_even_with_an_open_umask(tmp_path: Path) -> None:
    """S7. Store, key, backup, locks, state with its log and index, export; every folder above them that it made."""
    top = tmp_path / "made"
    home = top / "by" / "the" / "program"

    modes: dict[str, int] = {}

    def look() -> None:
        modes.update({str(path.relative_to(tmp_path)): path.stat().st_mode for path in (top, *top.rglob("*"))})

    async with upstream(FULL) as up:
        async with served(home, limits=lambda: os.umask(0) and None) as running:
            look()
            run = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", COMMANDS, up.url(""), str(top / "export.sealed")],
                env=environment(home, PYTHONPATH=str(REPOSITORY)),
                capture_output=True,
                text=True,
            )
            assert run.returncode == 0, run.stderr
            await until(lambda: running.said("accounts reloaded"))
            assert (await running.ask()).status_code == 429
            look()
            running.signal()
            assert await running.ended() == 0
    (home / "state.db").write_bytes(b"this is no database, and long enough to be looked at" * 20)
    before = os.umask(0)
    try:
        SqliteStore(home / "state.db").close()
    finally:
        os.umask(before)
    look()
    names = {Path(path).name for path in modes}
    assert {
        "by",
        "accounts.json",
        "accounts.json.bak",
        "accounts.json.lock",
        "vault.key",
        "vault.key.lock",
        "export.sealed",
        "state.db",
        "state.db-wal",
        "state.db-shm",
        "state.db.lock",
        "state.db.damaged-1",
    } <= names
    assert any(name.startswith(".accounts.json.server-") for name in names)
    wrong = {
        path: oct(mode)
        for path, mode in modes.items()
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }
    assert wrong == {}


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX thing")
def test_every_folder_that_is_made_for_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    """S7."""
    before = os.umask(0)
    try:
        SqliteStore(tmp_path / "by" / "the" / "program" / "state.db").close()
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700] * 3


# S8


def test_a_change_to_the_very_same_key_forgets_nothing(tmp_path: Path) -> None:
    """S8. The key moves into the environment; where it was it is still the key in use, not an old one."""
    for old in (KeySource.FILE, KeySource.KEYCHAIN):
        home, keychain = tmp_path / old.value, MemoryKeychain()
        vault = filled(vault_in(home, keychain=keychain), STORED)
        vault.rekey(old)
        header = seal.read_header(vault.path.read_bytes())
        if old is KeySource.FILE:
            keys = read_key_file(vault.sources.key_file)
            assert keys is not None
            text = seal.encoded_key(keys[0])
        else:
            (text,) = keychain.kept.values()
        vault.rekey(KeySource.ENV, Secret(text))
        after = seal.read_header(vault.path.read_bytes())
        assert (after.key_id, after.source) == (header.key_id, KeySource.ENV)
        assert vault_in(home, key=text).entries() == STORED
        if old is KeySource.FILE:
            assert vault_in(home).entries() == STORED, "the key file still holds it"
        else:
            assert list(keychain.kept.values()) == [text]


class RekeyedMeanwhile(Vault):
    """Somebody changes the key between our reading of the store and our reading of its key."""

    times = 1

    def _key_in_use(self, content: bytes) -> KeyInUse:
        if self.times:
            self.times -= 1
            vault_in(self.path.parents[1]).rekey(KeySource.FILE)
        return super()._key_in_use(content)


def test_a_key_that_changes_between_the_store_and_its_key_is_read_again(tmp_path: Path) -> None:
    """S8."""
    filled(vault_in(tmp_path), STORED)
    reader = RekeyedMeanwhile(tmp_path / "data" / "accounts.json", sources(tmp_path))
    reader.times = 3
    assert reader.entries() == STORED
    assert reader.times == 0


KILLED_AT_EVERY_CALL = """
import os, shutil, signal, sys
from pathlib import Path
from accounts.vault.seal import KeySource
from tests.accounts.kit import CountingFiles, vault_in

class Killing(CountingFiles):
    at = 0
    def step(self, name):
        super().step(name)
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

home, to, given = Path(sys.argv[1]), KeySource(sys.argv[2]), {"passphrase": "correct horse", "key": sys.argv[3]}
for at in range(1, 100):
    copy = Path(shutil.copytree(home, home.with_name(f"{home.name}-{at}")))
    child = os.fork()
    if not child:
        files = Killing()
        files.at = at
        vault_in(copy, files, **given).rekey(to)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    print(at, flush=True)
"""


@linux_only
@pytest.mark.parametrize("to", [KeySource.FILE, KeySource.ENV, KeySource.PASSPHRASE])
def test_killed_at_any_call_of_a_change_of_key_the_old_or_the_new_key_opens_store_and_backup(
    tmp_path: Path, to: KeySource
) -> None:
    """S8. Real processes and real kills, their locks left as they were."""
    text = seal.encoded_key(Key(b"k" * 32))
    filled(vault_in(tmp_path / "home"), STORED)
    run = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path / "home"), to.value, text],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    kills = [int(line) for line in run.stdout.split()]
    assert len(kills) >= 10
    for at in kills:
        copy = tmp_path / f"home-{at}"
        everything = sources(copy, key=text, passphrase="correct horse")
        assert vault_in(copy, sources=everything).entries() == STORED, f"call {at}"
        spare = tmp_path / f"spare-{at}"
        shutil.copytree(copy, spare)
        shutil.copy2(spare / "data" / "accounts.json.bak", spare / "data" / "accounts.json")
        (spare / "data" / "accounts.json.bak").unlink()
        found = vault_in(spare, sources=sources(spare, key=text, passphrase="correct horse")).entries()
        assert found in (STORED, STORED[:1]), f"call {at}"
        vault_in(copy, sources=everything).rekey(to)
        assert vault_in(copy, sources=everything).entries() == STORED
        assert leftovers(copy) == [], f"call {at}"
