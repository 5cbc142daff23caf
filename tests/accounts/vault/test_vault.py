from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from tinydb import TinyDB, where

from accounts.model import AccountId, Entry
from accounts.records import to_document
from accounts.vault.errors import VaultDamaged, VaultLocked, VaultMissing
from accounts.vault.files import SYSTEM
from accounts.vault.keys import KeyInUse, key_for_new
from accounts.vault.storage import SealedStorage
from accounts.vault.vault import Vault
from tests.accounts.kit import account, entry, filled, key, leftovers, sources, vault_in
from tests.contracts.vault_contract import VaultContract


class TestTheSealedStoreWithAKeyFile(VaultContract):
    def open(self, home: Path) -> Vault:
        return vault_in(home)


class TestTheSealedStoreWithAPassphrase(VaultContract):
    def open(self, home: Path) -> Vault:
        return vault_in(home, passphrase="sk-fake correct horse")


def test_no_credential_or_label_is_readable_in_any_file(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1), entry(2)])
    vault.change(AccountId("id0001"), lambda known: replace(known, label="a-telling-label"))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert b"sk-fake" not in content
        assert b"telling" not in content


def test_threads_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    vault = vault_in(tmp_path)

    def add(first: int) -> None:
        filled(vault, [entry(number) for number in range(first, first + 10)])

    threads = [threading.Thread(target=add, args=(1 + 10 * worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.account.id for one in vault.entries()} == {account(number).id for number in range(1, 61)}


def test_readers_never_see_half_a_change(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1), entry(2)])
    stop, seen = threading.Event(), set()

    def look() -> None:
        reader = vault_in(tmp_path)
        while not stop.is_set():
            seen.add(tuple(one.account.tier for one in reader.entries()))

    thread = threading.Thread(target=look)
    thread.start()
    for tier in range(40):
        vault.edit(lambda known, tier=tier: tuple(Entry(replace(e.account, tier=tier), e.credential) for e in known))  # type: ignore[misc]
    stop.set()
    thread.join()
    assert all(first == second for first, second in seen)


def test_a_lock_that_is_held_too_long_is_an_error_and_readers_do_not_wait_for_it(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry(1)])
    path = tmp_path / "data" / "accounts.json"
    impatient = Vault(path, sources(tmp_path), lock_timeout=0.1)
    with FileLock(f"{path}.lock"):
        with pytest.raises(VaultLocked) as caught:
            filled(impatient, [entry(2)])
        assert impatient.entries() == (entry(1),)
    assert caught.value.exit_code == 7


def test_the_generation_before_is_kept_as_a_backup_that_opens(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1), entry(2)])
    vault.path.with_name("accounts.json.bak").replace(vault.path)
    assert vault_in(tmp_path).entries() == (entry(1),)


def test_a_removed_credential_does_not_live_on_in_the_backup(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1), entry(2)])
    vault.remove(AccountId("id0001"))
    vault.path.with_name("accounts.json.bak").replace(vault.path)
    assert vault_in(tmp_path).entries() == (entry(2),)


def test_a_store_that_is_gone_while_its_backup_is_there_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1), entry(2)])
    vault.path.unlink()
    with pytest.raises(VaultMissing, match=r"accounts\.json\.bak"):
        vault.entries()
    with pytest.raises(VaultMissing):
        filled(vault, [entry(3)])
    assert not vault.path.exists()


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1)])
    mine = [vault.path.parent / f".store-{name}-0123.tmp" for name in ("accounts.json", "accounts.json.bak")]
    others = [vault.path.parent / ".store-other.json-0123.tmp", vault.path.parent / "notes.tmp"]
    for path in (*mine, *others):
        path.write_bytes(b"half")
    filled(vault, [entry(2)])
    assert leftovers(tmp_path) == sorted(others)


def test_fields_and_tables_of_a_later_version_survive_a_change(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1)])
    in_use = key_for_new(sources(tmp_path), SYSTEM, 10)
    database = TinyDB(storage=lambda: SealedStorage(vault.path, in_use, SYSTEM))
    database.table("accounts").update({"from_the_future": 7}, where("id") == "id0001")
    database.table("another").insert({"kept": True})
    vault.change(AccountId("id0001"), lambda known: replace(known, tier=2))
    assert database.table("another").all() == [{"kept": True}]
    found = database.table("accounts").all()
    assert found[0]["from_the_future"] == 7
    assert found[0]["tier"] == 2


def test_an_account_that_cannot_be_read_is_an_error_and_is_kept(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1)])
    in_use: KeyInUse = key_for_new(sources(tmp_path), SYSTEM, 10)
    strange = {**to_document(entry(2)), "credential": {"kind": "from-the-future"}}
    TinyDB(storage=lambda: SealedStorage(vault.path, in_use, SYSTEM)).table("accounts").insert(strange)
    before = vault.path.read_bytes()
    with pytest.raises(VaultDamaged, match="version does not know"):
        vault.entries()
    with pytest.raises(VaultDamaged):
        vault.remove(AccountId("id0001"))
    assert vault.path.read_bytes() == before


def test_a_thousand_accounts_are_one_write_and_are_all_there(tmp_path: Path) -> None:
    many = tuple(entry(number) for number in range(1, 1001))
    vault = vault_in(tmp_path)
    vault.edit(lambda _: many)
    assert vault.generation() == 1
    assert vault_in(tmp_path).entries() == many


def test_a_vault_prints_no_secret(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1)])
    assert "sk-fake" not in repr(vault.entries())
    assert "sk-fake" not in repr(key(1))
