"""`accounts add` of a provider that is signed in to on its page, from a script: what is stored, what is said."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from accounts.model import Account, AccountId, Entry, OAuthClient, OAuthGrant, Secret
from tests.accounts.cli import program
from tests.accounts.cli.conftest import Result, Shell
from tests.accounts.kit import filled, grant
from tests.accounts.sign_in.google import CLIENT, Google, browse

EMAIL = "someone@example.com"


class Browser:
    """Goes to the page it is asked to open, as a desktop's browser would, and keeps what it ended on."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, str]] = []
        self.began: list[threading.Thread] = []

    def __call__(self, page: str) -> None:
        thread = threading.Thread(target=lambda: self.ended.append(browse(page)))
        self.began.append(thread)
        thread.start()


@pytest.fixture
def signed(shell: Shell, google: Google, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell with a Google, an OAuth client in its settings, and a browser."""
    monkeypatch.setenv("TEST_GOOGLE", google.url)
    monkeypatch.setenv("TEST_CLIENT", "set")
    return shell


def add(shell: Shell, *words: str, **fields: object) -> Result:
    browser = Browser()
    done = shell("add", "--provider", "antigravity", "--yes", *words, open_page=browser, **fields)
    for thread in browser.began:
        thread.join()
    assert "sk-fake" not in done.all
    return done


def test_the_account_is_called_by_its_email_and_what_was_learnt_is_kept(signed: Shell) -> None:
    done = add(signed)
    assert (done.code, done.out) == (0, "")
    assert "Google's terms forbid this." in done.err
    (page,) = [line for line in done.err.splitlines() if "/auth?" in line]
    assert page.startswith("http://127.0.0.1:") and " " not in page
    (entry,) = signed.vault.entries()
    assert entry.account.name == f"antigravity/{EMAIL}"
    assert entry.account.extra == {"email": EMAIL, "project": f"project-of-{EMAIL}", "plan": "free"}
    assert isinstance(entry.credential, OAuthGrant)
    assert entry.credential.client == CLIENT
    assert entry.credential.token is not None and entry.credential.token.expires_at == program.NOW + 3599


def test_the_same_person_again_replaces_the_tokens_and_clears_the_mark(signed: Shell) -> None:
    add(signed)
    before = signed.vault.entries()[0].account
    signed.vault.change(before.id, lambda known: replace(known, invalid="revoked", tier=3))
    done = add(signed)
    assert (done.code, "Replaced" in done.err) == (0, True)
    (entry,) = signed.vault.entries()
    assert (entry.account.id, entry.account.invalid, entry.account.tier) == (before.id, None, 3)
    assert isinstance(entry.credential, OAuthGrant)
    assert entry.credential.refresh_token == Secret("sk-fake-refresh-2")


def test_a_person_whose_account_has_another_name_is_known_again(signed: Shell) -> None:
    assert add(signed, "--label", "work").code == 0
    assert add(signed).code == 0
    assert [entry.account.label for entry in signed.vault.entries()] == ["work"]
    signed("rename", "work", "play")
    assert add(signed, "--label", "own").code == 0
    assert [entry.account.label for entry in signed.vault.entries()] == ["own"]


def test_two_people_are_two_accounts_and_a_label_taken_over_forgets_who_had_it(signed: Shell, google: Google) -> None:
    add(signed)
    google.email = "other@example.com"
    assert add(signed).code == 0
    assert [entry.account.label for entry in signed.vault.entries()] == [EMAIL, "other@example.com"]
    google.email = "third@example.com"
    assert add(signed, "--label", EMAIL, "--no-verify").code == 0
    assert signed.vault.entries()[0].account.extra == {"email": "third@example.com"}


def test_an_email_that_is_no_label_becomes_one(signed: Shell, google: Google) -> None:
    google.email = f"a/b{'c' * 80}@example.com"
    assert add(signed).code == 0
    (entry,) = signed.vault.entries()
    assert entry.account.label.startswith("a-bccc") and len(entry.account.label) == 64
    assert entry.account.extra["email"] == google.email
    assert add(signed).code == 0
    assert len(signed.vault.entries()) == 1


@pytest.mark.parametrize(("who", "code"), [("banned@example.com", 4), ("away@example.com", 6)])
def test_what_the_provider_does_not_take_is_not_stored(signed: Shell, google: Google, who: str, code: int) -> None:
    google.email = who
    done = add(signed)
    assert done.code == code
    assert "key" not in done.err
    assert (program.VERIFICATION in done.err) == (code == 4)
    assert signed.vault.entries() == ()
    assert add(signed, "--no-verify").code == 0
    assert len(signed.vault.entries()) == 1


def test_a_denied_consent_stores_nothing(signed: Shell, google: Google) -> None:
    google.denies = True
    done = add(signed)
    assert (done.code, "access_denied" in done.err) == (4, True)
    assert signed.vault.entries() == ()


def test_a_sign_in_that_would_not_last_is_explained_and_not_stored(signed: Shell, google: Google) -> None:
    google.answers = {"refresh_token": None}
    done = add(signed)
    assert (done.code, "no refresh token" in done.err) == (4, True)
    assert signed.vault.entries() == ()


def test_a_code_is_read_from_a_pipe_and_no_page_is_opened(signed: Shell, google: Google) -> None:
    words = ("add", "--provider", "antigravity", "--yes", "--no-browser")
    for stdin, says in (("", "no code was pasted"), ("short\n", "too short"), ("http://localhost/?code=x\n", "state")):
        done = signed(*words, stdin=stdin, open_page=lambda page: pytest.fail("opened"))
        assert done.code == 2
        assert says in done.err
    assert google.exchanges == []
    assert signed(*words, stdin="4/0A-nobody-gave-this\n").code == 4
    assert signed.vault.entries() == ()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--yes"),
        (("--no-input",), "--yes"),
        (("--yes", "--api-key-stdin"), "--api-key-stdin"),
        (("--yes", "--label", "a/b"), "label"),
    ],
)
def test_what_cannot_be_is_a_usage_error_before_anything_is_opened(
    signed: Shell, google: Google, words: tuple[str, ...], says: str
) -> None:
    done = signed("add", "--provider", "antigravity", *words, open_page=lambda page: pytest.fail("opened"))
    assert done.code == 2
    assert says in done.err
    assert google.exchanges == []


def test_without_an_oauth_client_two_lines_say_what_is_missing(signed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_CLIENT")
    done = add(signed)
    assert done.code == 2
    assert len(done.err.splitlines()) == 2
    assert "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET" in done.err


def test_the_client_of_another_account_is_used_again(signed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_CLIENT")
    foreign = Account(AccountId("id0001"), "zai", "x")
    bare = Account(AccountId("id0002"), "antigravity", "bare@example.com")
    filled(signed.vault, [Entry(foreign, grant(1)), Entry(bare, grant(2, client=None))])
    assert add(signed).code == 2
    known = replace(bare, id=AccountId("id0003"), label="known@example.com")
    filled(signed.vault, [Entry(known, grant(3))])
    assert add(signed).code == 0
    added = signed.vault.entries()[-1].credential
    assert isinstance(added, OAuthGrant) and added.client == CLIENT


def test_a_wrong_client_names_the_settings(signed: Shell) -> None:
    done = add(signed, oauth_client=lambda _: OAuthClient("nobody.example", Secret("sk-fake-nobody")))
    assert (done.code, "GOOGLE_CLIENT_ID" in done.err) == (2, True)


def test_the_address_of_the_recipe_can_be_replaced(signed: Shell, google: Google) -> None:
    made = program.google("http://127.0.0.1:9")
    done = add(
        signed,
        providers={"antigravity": made},
        recipe=lambda provider: replace(google.recipe(port=0), terms="Replaced terms."),
    )
    assert (done.code, "Replaced terms." in done.err) == (0, True)


def test_a_signed_in_account_is_shown_without_its_secrets(signed: Shell) -> None:
    add(signed)
    done = signed("show", EMAIL)
    assert "Sign-in" in done.out and CLIENT.id in done.out and "2027-01-15T08:59:59+00:00" in done.out
    assert f"project-of-{EMAIL}" in done.out
    assert "sk-fake" not in done.all
    shown = json.loads(signed("show", EMAIL, "--json").out)["account"]
    assert shown["credential"]["kind"] == "oauth"
    assert shown["credential"]["client_id"] == CLIENT.id
    assert shown["extra"]["project"] == f"project-of-{EMAIL}"
    assert EMAIL in signed("list").out


def test_verify_keeps_what_it_learns_and_shows_a_whole_address(signed: Shell, google: Google) -> None:
    add(signed, "--no-verify")
    google.email = "banned@example.com"
    add(signed, "--no-verify")
    done = signed("verify")
    assert done.code == 4
    assert "sign-in" in done.out
    assert program.VERIFICATION in done.out
    assert "sk-fake" not in done.all
    found = {entry.account.label: entry.account for entry in signed.vault.entries()}
    assert found[EMAIL].extra["project"] == f"project-of-{EMAIL}"
    assert program.VERIFICATION in (found["banned@example.com"].invalid or "")
    listed = signed("list")
    assert listed.code == 0
    assert any(program.VERIFICATION in line for line in listed.out.splitlines())
    assert signed("verify", EMAIL).code == 0


def test_tokens_are_renewed_and_what_hinders_it_is_told(signed: Shell, google: Google) -> None:
    add(signed)
    signed.add("sk-fake-key")
    renewed: list[str] = []
    done = signed("refresh", refresh=lambda account, credential: renewed.append(account.label))
    assert (done.code, renewed) == (0, [EMAIL])
    assert "renewed." in done.err and "nothing to renew" in done.err
    done = signed("refresh", EMAIL, refresh=lambda account, credential: f"503 {credential.refresh_token.reveal()}")
    assert done.code == 6
    assert "sk-fake" not in done.all

    def revoked(account: Account, credential: object) -> str:
        signed.vault.change(account.id, lambda known: replace(known, invalid="revoked"))
        return "sign in again"

    assert signed("refresh", refresh=revoked).code == 4
