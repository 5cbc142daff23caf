from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from accounts.vault import seal
from accounts.vault.errors import KeyUnusable, UnsafeMode, WrongKey
from accounts.vault.files import SYSTEM
from accounts.vault.keys import key_for_new, read_key_file
from accounts.vault.seal import KeySource
from tests.accounts.kit import MemoryKeychain, entry, filled, sources, vault_in

TEXT = seal.encoded_key(seal.Key(b"k" * 32))
OTHER = seal.encoded_key(seal.Key(b"o" * 32))


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"key": TEXT, "passphrase": "sk-fake words"}, KeySource.ENV),
        ({"passphrase": "sk-fake words"}, KeySource.PASSPHRASE),
        ({}, KeySource.FILE),
    ],
)
def test_a_new_store_takes_the_first_source_that_is_there(
    tmp_path: Path, given: dict[str, str], source: KeySource
) -> None:
    vault = vault_in(tmp_path, **given)
    assert vault.key_source() is source
    filled(vault, [entry()])
    assert vault.key_source() is source
    assert (tmp_path / "config" / "vault.key").exists() == (source is KeySource.FILE)
    assert vault_in(tmp_path, **given).entries() == (entry(),)


def test_an_existing_store_asks_the_source_it_names_whatever_else_is_set(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry()])
    assert vault_in(tmp_path, key=OTHER, passphrase="sk-fake words").entries() == (entry(),)
    assert vault_in(tmp_path, key="not a key").entries() == (entry(),)


def test_the_key_file_is_ours_alone_and_is_made_once(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry(1)])
    path = tmp_path / "config" / "vault.key"
    before = path.read_bytes()
    filled(vault_in(tmp_path), [entry(2)])
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_many_first_uses_at_once_make_one_key(tmp_path: Path) -> None:
    given = sources(tmp_path)
    found: list[seal.Key] = []
    threads = [threading.Thread(target=lambda: found.append(key_for_new(given, SYSTEM, 10).key)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_lost_key_file_is_an_error_that_says_so_and_no_new_key_is_made(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry()])
    store = (tmp_path / "data" / "accounts.json").read_bytes()
    (tmp_path / "config" / "vault.key").unlink()
    for attempt in (lambda: vault_in(tmp_path).entries(), lambda: filled(vault_in(tmp_path), [entry(2)])):
        with pytest.raises(WrongKey, match=r"vault\.key is gone") as caught:
            attempt()
        assert caught.value.exit_code == 8
    assert not (tmp_path / "config" / "vault.key").exists()
    assert (tmp_path / "data" / "accounts.json").read_bytes() == store


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n", "c2hvcnQ=\n", "\x00\xff\n", f"{TEXT}\nrubbish\n"])
def test_a_damaged_key_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config" / "vault.key"
    path.parent.mkdir(mode=0o700)
    path.write_text(content, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(WrongKey, match=r"vault\.key is damaged"):
        filled(vault_in(tmp_path), [entry()])
    assert path.read_text(encoding="latin-1") == content


def test_a_key_file_with_another_key_is_told_apart_from_damage(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry()])
    (tmp_path / "config" / "vault.key").write_text(f"{OTHER}\n")
    with pytest.raises(WrongKey, match="holds another key"):
        vault_in(tmp_path).entries()


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry()])
    (tmp_path / "config" / "vault.key").chmod(0o644)
    with pytest.raises(UnsafeMode, match="chmod 600"):
        vault_in(tmp_path).entries()


def test_a_key_that_moved_from_the_file_to_the_environment_is_still_found(tmp_path: Path) -> None:
    filled(vault_in(tmp_path), [entry()])
    path = tmp_path / "config" / "vault.key"
    keys = read_key_file(path)
    assert keys is not None
    path.unlink()
    assert vault_in(tmp_path, key=seal.encoded_key(keys[0])).entries() == (entry(),)


@pytest.mark.parametrize(
    ("made_with", "opened_with", "says"),
    [
        ({"key": TEXT}, {}, "MCP_PROXY_VAULT_KEY, which is not set"),
        ({"key": TEXT}, {"key": OTHER}, "another key"),
        ({"key": TEXT}, {"key": "rubbish"}, "openssl rand -base64 32"),
        ({"passphrase": "sk-fake words"}, {}, "set MCP_PROXY_VAULT_PASSPHRASE"),
        ({"passphrase": "sk-fake words"}, {"passphrase": "other words"}, "not the one"),
    ],
)
def test_a_wrong_or_missing_key_says_what_to_set_and_not_what_it_was(
    tmp_path: Path, made_with: dict[str, str], opened_with: dict[str, str], says: str
) -> None:
    filled(vault_in(tmp_path, **made_with), [entry()])
    with pytest.raises(WrongKey, match=says) as caught:
        vault_in(tmp_path, **opened_with).entries()
    for secret in (*made_with.values(), *opened_with.values()):
        if secret != "sk-fake words":
            assert secret not in str(caught.value)


@pytest.mark.parametrize("given", [{"key": "rubbish"}, {"key": ""}, {"passphrase": ""}])
def test_a_setting_that_cannot_be_a_key_is_a_usage_error_and_makes_no_store(
    tmp_path: Path, given: dict[str, str]
) -> None:
    with pytest.raises(KeyUnusable) as caught:
        filled(vault_in(tmp_path, **given), [entry()])
    assert caught.value.exit_code == 2
    assert not (tmp_path / "data" / "accounts.json").exists()


def test_a_keychain_that_fails_is_a_missing_key(tmp_path: Path) -> None:
    keychain = MemoryKeychain()
    vault = filled(vault_in(tmp_path, keychain=keychain), [entry()])
    vault.rekey(KeySource.KEYCHAIN)
    assert vault_in(tmp_path, keychain=keychain).entries() == (entry(),)
    for broken in (MemoryKeychain(), MemoryKeychain(broken=True)):
        with pytest.raises(WrongKey, match="keychain"):
            vault_in(tmp_path, keychain=broken).entries()


def test_the_sources_print_no_secret(tmp_path: Path) -> None:
    assert TEXT not in repr(sources(tmp_path, key=TEXT, passphrase="sk-fake correct horse"))
    assert "horse" not in repr(sources(tmp_path, key=TEXT, passphrase="sk-fake correct horse"))
