"""Coming from another proxy: its accounts.json is imported, and is known where it stands in the store's place."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from accounts.cli.import_ import counted
from accounts.model import OAuthGrant, Secret
from tests.accounts.cli.conftest import Shell
from tests.accounts.transfer.test_foreign import COPILOT, KEYED, OURS, file

SIGNED = {**OURS, "provider": None}


@pytest.fixture
def shell(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("TEST_GOOGLE", "http://127.0.0.1:9")
    return shell


def test_accounts_come_in_and_what_does_not_is_said(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "secret.json"
    source.write_bytes(file(SIGNED, KEYED, COPILOT, {"source": "oauth"}))
    done = shell("import", str(source))
    assert (done.code, done.out) == (0, "")
    assert "Imported 2 accounts: 2 added, 0 replaced." in done.err
    assert "Left out 2 accounts:" in done.err
    assert "octo: no provider here is called 'copilot'" in done.err
    assert "account 4: it has no 'refreshToken'" in done.err
    assert "still shows its credentials" in done.err
    assert "sk-fake" not in done.all
    names = [entry.account.name for entry in shell.vault.entries()]
    assert names == ["antigravity/someone@example.com", "zai/zai-1a2b3c4d"]
    again = shell("import", str(source))
    assert "0 added, 2 replaced" in again.err


def test_a_file_of_which_nothing_is_of_use_is_its_own_exit_code(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "secret.json"
    source.write_bytes(file(COPILOT))
    done = shell("import", str(source))
    assert (done.code, "Imported 0 accounts" in done.err) == (3, True)
    assert shell.vault.entries() == ()


@pytest.mark.parametrize("indent", [None, 2])
def test_the_hint_at_a_foreign_file_in_the_stores_place_leads_to_the_accounts(shell: Shell, indent: int | None) -> None:
    """antigravity-claude-proxy writes its file in lines, others in one."""
    store = shell.home / "data" / "accounts.json"
    store.parent.mkdir(parents=True, mode=0o700)
    store.write_text(json.dumps(json.loads(file(SIGNED, KEYED)), indent=indent))
    store.chmod(0o600)
    done = shell("list")
    assert (done.code, "another tool" in done.err) == (7, True)
    move, _, command = done.err.splitlines()[1].removeprefix("       ").partition(" && ")
    subprocess.run(shlex.split(move), check=True)
    words = shlex.split(command)
    assert words[:3] == ["proxy", "accounts", "import"]
    assert shell(*words[2:]).code == 0
    Path(words[3]).unlink()  # as it is told to
    (signed, _) = shell.vault.entries()
    assert signed.credential == OAuthGrant(Secret("1//sk-fake-0001"))


@pytest.mark.parametrize(("number", "words"), [(0, "0 accounts"), (1, "1 account"), (2, "2 accounts")])
def test_one_account_is_not_called_several(number: int, words: str) -> None:
    assert counted(number) == words
