"""An account without a credential of ours: each request brings one, or another program keeps it."""

from __future__ import annotations

import json

import pytest

from accounts.cli.ports import ProviderInfo
from accounts.model import CallersOwn, CallersSignIn, ClaudeCodeLogin, Verdict, Works
from tests.accounts.cli import program
from tests.accounts.cli.conftest import Shell

PLAN = ProviderInfo("plan", "A plan", CallersSignIn(notice="Each brings its own.", terms="The terms forbid this."))
ADD = ("add", "--provider", "plan", "--no-input")


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """The shell, where a provider of plans is one more."""
    shell.fields["providers"] = {**program.PROVIDERS, "plan": PLAN}
    return shell


def test_nothing_is_asked_for_and_what_it_is_is_said(shell: Shell) -> None:
    done = shell(*ADD, "--base-url", "https://plans.example")
    assert done.code == 0 and "Each brings its own." in done.err and "Asking" not in done.err
    (entry,) = shell.vault.entries()
    assert (entry.credential, entry.account.base_url) == (CallersOwn(), "https://plans.example")
    assert shell(*ADD, "--base-url", "https://plans.example").code == 0
    assert len(shell.vault.entries()) == 1, "the same again"
    shown = json.loads(shell("show", "plan/default", "--json").out)
    assert shown["account"]["credential"] == {"kind": "callers_own"}
    assert "each request brings its caller's own" in shell("show", "plan/default").out
    assert "which its caller renews" in shell("refresh").err
    assert shell("list").code == 0


def test_the_login_of_another_program_wants_consent_and_is_not_taken_along(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = (*ADD, "--from-claude-code")
    assert shell(*read, "--yes").code == 4, "nobody is logged in"
    monkeypatch.setenv("TEST_LOGIN", "1")
    done = shell(*read)
    assert (done.code, "--yes" in done.err, shell.vault.entries()) == (2, True, ())
    done = shell(*read, "--yes")
    assert done.code == 0 and "The terms forbid this." in done.err
    (entry,) = shell.vault.entries()
    assert entry.credential == ClaudeCodeLogin("/home/someone/login")
    assert "/home/someone/login" in shell("show", "plan/default").out
    assert "run `claude` once" in shell("refresh").err
    assert shell("verify", "--json").code == 0


@pytest.mark.parametrize(
    "words", [(*ADD, "--api-key-stdin"), ("add", "--provider", "zai", "--from-claude-code", "--no-input")]
)
def test_a_plan_has_no_key_and_a_key_no_plan(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell(*words).code == 2
    assert shell.vault.entries() == ()


def test_a_refusal_leaves_no_mark_on_a_login_that_is_renewed_elsewhere(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LOGIN", "1")
    assert shell(*ADD, "--from-claude-code", "--yes").code == 0
    refusing = {"verify": lambda account, credential: Verdict(Works.REFUSED, "run it once")}
    assert shell("verify", **refusing).code == 4
    assert shell.vault.entries()[0].account.invalid is None


def test_both_kinds_travel_in_an_export(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_EXPORT", "sk-fake passphrase of an export")
    monkeypatch.setenv("TEST_LOGIN", "1")
    assert shell(*ADD, "--label", "own").code == 0
    assert shell(*ADD, "--label", "read", "--from-claude-code", "--yes").code == 0
    before = shell.vault.entries()
    export = shell.home / "export.sealed"
    assert shell("export", str(export)).code == 0
    shell.vault.edit(lambda entries: ())
    assert shell("import", str(export)).code == 0
    assert shell.vault.entries() == before
