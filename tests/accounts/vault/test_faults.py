"""Every system call of every change fails once, and the process dies at each: the store is the old or the new one."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pytest

from accounts.model import AccountId, ApiKey, Entry, Secret
from accounts.vault.errors import NotSaved
from accounts.vault.files import Files
from accounts.vault.vault import Vault
from tests.accounts.kit import (
    CountingFiles,
    Died,
    DyingFiles,
    FailingFiles,
    HalfWritingFiles,
    entry,
    filled,
    leftovers,
    vault_in,
)

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)

Change: TypeAlias = Callable[[Vault], object]

CHANGES: dict[str, Change] = {
    "add": lambda vault: filled(vault, [entry(9)]),
    "change": lambda vault: vault.change(AccountId("id0001"), lambda known: replace(known, enabled=False)),
    "replace": lambda vault: vault.replace_credential(AccountId("id0001"), ApiKey(Secret("sk-fake-new"))),
    "remove": lambda vault: vault.remove(AccountId("id0001")),
}


@dataclass
class Case:
    """A store in a folder, before a change and after it."""

    home: Path
    before: tuple[Entry, ...]
    after: tuple[Entry, ...]

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.home, self.home.with_name(name), dirs_exist_ok=False))


def prepared(tmp_path: Path, stored: int, change: Change) -> Case:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    vault = filled(vault_in(home), [entry(number) for number in range(1, stored + 1)])
    before = vault.entries()
    trial = Case(home, before, ())
    other = vault_in(trial.copy("finished"))
    change(other)
    return Case(home, before, other.entries())


def check_old_or_new(case: Case, home: Path, where: str) -> tuple[Entry, ...]:
    found = vault_in(home).entries()
    assert found in (case.before, case.after), where
    backup = home / "data" / "accounts.json.bak"
    if backup.exists():
        spare = home / "spare"
        (spare / "data").mkdir(mode=0o700, parents=True)
        shutil.copytree(home / "config", spare / "config")
        shutil.copy2(backup, spare / "data" / "accounts.json")
        vault_in(spare).entries()
    return found


@pytest.mark.parametrize("layer", [FailingFiles, HalfWritingFiles])
@pytest.mark.parametrize("change", CHANGES)
def test_whichever_call_fails_the_store_is_old_or_new_and_trying_again_works(
    tmp_path: Path, change: str, layer: type[FailingFiles]
) -> None:
    case = prepared(tmp_path, 2, CHANGES[change])
    for at in itertools.count(1):
        home = case.copy(f"fails-{at}")
        files = layer(at, NUMBERS[at % len(NUMBERS)])
        vault = vault_in(home, files)
        try:
            CHANGES[change](vault)
        except NotSaved as error:
            assert error.exit_code == 7
            assert "sk-fake" not in str(error)
        if not files.failed:
            assert at > 8, "the changes make that many calls"
            break
        found = check_old_or_new(case, home, f"{change}, call {at}")
        assert len(leftovers(home)) <= 1
        if found == case.before:
            CHANGES[change](vault)
        assert vault_in(home).entries() == case.after
        assert leftovers(home) == [] or found == case.after


@pytest.mark.parametrize("change", CHANGES)
def test_wherever_the_process_dies_the_store_is_old_or_new_and_is_swept_by_the_next(
    tmp_path: Path, change: str
) -> None:
    case = prepared(tmp_path, 2, CHANGES[change])
    for at in itertools.count(1):
        home = case.copy(f"dies-{at}")
        files = DyingFiles(at)
        try:
            CHANGES[change](vault_in(home, files))
        except Died:
            pass
        if not files.failed:
            break
        check_old_or_new(case, home, f"{change}, call {at}")
        vault_in(home).edit(lambda entries: entries)
        assert leftovers(home) == []


@pytest.mark.parametrize("layer", [FailingFiles, HalfWritingFiles, DyingFiles])
def test_the_very_first_account_is_stored_or_not_and_the_key_is_never_lost(
    tmp_path: Path, layer: type[FailingFiles] | type[DyingFiles]
) -> None:
    for at in itertools.count(1):
        home = tmp_path / str(at)
        files = layer(at)
        try:
            filled(vault_in(home, files), [entry(1)])
        except (NotSaved, Died):
            pass
        if not files.failed:
            break
        found = vault_in(home).entries()
        assert found in ((), (entry(1),))
        if not found:
            filled(vault_in(home), [entry(1)])
        filled(vault_in(home), [entry(2)])
        assert vault_in(home).entries() == (entry(1), entry(2))
        assert leftovers(home) == []


def test_a_write_that_takes_a_few_bytes_at_a_time_stores_everything(tmp_path: Path) -> None:
    class Sipping(Files):
        def write(self, descriptor: int, content: bytes) -> int:
            return super().write(descriptor, content[:7])

    filled(vault_in(tmp_path, Sipping()), [entry(1), entry(2)])
    assert vault_in(tmp_path).entries() == (entry(1), entry(2))


class ForgetfulFiles(CountingFiles):
    """Notes what would be on the disk itself: content only after its fsync, names only after their folder's.

    `possible(...)` builds what a power cut at this moment may leave: of the names that were not flushed any
    subset has reached the disk, of content that was not flushed nothing, half, or all.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.durable: dict[str, bytes] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.folder = folder
        self.pending: list[tuple[str, str | None, str]] = []  # (what, name, with)
        self.content: dict[str, bytes] = {}
        self.flushed: set[str] = set()
        self.files: dict[int, str] = {}

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        if path.parent == self.folder:
            self.files[descriptor] = path.name
            self.content[path.name] = b""
            self.pending.append(("name", path.name, path.name))
        return descriptor

    def write(self, descriptor: int, content: bytes) -> int:
        written = super().write(descriptor, content)
        if descriptor in self.files:
            self.content[self.files[descriptor]] += content[:written]
        return written

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if descriptor in self.files:
            self.flushed.add(self.files[descriptor])

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        if source.parent == self.folder:
            self.pending.append(("name", target.name, source.name))
            self.pending.append(("gone", None, source.name))

    def fsync_folder(self, folder: Path) -> None:
        super().fsync_folder(folder)
        if folder == self.folder:
            self.durable = self.after(self.pending, 1.0)
            self.pending = []

    def after(self, names: list[tuple[str, str | None, str]], share: float) -> dict[str, bytes]:
        """The disk once these changes of names have reached it, and this share of unflushed content."""
        disk = dict(self.durable)
        for what, name, source in names:
            if what == "gone":
                disk.pop(source, None)
            elif name is not None:
                whole = self.content[source]
                disk[name] = whole if source in self.flushed else whole[: int(len(whole) * share)]
        return disk

    def possible(self) -> list[dict[str, bytes]]:
        subsets = itertools.product((True, False), repeat=len(self.pending))
        kept = [[change for change, there in zip(self.pending, mask, strict=True) if there] for mask in subsets]
        return [self.after(names, share) for names in kept for share in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_power_cut_that_forgets_what_was_not_flushed_leaves_the_old_or_the_new(tmp_path: Path, change: str) -> None:
    case = prepared(tmp_path, 2, CHANGES[change])
    seen: set[tuple[tuple[str, bytes], ...]] = set()

    class CutAt(ForgetfulFiles):
        def step(self, name: str) -> None:
            super().step(name)
            seen.update(tuple(sorted(disk.items())) for disk in self.possible())

    home = case.copy("cut")
    files = CutAt(home / "data")
    CHANGES[change](vault_in(home, files))
    after = files.durable
    assert len(seen) > 10
    for number, disk in enumerate(seen):
        left = tmp_path / f"left-{number}"
        (left / "data").mkdir(mode=0o700, parents=True)
        shutil.copytree(home / "config", left / "config")
        for name, content in disk:
            (left / "data" / name).write_bytes(content)
            (left / "data" / name).chmod(0o600)
        assert vault_in(left).entries() in (case.before, case.after), [name for name, _ in disk]
    assert after["accounts.json"] == (home / "data" / "accounts.json").read_bytes(), "acknowledged means durable"
