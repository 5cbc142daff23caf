"""Who else could read or swap the files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.vault.errors import UnsafeMode, VaultError
from accounts.vault.seal import KeySource
from accounts.vault.vault import Vault
from tests.accounts.kit import entry, filled, vault_in

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX thing")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return filled(vault_in(tmp_path), [entry(1), entry(2)])


def test_everything_we_make_is_ours_alone_even_with_an_open_umask(open_umask: None, tmp_path: Path) -> None:
    home = tmp_path / "deep" / "er"
    vault = filled(vault_in(home), [entry(1), entry(2)])
    vault.rekey(KeySource.FILE)
    made = [home.parent, *home.parent.rglob("*")]
    assert {"accounts.json", "accounts.json.bak", "accounts.json.lock", "vault.key", "vault.key.lock"} <= {
        path.name for path in made
    }
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_store_that_others_could_read_is_refused_with_the_command_to_run(vault: Vault, mode: int) -> None:
    vault.path.chmod(mode)
    for attempt in (vault.entries, lambda: filled(vault, [entry(3)]), lambda: vault.rekey(KeySource.FILE)):
        with pytest.raises(UnsafeMode, match=f"chmod 600 {vault.path}"):
            attempt()
    assert stat.S_IMODE(vault.path.stat().st_mode) == mode
    vault.path.chmod(0o600)
    assert len(vault.entries()) == 2


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_in_which_others_could_swap_the_store_is_refused(vault: Vault, mode: int) -> None:
    vault.path.parent.chmod(mode)
    for attempt in (vault.entries, lambda: filled(vault, [entry(3)])):
        with pytest.raises(UnsafeMode, match="chmod 700"):
            attempt()


def test_a_link_in_the_stores_place_is_refused_whatever_it_names(vault: Vault, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    vault.path.replace(real)
    vault.path.symlink_to(real)
    for attempt in (vault.entries, lambda: filled(vault, [entry(3)])):
        with pytest.raises(UnsafeMode, match="symbolic link"):
            attempt()
    assert vault.path.is_symlink()
    real.unlink()
    with pytest.raises(UnsafeMode):
        filled(vault, [entry(3)])
    assert not real.exists()


def test_a_second_name_for_the_store_is_refused(vault: Vault, tmp_path: Path) -> None:
    os.link(vault.path, tmp_path / "second")
    with pytest.raises(UnsafeMode, match="hard link"):
        vault.entries()


def test_what_is_no_plain_file_is_refused_and_never_waited_for(vault: Vault) -> None:
    vault.path.unlink()
    os.mkfifo(vault.path, 0o600)
    with pytest.raises(VaultError, match="not a plain file"):
        vault.entries()
    vault.path.unlink()
    vault.path.mkdir(0o700)
    with pytest.raises(VaultError):
        vault.entries()


def test_a_linked_lock_is_refused(vault: Vault, tmp_path: Path) -> None:
    lock = vault.path.with_name("accounts.json.lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(VaultError):
        filled(vault, [entry(3)])
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_store_of_another_user_is_refused(vault: Vault) -> None:
    os.chown(vault.path, 12345, 12345)
    with pytest.raises(UnsafeMode, match="another user"):
        vault.entries()
    os.chown(vault.path, 0, 0)
    os.chown(vault.path.parent, 12345, 12345)
    with pytest.raises(UnsafeMode, match="another user"):
        vault.entries()
