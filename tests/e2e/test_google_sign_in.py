"""`proxy accounts` against a simulated Google: the real program in a pseudo-terminal, and a server on its store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

from mcp_proxy.sandbox import GoogleAccount, Sandbox
from mcp_proxy.sandbox.accounts import Place
from mcp_proxy.sandbox.google import refusals
from tests.e2e.harness import serving_accounts
from tests.e2e.test_process import PROXY, environment

pexpect = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are a POSIX thing")

T = TypeVar("T")
CLAUDE, GEMINI = "claude-sonnet-4-6", "gemini-3-flash"
ADD = ("add", "--provider", "antigravity")
PASTE = "that the browser ends on: "
BROWSER = """import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(sys.argv[1], timeout=20).read()
except OSError:
    pass
"""


class Person:
    """Somebody at a terminal, and all that was written there."""

    def __init__(self, home: Path, *words: str, **environ: str) -> None:
        shown = {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
        env = environment(home, **shown, **environ)
        arguments = [*PROXY[1:], "accounts", *words]
        self.child = pexpect.spawn(sys.executable, arguments, env=env, encoding="utf-8", timeout=20)
        self.child.delaybeforesend = None
        self.child.delayafterclose = self.child.ptyproc.delayafterclose = 0.01
        self.written = ""

    def reads(self, text: str) -> None:
        self.child.expect_exact(text)
        self.written += self.child.before + self.child.after

    def types(self, text: str) -> None:
        self.child.sendline(text)

    def page(self) -> str:
        """The page's address, which stands on a line of its own."""
        self.reads("on this page:\r\n")
        self.reads("\r\n")
        line = self.written.splitlines()[-1]
        assert line.startswith("http://127.0.0.1") and " " not in line
        return str(line)

    def ends(self) -> int:
        self.child.expect(pexpect.EOF)
        self.written += self.child.before
        self.child.close()
        assert "sk-fake" not in self.written.replace(*TYPED) and "Traceback" not in self.written, self.written
        return int(self.child.exitstatus)


TYPED = ("0sk-fake-code-", "")
"""A code is seen where a person pastes it; it is good once, and not without what only the program knows."""


