"""Signing in on a provider's page, in a pseudo-terminal: by the browser, by a paste, called off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accounts.model import OAuthGrant
from tests.accounts.kit import REPOSITORY, vault_in
from tests.accounts.sign_in.google import CLIENT, Google

pexpect = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are a POSIX thing")

from tests.accounts.cli.test_terminal import Typing, environment  # noqa: E402

ADD = ("add", "--provider", "antigravity")
BROWSER = f"{sys.executable} -m tests.accounts.sign_in.google %s"
EMAIL = "someone@example.com"
PASTE = "that the browser ends on: "


def page_of(person: Typing) -> str:
    """The page's address, which stands on a line of its own."""
    person.reads("on this page:\r\n")
    person.reads("\r\n")
    line = person.written.splitlines()[-1]
    assert line.startswith("http://") and " " not in line
    return line


@pytest.mark.slow
def test_a_person_agrees_and_the_browser_does_the_rest(tmp_path: Path, google: Google) -> None:
    person = Typing(tmp_path, *ADD, TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER=BROWSER)
    person.reads("Google's terms forbid this.")
    person.reads("Go on all the same? [y/N] ")
    person.types("y")
    person.reads(PASTE)
    person.reads("\r\nAsking Google whether the sign-in works")
    person.reads(f"Stored antigravity/{EMAIL}")
    assert person.ends() == 0
    assert "sk-fake" not in person.written
    assert [entry.account.label for entry in vault_in(tmp_path).entries()] == [EMAIL]
    assert len(google.exchanges) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_a_person_far_from_a_browser_pastes(tmp_path: Path, google: Google, whole: bool) -> None:
    person = Typing(tmp_path, *ADD, "--yes", "--no-browser", TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER="false")
    page = page_of(person)
    person.reads(PASTE)
    person.types("nonsense")
    person.reads("cannot be used")
    person.reads(PASTE)
    person.types(google.callback(page) if whole else google.code_for(page))
    person.reads(f"Stored antigravity/{EMAIL}")
    assert person.ends() == 0
    assert "sk-fake" not in person.written
    assert len(google.exchanges) == 1


def test_a_paste_wins_where_a_browser_is_waited_for_too(tmp_path: Path, google: Google) -> None:
    person = Typing(tmp_path, *ADD, "--yes", TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER="true")
    page = page_of(person)
    person.reads(PASTE)
    person.types(google.code_for(page))
    assert person.ends() == 0


def test_the_client_is_asked_for_once_and_sealed(tmp_path: Path, google: Google) -> None:
    assert CLIENT.secret is not None
    person = Typing(tmp_path, *ADD, "--yes", TEST_GOOGLE=google.url, BROWSER=BROWSER)
    person.reads("OAuth client id: ")
    person.types(CLIENT.id)
    person.reads("OAuth client secret (not shown): ")
    person.types(CLIENT.secret.reveal())
    assert person.ends() == 0
    assert "sk-fake" not in person.written
    (entry,) = vault_in(tmp_path).entries()
    assert isinstance(entry.credential, OAuthGrant) and entry.credential.client == CLIENT
    again = Typing(tmp_path, *ADD, "--yes", TEST_GOOGLE=google.url, BROWSER=BROWSER)
    again.reads("Replaced the credential")
    assert again.ends() == 0


@pytest.mark.parametrize("answer", ["n", ""])
def test_who_does_not_agree_is_not_signed_in(tmp_path: Path, google: Google, answer: str) -> None:
    person = Typing(tmp_path, *ADD, TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER=BROWSER)
    person.reads("[y/N] ")
    person.types(answer)
    assert person.ends() == 1
    assert google.issued == {}


@pytest.mark.slow
def test_a_denied_consent_is_told_plainly(tmp_path: Path, google: Google) -> None:
    google.denies = True
    person = Typing(tmp_path, *ADD, "--yes", TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER=BROWSER)
    assert person.ends() == 4
    assert "Google did not let you in: access_denied" in person.written
    assert "Traceback" not in person.written


@pytest.mark.parametrize("browser", [True, False])
def test_ctrl_c_ends_it_and_nobody_listens_any_more(tmp_path: Path, google: Google, browser: bool) -> None:
    more = () if browser else ("--no-browser",)
    person = Typing(tmp_path, *ADD, "--yes", *more, TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER="true")
    page_of(person)
    person.reads(PASTE)
    person.child.sendintr()
    assert person.ends() == 130
    assert "Traceback" not in person.written
    assert vault_in(tmp_path).entries() == ()


def test_the_end_of_input_at_the_paste_is_no_answer(tmp_path: Path, google: Google) -> None:
    person = Typing(tmp_path, *ADD, "--yes", "--no-browser", TEST_GOOGLE=google.url, TEST_CLIENT="set")
    person.reads(PASTE)
    person.child.sendeof()
    assert person.ends() == 2


def piped(home: Path, google: Google, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.accounts.cli.program", str(home), *ADD, "--yes", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER=BROWSER),
        cwd=REPOSITORY,
        text=True,
    )


@pytest.mark.slow
def test_a_script_reads_the_page_and_pipes_the_code(tmp_path: Path, google: Google) -> None:
    with piped(tmp_path, google, "--no-browser") as child:
        assert child.stderr is not None and child.stdin is not None
        page = next(line for line in child.stderr if line.startswith("http")).strip()
        code = google.code_for(page)
        for part in (code[:7], code[7:] + "\n"):
            child.stdin.write(part)
            child.stdin.flush()
        assert child.wait(20) == 0
    assert len(vault_in(tmp_path).entries()) == 1


@pytest.mark.slow
def test_two_sign_ins_at_once_are_two_accounts_or_one(tmp_path: Path, google: Google) -> None:
    """A5: of one person; each state reaches its own process, and the account is not doubled."""
    both = [piped(tmp_path, google) for _ in range(2)]
    for child in both:
        assert child.stdin is not None
        child.stdin.close()
    assert [child.wait(30) for child in both] == [0, 0]
    for child in both:
        assert child.stderr is not None
        child.stderr.close()
    assert [entry.account.label for entry in vault_in(tmp_path).entries()] == [EMAIL]
    assert len(google.exchanges) == 2


def test_a_whole_address_of_verification_fits_no_terminal_and_is_shown_whole(tmp_path: Path, google: Google) -> None:
    from tests.accounts.cli.program import VERIFICATION

    google.email = "banned@example.com"
    words = (*ADD, "--yes", "--no-verify")
    assert Typing(tmp_path, *words, TEST_GOOGLE=google.url, TEST_CLIENT="set", BROWSER=BROWSER).ends() == 0
    for verb in ("verify", "list"):
        person = Typing(tmp_path, verb, TEST_GOOGLE=google.url)
        assert person.ends() == (4 if verb == "verify" else 0)
        assert VERIFICATION in person.written
