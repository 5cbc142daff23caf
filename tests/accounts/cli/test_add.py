from __future__ import annotations

import pytest

from accounts.model import Secret
from tests.accounts.cli.conftest import Shell
from tests.accounts.cli.program import CONFIGURED

KEY = "sk-fake-key-0001-not-real"
OTHER = "sk-fake-key-0002-not-real"


def test_an_account_is_stored_under_the_default_label_and_the_label_is_told(shell: Shell) -> None:
    done = shell.add(KEY)
    assert (done.code, done.out) == (0, "")
    assert "Stored zai/default" in done.err and "rename zai/default" in done.err
    (entry,) = shell.vault.entries()
    assert (entry.account.name, entry.credential.key) == ("zai/default", Secret(KEY))


def test_any_number_of_accounts_get_labels_of_their_own(shell: Shell) -> None:
    for number in range(1, 13):
        assert shell.add(f"{KEY}{number}", "--no-verify").code == 0
    labels = [entry.account.label for entry in shell.vault.entries()]
    assert labels == ["default", *(f"default-{number}" for number in range(2, 13))]


def test_everything_that_was_said_is_stored(shell: Shell) -> None:
    words = ("--provider", "custom", "--label", "lab", "--tier", "3", "--base-url", "https://llm.example/v/")
    assert shell.add(KEY, *words, "--auth", "bearer", "--model", "one", "two", "--model", "three").code == 0
    account = shell.vault.entries()[0].account
    assert (account.name, account.tier, account.base_url) == ("custom/lab", 3, "https://llm.example/v")
    assert (account.auth, account.models) == ("bearer", ("one", "two", "three"))


def test_a_refused_key_is_not_stored_and_not_repeated(shell: Shell) -> None:
    done = shell.add("sk-fake-refused-canary")
    assert done.code == 4
    assert "canary" not in done.all
    assert "\x1b" not in done.all
    assert "refused" in done.err
    assert shell.vault.entries() == ()


def test_a_provider_out_of_reach_stores_nothing_and_names_the_way_round(shell: Shell) -> None:
    done = shell.add("sk-fake-unreachable")
    assert done.code == 6
    assert "--no-verify" in done.err
    assert shell.vault.entries() == ()
    assert shell.add("sk-fake-unreachable", "--no-verify").code == 0


def test_the_same_label_again_replaces_the_credential_and_clears_the_mark(shell: Shell) -> None:
    shell.add("sk-fake-refused-one", "--label", "work", "--tier", "2", "--no-verify")
    shell("verify")
    before = shell.vault.entries()[0].account
    assert before.invalid is not None
    done = shell.add(KEY, "--label", "work")
    assert done.code == 0
    assert "Replaced" in done.err
    (entry,) = shell.vault.entries()
    assert (entry.account.id, entry.account.invalid, entry.account.tier) == (before.id, None, 2)
    assert entry.credential.key == Secret(KEY)


def test_the_same_key_at_the_same_address_is_the_same_account(shell: Shell) -> None:
    shell.add(KEY)
    assert shell.add(KEY).code == 0
    assert len(shell.vault.entries()) == 1
    assert shell.add(KEY, "--base-url", "https://elsewhere.example").code == 0
    assert shell.add(KEY, "--provider", "kimi").code == 0
    assert len(shell.vault.entries()) == 3
    assert shell.add(KEY, "--label", "renamed").code == 0
    assert [entry.account.label for entry in shell.vault.entries()] == ["renamed", "default-2", "default"]


def test_an_account_that_is_switched_off_stays_off_and_that_is_said(shell: Shell) -> None:
    shell.add(KEY)
    shell("disable", "default")
    assert "disabled" in shell.add(KEY).err
    assert not shell.vault.entries()[0].account.enabled


def test_a_label_of_the_config_file_is_not_taken(shell: Shell) -> None:
    shell.fields["extra_entries"] = lambda: (CONFIGURED,)
    assert shell.add(KEY, "--label", "from-config").code == 2
    assert shell.vault.entries() == ()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--provider zai|kimi|custom"),
        (("--provider", "zia"), "did you mean zai"),
        (("--provider", "zai"), "--api-key-stdin"),
        (("--provider", "custom", "--api-key-stdin"), "--base-url"),
        (("--provider", "zai", "--tier", "-1"), "tier"),
        (("--provider", "zai", "--auth", "cookie"), "bearer"),
        (("--provider", "zai", "--label", "a/b"), "no '/'"),
        (("--provider", "zai", "--label", "a\nb"), "printable"),
        (("--provider", "zai", "--label", " "), "1 to 64"),
    ],
)
def test_what_cannot_be_is_a_usage_error_in_a_line(shell: Shell, words: tuple[str, ...], says: str) -> None:
    done = shell("add", *words, stdin=f"{KEY}\n")
    assert done.code == 2
    assert says in done.err
    assert done.out == ""
    assert len(done.err.splitlines()) <= 2
    assert shell.vault.entries() == ()


@pytest.mark.parametrize("line", ["", "\n", "   \n", "two words\n", "sk-fake\tcanary\n", "sk-fäke\n", "sk\x00fake\n"])
def test_a_line_that_holds_no_key_is_refused_unrepeated(shell: Shell, line: str) -> None:
    done = shell("add", "--provider", "zai", "--api-key-stdin", stdin=line)
    assert done.code == 2
    assert "canary" not in done.all
    assert shell.vault.entries() == ()


def test_the_line_end_and_space_around_a_piped_key_are_dropped(shell: Shell) -> None:
    shell("add", "--provider", "zai", "--api-key-stdin", stdin=f"  {KEY} \r\nand more\n")
    assert shell.vault.entries()[0].credential.key == Secret(KEY)


def test_a_notice_about_the_terms_is_told_first(shell: Shell) -> None:
    assert "forbids" in shell.add(KEY, "--provider", "kimi").err


def test_ctrl_c_while_the_provider_is_asked_stores_nothing(shell: Shell) -> None:
    done = shell.add("sk-fake-interrupt")
    assert done.code == 130
    assert "interrupted" in done.err
    assert shell.vault.entries() == ()