@dataclass
class Desk:
    """A home of the program, the Google it signs in to, and a browser that agrees to everything."""

    box: Sandbox
    home: Path
    environ: dict[str, str]

    def person(self, *words: str, **environ: str) -> Person:
        return Person(self.home, *words, **{**self.environ, **environ})

    def run(self, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        env = environment(self.home, **{**self.environ, **environ})
        done = subprocess.run(
            [*PROXY, "accounts", *words], env=env, input=stdin, capture_output=True, text=True, timeout=30
        )
        assert "sk-fake" not in done.stdout + done.stderr and "Traceback" not in done.stderr, done
        return done

    def listed(self) -> dict[str, Any]:
        """The accounts by their labels."""
        done = self.run("list", "--json")
        assert done.returncode == 0, done.stderr
        return {each["label"]: each for each in json.loads(done.stdout)["accounts"]}

    def account(self, alias: str, **how: Any) -> GoogleAccount:
        """Somebody new, who sits down before the page."""
        made = self.box.account("antigravity", alias=alias, **how)
        self.box.google().sign_in.person = made
        return made


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    browser = tmp_path / "browser.py"
    browser.write_text(BROWSER)
    async with Sandbox(["antigravity"]) as box:
        environ = {**box.settings("antigravity"), "BROWSER": f"{sys.executable} -S {browser} %s"}
        yield Desk(box, tmp_path / "home", environ)
        assert box.complaints == []


async def beside(scenario: Callable[..., T], *given: Any) -> T:
    """In a thread: what waits for a terminal must not hold up the Google that it talks to."""
    return await asyncio.to_thread(scenario, *given)


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def callback(page: str) -> str:
    """Where the page sends the browser of a person who agrees, on another machine."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stays).open(page, timeout=20)
    except urllib.error.HTTPError as answer:
        with answer:
            assert answer.code == 302
            return str(answer.headers["location"])
    raise AssertionError("the page shows itself")


def code_in(address: str) -> str:
    return parse_qs(urlsplit(address).query)["code"][0]


@contextlib.contextmanager
def scanned(page: str) -> Iterator[None]:
    """While this lasts, others are connected to where the answer is waited for, and say nothing, or something else."""
    back = urlsplit(parse_qs(urlsplit(page).query)["redirect_uri"][0])
    assert back.port is not None
    with contextlib.ExitStack() as stack:
        visits = [stack.enter_context(socket.create_connection(("127.0.0.1", back.port), 5)) for _ in range(40)]
        stray = stack.enter_context(socket.create_connection(("127.0.0.1", back.port), 5))
        stray.sendall(f"GET {back.path}?code=4/0other-code&state=none HTTP/1.1\r\nhost: {back.netloc}\r\n\r\n".encode())
        assert stray.recv(100).startswith(b"HTTP/1.1 400 ")
        assert len(visits) == 40
        yield


async def test_who_signs_in_is_listed_checked_and_served_and_may_sign_in_again(desk: Desk) -> None:
    ann = desk.account("ann")

    def signs_in() -> None:
        person = desk.person(*ADD)
        person.reads("Google forbids the use of Antigravity through other programs and disables accounts for it.")
        person.reads("Go on all the same? [y/N] ")
        person.types("y")
        person.page()
        person.reads("\r\nSigned in as ann@example.com.\r\n")
        person.reads("\r\nStored antigravity/ann@example.com")
        assert person.ends() == 0

    def looks() -> None:
        (account,) = desk.listed().values()
        assert (account["label"], account["error"]) == ("ann@example.com", None)
        shown = desk.run("show", "ann@example.com").stdout
        fields = dict(line.split("  ", 1) for line in shown.splitlines())
        told = {name: fields[name].strip() for name in ("Project", "Plan", "E-mail", "Address")}
        assert told == {
            "Project": str(ann.project),
            "Plan": "Google AI Pro",
            "E-mail": ann.email,
            "Address": desk.box.url("antigravity"),
        }

    def signs_in_again() -> None:
        assert "sign in again: proxy accounts add --provider antigravity" in desk.listed()["ann@example.com"]["error"]
        person = desk.person(*ADD, "--yes", "--no-browser")
        page = person.page()
        person.reads("no page may come up")
        person.reads(PASTE)
        person.types(callback(page))
        person.reads("Replaced the credential of antigravity/ann@example.com")
        assert person.ends() == 0
        assert desk.listed()["ann@example.com"]["error"] is None

    await beside(signs_in)
    await beside(looks)
    async with serving_accounts(desk.home, [], environ=desk.environ) as proxy:

        async def served(model: str) -> int:
            async with asyncio.timeout(15):
                while (reply := await proxy.ask(model=model)).status_code == 503:
                    await asyncio.sleep(0.05)
            return reply.status_code

        assert [await served(model) for model in (CLAUDE, GEMINI)] == [200, 200]
        ann.revoke()
        assert (await proxy.ask(model=CLAUDE)).status_code == 503
        async with asyncio.timeout(10):
            while (await proxy.limits())["ann@example.com"]["status"] != "invalid":
                await asyncio.sleep(0.05)
        await beside(signs_in_again)
        assert [await served(model) for model in (CLAUDE, GEMINI)] == [200, 200]


async def test_a_code_is_pasted_while_the_port_is_scanned_and_a_verification_is_shown_whole(desk: Desk) -> None:
    """The token at hand may be refused though the sign-in is good; and the other way round."""
    ann = desk.account("ann")

    def pastes() -> None:
        person = desk.person(*ADD, "--yes", BROWSER="true")
        page = person.page()
        person.reads(PASTE)
        with scanned(page):
            person.types("http://localhost/oauth-callback?state=another&code=4/0another-code")
            person.reads("That cannot be used: it does not belong to this sign-in")
            person.reads(PASTE)
            person.types(code_in(callback(page)))
            assert person.ends() == 0

    def verifies(code: int, *, whole: str = "") -> None:
        for verb in ("verify", "list"):
            done = desk.run(verb)
            assert done.returncode == (code if verb == "verify" else 0), done
            said = done.stdout + done.stderr
            assert "[info" not in said and "[warn" not in said, "what a server logs is not said here"
            assert whole in done.stdout, done.stdout

    await beside(pastes)
    ann.expire()
    assert (await beside(desk.run, "verify")).returncode == 0, "only the token at hand had ended"
    ann.always(refusals.verification(), on=Place.PROJECT)
    await beside(lambda: verifies(4, whole=f"open {refusals.VERIFY_URL}\n"))
    ann.well()
    ann.banned = ann.rotates = True
    assert (await beside(desk.run, "verify")).returncode == 4, "its token lives on; what it is made from does not"
    ann.banned = False
    done = await beside(desk.run, "verify")
    assert done.returncode == 0, "the mark goes"
    assert (await beside(desk.listed))["ann@example.com"]["error"] is None


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_new_account_is_set_up_before_it_is_stored_by_a_script_that_pipes(desk: Desk, whole: bool) -> None:
    new = desk.account("new", project=None, polls=3)

    def pipes() -> None:
        with subprocess.Popen(
            [*PROXY, "accounts", *ADD, "--yes", "--no-browser"],
            env=environment(desk.home, **desk.environ),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stderr is not None and child.stdin is not None
            back = callback(next(line for line in child.stderr if line.startswith("http")).strip())
            child.stdin.write((back if whole else code_in(back)) + "\n")
            child.stdin.flush()
            told = child.stderr.read()
            assert child.wait(30) == 0 and told.count("Antigravity (Google) is still at work on it") == 1, told

    await beside(pipes)
    assert new.project is not None
    shown = json.loads((await beside(desk.run, "show", "new@example.com", "--json")).stdout)["account"]
    assert shown["extra"]["project"] == new.project and shown["extra"]["plan"] == "Google AI Pro"


def by_browser(desk: Desk, **environ: str) -> tuple[int, str]:
    person = desk.person(*ADD, "--yes", **environ)
    return person.ends(), " ".join(person.written.split())


STRANDED = {"project": None, "stranded": True, "plan": None, "polls": 0}


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ({"denies": True}, 4, "did not let you in: access_denied. Nothing was stored"),
        ({"withholds": True}, 4, "gave no refresh token"),
        (STRANDED, 6, "did not say that the sign-in works: Google does not offer this plan"),
        ({"fault": refusals.verification()}, 4, f"open {refusals.VERIFY_URL} Nothing was stored"),
        pytest.param({"fault": refusals.banned()}, 4, "Google has disabled this account", marks=pytest.mark.slow),
    ],
    ids=["denied", "no refresh token", "stranded", "to be verified", "banned"],
)
async def test_what_google_refuses_is_told_and_nothing_is_stored(
    desk: Desk, how: dict[str, Any], code: int, says: str
) -> None:
    how = dict(how)
    fault, desk.box.google().sign_in.denies = how.pop("fault", None), how.pop("denies", False)
    account = desk.account("ann", **how)
    if fault is not None:
        account.always(fault, on=Place.PROJECT)
    ended, written = await beside(by_browser, desk)
    assert (ended, says in written) == (code, True), written
    assert not (desk.home / "accounts.json").exists()


async def test_a_code_that_was_used_is_refused(desk: Desk) -> None:
    desk.account("ann")

    def replays() -> None:
        person = desk.person(*ADD, "--yes", "--no-browser")
        code = code_in(callback(person.page()))
        desk.box.google().sign_in.codes[code].used = True
        person.types(code)
        assert person.ends() == 4
        assert "refused the code (invalid_grant" in person.written

    await beside(replays)
    assert desk.box.complaints == ["antigravity /token: Bad Request"]
    desk.box.received.clear()


async def test_without_an_oauth_client_or_consent_to_the_terms_google_is_not_asked(desk: Desk) -> None:
    def refuses() -> None:
        nobody = replace(desk, environ={name: value for name, value in desk.environ.items() if "GOOGLE" not in name})
        done = nobody.run(*ADD, "--yes", "--no-input")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 2, done
        assert "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET" in done.stderr
        person = desk.person(*ADD)
        person.reads("[y/N] ")
        person.types("n")
        assert person.ends() == 1

    await beside(refuses)
    assert desk.box.received == []


async def test_what_another_tool_kept_is_taken_over_and_checked(desk: Desk, tmp_path: Path) -> None:
    ann = desk.account("ann")
    theirs = tmp_path / "theirs.json"
    kept = {"source": "oauth", "projectId": "of-another-time"}
    accounts = [{**kept, "email": ann.email, "refreshToken": ann.key}]
    accounts += [{**kept, "email": "gone@example.com", "refreshToken": "1//sk-fake-of-nobody"}]
    theirs.write_text(json.dumps({"accounts": accounts}))

    def takes_over() -> None:
        done = desk.run("import", str(theirs))
        theirs.unlink()
        assert done.returncode == 0 and "still shows its credentials" in done.stderr, done
        checked = desk.run("verify", "--json")
        assert checked.returncode == 4
        told = {each["label"]: each["credential"] for each in json.loads(checked.stdout)["accounts"]}
        assert told == {ann.email: "ok", "gone@example.com": "refused"}
        shown = json.loads(desk.run("show", ann.email, "--json").stdout)["account"]
        assert shown["extra"]["project"] == ann.project, "its own, whatever the file says"

    await beside(takes_over)
