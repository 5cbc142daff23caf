"""Changing the key, interrupted anywhere: the old or the new key opens the store and its backup."""

from __future__ import annotations

import itertools
import shutil
from copy import deepcopy
from pathlib import Path

import pytest

from accounts.model import Secret
from accounts.vault import seal
from accounts.vault.errors import KeychainUnavailable, KeyUnusable, NotSaved, WrongKey
from accounts.vault.files import Files
from accounts.vault.keys import KeySources, read_key_file
from accounts.vault.seal import KeySource
from accounts.vault.vault import Vault
from tests.accounts.kit import (
    Died,
    DyingFiles,
    FailingFiles,
    MemoryKeychain,
    entry,
    filled,
    leftovers,
    sources,
    vault_in,
)

TEXT = seal.encoded_key(seal.Key(b"k" * 32))
STORED = (entry(1), entry(2))
PAIRS = [(old, new) for old in KeySource for new in KeySource if old is not new or old is KeySource.FILE]


def all_sources(home: Path, keychain: MemoryKeychain) -> KeySources:
    return sources(home, key=TEXT, passphrase="sk-fake correct horse", keychain=keychain)


def sealed_by(source: KeySource, home: Path, keychain: MemoryKeychain) -> Vault:
    vault = filled(vault_in(home, sources=all_sources(home, keychain)), STORED)
    if vault.key_source() is not source:
        vault.rekey(source)
    return vault_in(home, sources=all_sources(home, keychain))


def backup_entries(home: Path, given: KeySources) -> int:
    """How many accounts the backup holds, opened with the keys that are there."""
    spare = home.with_name(home.name + "-spare")
    (spare / "data").mkdir(mode=0o700, parents=True)
    shutil.copy2(home / "data" / "accounts.json.bak", spare / "data" / "accounts.json")
    found = len(Vault(spare / "data" / "accounts.json", given).entries())
    shutil.rmtree(spare)
    return found


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_store_and_its_backup_open_with_the_new_key_alone(tmp_path: Path, old: KeySource, new: KeySource) -> None:
    keychain = MemoryKeychain()
    vault = sealed_by(old, tmp_path / "home", keychain)
    key_before = seal.read_header(vault.path.read_bytes()).key_id
    vault.rekey(new)
    assert vault.key_source() is new
    assert vault.entries() == STORED
    assert seal.read_header(vault.path.read_bytes()).key_id != key_before
    only = {
        KeySource.ENV: {"key": TEXT},
        KeySource.PASSPHRASE: {"passphrase": "sk-fake correct horse"},
    }.get(new, {})
    given = sources(tmp_path / "home", keychain=keychain, **only)
    assert vault_in(tmp_path / "home", sources=given).entries() == STORED
    assert backup_entries(tmp_path / "home", given) >= 1
    if old is KeySource.FILE and new is not KeySource.FILE:
        assert not (tmp_path / "home" / "config" / "vault.key").exists()
    if old is KeySource.KEYCHAIN:
        assert keychain.kept == {}
    assert len(keychain.kept) == (new is KeySource.KEYCHAIN)


@pytest.mark.parametrize(
    ("old", "new", "layer"),
    [(*pair, layer) for pair in PAIRS for layer in (DyingFiles, FailingFiles) if layer is DyingFiles or "file" in pair],
)
def test_wherever_it_is_interrupted_everything_still_opens(
    tmp_path: Path, old: KeySource, new: KeySource, layer: type[FailingFiles] | type[DyingFiles]
) -> None:
    kept = MemoryKeychain()
    sealed_by(old, tmp_path / "home", kept)
    for at in itertools.count(1):
        home = Path(shutil.copytree(tmp_path / "home", tmp_path / f"home-{at}"))
        keychain = deepcopy(kept)
        given = all_sources(home, keychain)
        files = layer(at)
        try:
            vault_in(home, files, sources=given).rekey(new)
        except (NotSaved, Died):
            pass
        if not files.failed:
            break
        assert vault_in(home, sources=given).entries() == STORED, f"call {at}"
        assert backup_entries(home, given) >= 1, f"call {at}"
        vault_in(home, sources=given).rekey(new)
        assert vault_in(home, sources=given).entries() == STORED
        assert leftovers(home) == []


def test_the_key_file_holds_one_key_after_a_change_and_another_than_before(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), STORED)
    before = read_key_file(vault.sources.key_file)
    vault.rekey(KeySource.FILE)
    after = read_key_file(vault.sources.key_file)
    assert before is not None
    assert after is not None
    assert len(after) == 1
    assert after != before


def test_a_new_passphrase_replaces_the_old_one(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path, passphrase="sk-fake old words"), STORED)
    vault.rekey(KeySource.PASSPHRASE, Secret("sk-fake new words"))
    assert vault_in(tmp_path, passphrase="sk-fake new words").entries() == STORED
    with pytest.raises(WrongKey):
        vault_in(tmp_path, passphrase="sk-fake old words").entries()


def test_a_server_that_has_it_open_reads_on_after_a_change_of_key(tmp_path: Path) -> None:
    keychain = MemoryKeychain()
    server = filled(vault_in(tmp_path, keychain=keychain), STORED)
    for target in (KeySource.FILE, KeySource.KEYCHAIN, KeySource.FILE):
        stamp = server.stamp()
        vault_in(tmp_path, keychain=keychain).rekey(target)
        assert server.stamp() != stamp
        assert server.entries() == STORED


def test_a_key_changed_between_reading_the_store_and_the_key_is_asked_for_again(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), STORED)

    class Racing(Vault):
        raced = False

        def stamp(self) -> tuple[int, int, int] | None:
            before = super().stamp()
            if not self.raced:
                self.raced = True
                vault_in(tmp_path).rekey(KeySource.FILE)
            return before

    assert Racing(tmp_path / "data" / "accounts.json", sources(tmp_path)).entries() == STORED


def test_nothing_to_change_to_is_a_usage_error_and_changes_nothing(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), STORED)
    before = vault.path.read_bytes()
    for target in (KeySource.ENV, KeySource.PASSPHRASE):
        with pytest.raises(KeyUnusable):
            vault.rekey(target)
    with pytest.raises(KeyUnusable):
        vault.rekey(KeySource.ENV, Secret("rubbish"))
    assert vault.path.read_bytes() == before


def test_a_keychain_that_keeps_nothing_leaves_the_old_key_in_use(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path, keychain=MemoryKeychain(broken=True)), STORED)
    before = vault.path.read_bytes()
    with pytest.raises(KeychainUnavailable):
        vault.rekey(KeySource.KEYCHAIN)
    assert vault.path.read_bytes() == before
    assert vault_in(tmp_path).entries() == STORED


def test_a_store_that_is_not_there_yet_can_be_given_its_kind_of_key(tmp_path: Path) -> None:
    keychain = MemoryKeychain()
    vault_in(tmp_path, keychain=keychain).rekey(KeySource.KEYCHAIN)
    vault = filled(vault_in(tmp_path, files=Files(), keychain=keychain), STORED)
    assert vault.key_source() is KeySource.KEYCHAIN
    assert vault.entries() == STORED


def test_a_wrong_key_changes_nothing(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), STORED)
    before = vault.path.read_bytes()
    vault.sources.key_file.write_text(f"{TEXT}\n")
    with pytest.raises(WrongKey):
        vault_in(tmp_path).rekey(KeySource.FILE)
    assert vault.path.read_bytes() == before
    assert read_key_file(vault.sources.key_file) == (seal.Key(b"k" * 32),)
