"""A damaged store is told apart from every other trouble, and never written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accounts.model import AccountId
from accounts.vault import seal
from accounts.vault.errors import ForeignStore, NewerVersion, VaultDamaged, VaultEmpty, VaultError, WrongKey
from accounts.vault.seal import Format, Key, KeySource
from accounts.vault.vault import Vault
from tests.accounts.kit import entry, filled, vault_in
from tests.accounts.vault.test_seal import with_header

OTHER_KEY = Key(b"o" * 32)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return filled(vault_in(tmp_path), [entry(1), entry(2)])


def refused(vault: Vault, content: bytes, *, thorough: bool = True) -> VaultError:
    """The error that this content gives, having checked that nobody changes the file."""
    vault.path.write_bytes(content)
    vault.path.chmod(0o600)
    backup = vault.path.with_name("accounts.json.bak").read_bytes()
    with pytest.raises(VaultError) as caught:
        vault.entries()
    if thorough:
        for attempt in (
            lambda: filled(vault, [entry(3)]),
            lambda: vault.remove(AccountId("id0001")),
            lambda: vault.rekey(KeySource.FILE),
        ):
            with pytest.raises(VaultError) as again:
                attempt()
            assert type(again.value) is type(caught.value)
    assert vault.path.read_bytes() == content
    assert vault.path.with_name("accounts.json.bak").read_bytes() == backup
    assert "sk-fake" not in str(caught.value)
    return caught.value


def other_stores(vault: Vault) -> dict[str, tuple[bytes, type[VaultError], int, str]]:
    """What may stand in the store's place: content, the error, its exit code, what it says."""
    good = vault.path.read_bytes()
    line, _, rest = good.partition(b"\n")
    older = vault.path.with_name("accounts.json.bak").read_bytes()
    export_header = seal.header_for(OTHER_KEY, KeySource.PASSPHRASE, 1, seal.new_stretch(), Format.EXPORT)
    foreign_header = seal.header_for(OTHER_KEY, KeySource.FILE, 1)
    return {
        "empty": (b"", VaultEmpty, 7, "it is empty"),
        "garbage": (bytes(range(256)) * 8, VaultDamaged, 7, "accounts.json.bak"),
        "nothing behind the header": (line + b"\n", VaultDamaged, 7, "accounts.json.bak"),
        "header of an older generation": (older.partition(b"\n")[0] + b"\n" + rest, VaultDamaged, 7, "seal"),
        "trailing bytes": (good + b"x", VaultDamaged, 7, "seal"),
        "a newer version": (with_header(version=9), NewerVersion, 7, "upgrade"),
        "sealed with another key": (seal.seal(b"{}", OTHER_KEY, foreign_header), WrongKey, 8, "another key"),
        "a plain file of another tool": (
            json.dumps({"accounts": [{"refreshToken": "sk-fake"}]}, indent=1).encode(),
            ForeignStore,
            7,
            "proxy accounts import",
        ),
        "a plain TinyDB": (b'{"_default": {}}', ForeignStore, 7, "left alone"),
        "an export": (seal.seal(b"{}", OTHER_KEY, export_header), ForeignStore, 7, "export"),
        "sealed, but no accounts": (
            seal.seal(b"[1]", _key_of(vault), seal.header_for(_key_of(vault), KeySource.FILE, 1)),
            VaultDamaged,
            7,
            "not a list of accounts",
        ),
    }


def _key_of(vault: Vault) -> Key:
    from accounts.vault.keys import read_key_file

    keys = read_key_file(vault.sources.key_file)
    assert keys is not None
    return keys[0]


def test_each_kind_of_wrong_content_is_told_apart_and_left_byte_for_byte(vault: Vault) -> None:
    for name, (content, kind, code, says) in other_stores(vault).items():
        error = refused(vault, content)
        assert type(error) is kind, name
        assert error.exit_code == code, name
        assert says in str(error), name
        assert str(vault.path) in str(error), name
        assert 1 <= len(str(error).splitlines()) <= 2, name


def test_a_store_cut_at_any_length_is_damage(vault: Vault) -> None:
    whole = vault.path.read_bytes()
    for length in range(1, len(whole), 3):
        assert type(refused(vault, whole[:length], thorough=False)) is VaultDamaged, f"cut at {length}"


def test_a_bit_flipped_in_any_byte_is_damage(vault: Vault) -> None:
    whole = vault.path.read_bytes()
    for place in range(len(whole)):
        hurt = bytearray(whole)
        hurt[place] ^= 1 << (place % 8)
        error = refused(vault, bytes(hurt), thorough=place % 97 == 0)
        assert type(error) is VaultDamaged, f"byte {place}"


def test_a_monstrous_file_is_refused_without_reading_it_all(vault: Vault) -> None:
    with vault.path.open("r+b") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(VaultDamaged, match="64 MiB"):
        vault.entries()


def test_a_message_about_damage_says_when_there_is_no_backup(tmp_path: Path) -> None:
    vault = filled(vault_in(tmp_path), [entry(1)])
    vault.path.write_bytes(b"rubbish")
    with pytest.raises(VaultDamaged, match="no backup"):
        vault.entries()
