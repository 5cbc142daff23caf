"""import, export and rekey, from the command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from accounts.model import Account, ApiKey, Entry, Secret
from accounts.vault import seal
from accounts.vault.seal import KeySource
from tests.accounts.cli.conftest import Shell
from tests.accounts.kit import MemoryKeychain, account, entry, filled, grant, vault_in

WORDS = "correct horse battery"
STORED = (entry(1), entry(2, "kimi"), Entry(account(3), grant(3)))


@pytest.fixture
def full(shell: Shell) -> Shell:
    filled(vault_in(shell.home), STORED)
    return shell


def exported(shell: Shell, to: Path, *words: str, passphrase: str = WORDS) -> int:
    return shell("export", str(to), "--passphrase-stdin", *words, stdin=f"{passphrase}\n").code


def imported(shell: Shell, home: Path, file: Path, passphrase: str = WORDS) -> tuple[int, str]:
    there = Shell(home, shell._run)
    done = there("import", str(file), "--passphrase-stdin", stdin=f"{passphrase}\n")
    return done.code, done.err


def test_an_export_brings_the_accounts_to_another_machine(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert exported(full, file) == 0
    code, said = imported(full, tmp_path / "there", file)
    assert code == 0
    assert "3 added, 0 replaced" in said
    assert vault_in(tmp_path / "there").entries() == STORED


def test_an_export_is_never_plain_and_is_ours_alone(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    before = os.umask(0)
    try:
        assert exported(full, file) == 0
    finally:
        os.umask(before)
    content = file.read_bytes()
    assert b"sk-fake" not in content
    assert b"label-1" not in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert seal.read_header(content, seal.Format.EXPORT).source is KeySource.PASSPHRASE


def test_an_export_does_not_write_over_a_file_unasked(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    assert exported(full, file) == 2
    assert file.read_text() == "precious"
    assert exported(full, file, "--yes") == 0
    assert exported(full, tmp_path) == 2
    assert exported(full, tmp_path / "no" / "folder") == 1


def test_nothing_to_export_is_said_and_writes_nothing(shell: Shell, tmp_path: Path) -> None:
    assert exported(shell, tmp_path / "backup") == 3
    assert not (tmp_path / "backup").exists()


def test_the_passphrase_may_come_from_the_environment_and_must_come_from_somewhere(full: Shell, tmp_path: Path) -> None:
    assert full("export", str(tmp_path / "one")).code == 2
    assert full("export", str(tmp_path / "one"), "--passphrase-stdin", stdin="\n").code == 2
    assert full("export", str(tmp_path / "one"), export_passphrase=lambda: Secret("")).code == 2
    assert not (tmp_path / "one").exists()
    assert full("export", str(tmp_path / "one"), export_passphrase=lambda: Secret(WORDS)).code == 0
    assert full("import", str(tmp_path / "one"), export_passphrase=lambda: Secret(WORDS)).code == 0
    assert full("import", str(tmp_path / "one")).code == 2


def test_an_import_replaces_what_is_the_same_and_adds_the_rest(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    exported(full, file)
    there = tmp_path / "there"
    mine = Entry(Account(STORED[0].account.id, "zai", "changed", tier=9), ApiKey(Secret("sk-fake-mine")))
    clash = Entry(Account(entry(7).account.id, "kimi", "label-2"), ApiKey(Secret("sk-fake-other")))
    filled(vault_in(there), [mine, clash])
    code, said = imported(full, there, file)
    assert code == 0
    assert "2 added, 1 replaced" in said
    names = {one.account.name: one.credential for one in vault_in(there).entries()}
    assert names == {
        "zai/label-1": STORED[0].credential,
        "kimi/label-2": clash.credential,
        "kimi/label-2-2": STORED[1].credential,
        "zai/label-3": STORED[2].credential,
    }
    assert imported(full, there, file)[0] == 0
    assert len(vault_in(there).entries()) == 4


def test_a_wrong_passphrase_and_a_damaged_export_are_told_apart(full: Shell, tmp_path: Path) -> None:
    file, there = tmp_path / "backup", tmp_path / "there"
    exported(full, file)
    assert imported(full, there, file, "wrong words")[0] == 8
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert imported(full, there, file)[0] == 7
    file.write_bytes(whole[:60])
    assert imported(full, there, file)[0] == 7
    assert vault_in(there).entries() == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b'{"users": [{"refreshToken": "sk-fake-canary"}]}', "export"), (b"\x00\xff", "export")],
)
def test_a_file_nobody_can_read_says_what_can_be_read(shell: Shell, tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "strange.secret"
    file.write_bytes(content)
    done = shell("import", str(file))
    assert done.code == 2
    assert says in done.err
    assert "canary" not in done.all
    assert shell("import", str(tmp_path / "nowhere")).code == 2
    assert shell("import", str(tmp_path)).code == 2


def test_a_sealed_store_is_not_taken_for_an_export(full: Shell) -> None:
    done = full("import", str(full.vault.path))
    assert done.code == 2
    assert "sealed store" in done.err


def test_a_new_key_opens_the_store(full: Shell) -> None:
    before = full.vault.path.read_bytes()
    assert full("rekey", "--to", "file").code == 0
    assert full.vault.path.read_bytes() != before
    assert full.vault.entries() == STORED


def test_a_key_or_passphrase_from_stdin_becomes_the_new_one(full: Shell) -> None:
    done = full("rekey", "--to", "passphrase", "--passphrase-stdin", stdin=f"{WORDS}\n")
    assert done.code == 0
    assert "MCP_PROXY_VAULT_PASSPHRASE" in done.err
    assert WORDS not in done.all
    assert full("list").code == 8
    assert vault_in(full.home, passphrase=WORDS).entries() == STORED


@pytest.mark.parametrize("target", ["env", "passphrase"])
def test_a_key_that_a_running_server_could_not_read_is_refused(full: Shell, target: str) -> None:
    before = full.vault.path.read_bytes()
    done = full("rekey", "--to", target, "--passphrase-stdin", stdin="x\n", server_running=lambda: True)
    assert done.code == 7
    assert "server" in done.err
    assert full.vault.path.read_bytes() == before
    assert full("rekey", "--to", "file", server_running=lambda: True).code == 0


def test_what_the_environment_holds_is_taken_unless_it_is_the_old_one(full: Shell) -> None:
    key = seal.encoded_key(seal.Key(b"e" * 32))
    with_key = {"open_vault": lambda: vault_in(full.home, key=key)}
    assert full("rekey", "--to", "env").code == 2
    assert full("rekey", "--to", "env", **with_key).code == 0
    assert full("list", **with_key).code == 0
    assert full("rekey", "--to", "env", **with_key).code == 2
    assert full("rekey", "--to", "env", "--passphrase-stdin", stdin="rubbish\n", **with_key).code == 2
    assert full("rekey", "--to", "nowhere").code == 2


def test_a_missing_keychain_is_said_in_a_line(full: Shell) -> None:
    broken = {"open_vault": lambda: vault_in(full.home, keychain=MemoryKeychain(broken=True))}
    assert full("rekey", "--to", "keychain", **broken).code == 7
    assert full.vault.entries() == STORED
