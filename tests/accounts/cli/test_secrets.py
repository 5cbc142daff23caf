"""A planted key is looked for in everything that any command writes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from accounts.model import Account, AccountId, Credential, Entry, OAuthClient, OAuthGrant, Secret, Token, secrets_of
from tests.accounts.cli import program
from tests.accounts.cli.conftest import Shell
from tests.accounts.kit import filled

CANARY = "sk-fake-canary-5e4d3c2b1a-refused"
GRANT = OAuthGrant(
    Secret(f"{CANARY}-refresh"),
    OAuthClient("client-0001.example", Secret(f"{CANARY}-client")),
    Token(Secret(f"{CANARY}-token"), 1_800_003_599.0),
)
WORDS = "canary words nobody guesses"

COMMANDS = [
    ("list",),
    ("list", "--json"),
    ("show", "zai/a"),
    ("show", "zai/a", "--json"),
    ("show", CANARY),
    ("verify",),
    ("verify", "--json"),
    ("verify", CANARY),
    ("show", "antigravity/banned@g"),
    ("show", "antigravity/banned@g", "--json"),
    ("refresh",),
    ("refresh", "antigravity/banned@g"),
    ("enable", CANARY),
    ("disable", "zai/a"),
    ("rename", "zai/a", "zai/b"),
    ("rename", CANARY, "b"),
    ("remove", CANARY),
    ("remove", "zai/a"),
    ("add", CANARY),
    ("add", "--api-key", CANARY),
    ("add", f"--api-key={CANARY}"),
    ("add", "--provider", CANARY),
    ("add", f"--provider={CANARY}"),
    ("add", "--tier", CANARY),
    ("add", "--auth", CANARY),
    ("add", "--provider", "custom", "--base-url", f"https://u:{CANARY}@host", "--api-key-stdin"),
    ("add", "--provider", "zai", "--label", "a", "--api-key-stdin"),
    ("add", "--provider", "zai", "--label", "a", "--api-key-stdin", "--no-verify"),
    ("rekey", "--to", CANARY),
    ("rekey", "--to", "env", "--passphrase-stdin"),
    ("rekey", "--to", "file"),
    ("export", "OUT", "--passphrase-stdin"),
    ("export", "OUT", "--passphrase-stdin", "--yes"),
    ("import", "OUT", "--passphrase-stdin"),
    ("import", "STORE"),
    (CANARY,),
    (f"--no-such={CANARY}", "list"),
]


@pytest.mark.parametrize("broken", ["", "store", "key"])
def test_no_command_ever_writes_a_secret(
    shell: Shell, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    caplog.set_level(logging.DEBUG)
    shell.add(CANARY, "--label", "a", "--no-verify")
    filled(shell.vault, [Entry(Account(AccountId("id0009"), "antigravity", "banned@g"), GRANT)])
    if broken == "store":
        shell.vault.path.write_bytes(shell.vault.path.read_bytes()[:-1])
    if broken == "key":
        (shell.home / "config" / "vault.key").write_text("rubbish\n")
    places = {"OUT": str(tmp_path / "out"), "STORE": str(shell.vault.path)}
    codes = set()
    for words in COMMANDS:
        given = tuple(places.get(word, word) for word in words)
        passphrase = any(word in ("export", "import") for word in words)
        done = shell(*given, refresh=quoted, stdin=f"{WORDS if passphrase else CANARY}\n")
        codes.add(done.code)
        assert CANARY not in done.all, words
        assert "sk-fake" not in done.all, words
        assert WORDS not in done.all, words
    assert len(codes) >= 2, "the commands were really run"
    assert CANARY not in caplog.text
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert CANARY.encode() not in path.read_bytes(), path


def quoted(_: Account, credential: Credential) -> str:
    """A token endpoint that repeats what it was sent."""
    return f"400 {[secret.reveal() for secret in secrets_of(credential)]}"


def test_no_value_prints_its_secret(shell: Shell) -> None:
    shell.add(CANARY, "--no-verify")
    vault = shell.vault
    made = program.ports(shell.home)
    for value in (vault, vault.entries(), vault.sources, made, vault.entries()[0].credential):
        assert CANARY not in repr(value)
        assert CANARY not in str(value)


def test_what_a_provider_wrote_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.add(CANARY, "--label", "a", "--no-verify")
    shell("verify")
    for words in (("list",), ("show", "a"), ("list", "--json")):
        done = shell(*words)
        assert "401" in done.out
        assert "\x1b" not in done.out
    account = shell.vault.entries()[0].account
    shell.vault.change(AccountId(account.id), lambda known: known.__class__(known.id, "zai", "a\x1b[2J\n‮b"))
    for words in (("list",), ("show", account.id), ("disable", account.id)):
        assert not {"\x1b", "‮"} & set(shell(*words).all)
