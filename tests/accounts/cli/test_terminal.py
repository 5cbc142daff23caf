"""The commands in front of a person: a pseudo-terminal, typed at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.model import Account, AccountId, ApiKey, Entry, Secret
from tests.accounts.kit import REPOSITORY, entry, filled, vault_in

pexpect = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are a POSIX thing")

KEY = "sk-fake-typed-0001-not-real"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TEST_EXPORT")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "100", **more}


class Typing:
    """A program in a pseudo-terminal, and all it wrote."""

    def __init__(self, home: Path, *words: str, **more: str) -> None:
        arguments = ["-m", "tests.accounts.cli.program", str(home), *words]
        self.child = pexpect.spawn(
            sys.executable, arguments, env=environment(**more), cwd=str(REPOSITORY), encoding="utf-8", timeout=20
        )
        self.child.delaybeforesend = None
        self.child.delayafterclose = self.child.ptyproc.delayafterclose = 0.01
        self.written = ""

    def reads(self, text: str) -> None:
        self.child.expect_exact(text)
        self.written += self.child.before + self.child.after

    def types(self, text: str) -> None:
        self.child.sendline(text)

    def ends(self) -> int:
        self.child.expect(pexpect.EOF)
        self.written += self.child.before
        self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"


def test_a_person_chooses_from_the_menu_and_pastes_the_key_unseen(home: Path) -> None:
    person = Typing(home, "add")
    person.reads("Any Anthropic endpoint")
    person.reads("Provider (number or name): ")
    person.types("9")
    person.reads("a number from 1 to 3")
    person.reads("Provider (number or name): ")
    person.types("1")
    person.reads("https://keys.example/zai")
    person.reads("API key (not shown): ")
    person.types(KEY)
    assert person.ends() == 0
    assert KEY not in person.written
    assert "Stored zai/default" in person.written
    assert vault_in(home).entries()[0].credential.key == Secret(KEY)


def test_a_custom_endpoint_is_asked_for_and_the_same_account_again_gets_the_new_key(home: Path) -> None:
    filled(vault_in(home), [Entry(Account(AccountId("id0001"), "custom", "lab"), ApiKey(Secret(KEY + "1")))])
    person = Typing(home, "add", "--provider", "custom", "--label", "lab")
    person.reads("Address of the endpoint")
    person.types("https://llm.example")
    person.reads("API key (not shown): ")
    person.types(KEY + "2")
    assert person.ends() == 0
    assert [each.credential.key for each in vault_in(home).entries()] == [Secret(KEY + "2")]


def test_ctrl_c_at_a_prompt_ends_quietly(home: Path) -> None:
    for hidden in (False, True):
        person = Typing(home, "add", *(("--provider", "zai") if hidden else ()))
        person.reads("API key (not shown): " if hidden else "Provider (number or name): ")
        person.child.sendintr()
        assert person.ends() == 130
        assert "Traceback" not in person.written
        assert person.written.splitlines()[-1].endswith("interrupted") and "^C" not in person.written.splitlines()[-1]
    assert vault_in(home).entries() == ()


def test_the_end_of_input_at_a_prompt_is_not_an_answer(home: Path) -> None:
    person = Typing(home, "add")
    person.reads("Provider (number or name): ")
    person.child.sendeof()
    assert person.ends() == 2
    assert "Traceback" not in person.written


def test_with_no_input_nothing_is_asked_even_on_a_terminal(home: Path) -> None:
    filled(vault_in(home), [entry(1)])
    for words in (("add", "--provider", "zai"), ("export", str(home / "x"))):
        person = Typing(home, *words, "--no-input")
        assert person.ends() == 2
        assert len(person.written.strip().splitlines()) <= 2


def test_removing_asks_and_an_export_is_typed_twice(home: Path) -> None:
    filled(vault_in(home), [entry(1)])
    person = Typing(home, "remove", "label-1")
    person.reads("[y/N] ")
    person.types("")
    assert person.ends() == 1
    for again, code in (("other words", 2), ("some words", 0)):
        person = Typing(home, "export", str(home / "backup"))
        person.reads("Passphrase (not shown): ")
        person.types("some words")
        person.reads("The same again: ")
        person.types(again)
        assert person.ends() == code
        assert "some words" not in person.written


def test_a_list_is_drawn_for_eyes_and_plain_without_colour(home: Path) -> None:
    filled(vault_in(home), [entry(1), entry(2, enabled=False)])
    drawn = Typing(home, "list")
    assert drawn.ends() == 0
    assert "\x1b[" in drawn.written
    assert "label-2" in drawn.written
    plain = Typing(home, "list", NO_COLOR="1")
    assert plain.ends() == 0
    assert "\x1b[" not in plain.written


def test_ctrl_c_in_a_pipe_and_a_reader_that_leaves_are_no_tracebacks(home: Path) -> None:
    filled(vault_in(home), [entry(1)])
    words = [sys.executable, "-m", "tests.accounts.cli.program", str(home)]
    child = subprocess.Popen(
        [*words, "add", "--provider", "kimi", "--api-key-stdin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=REPOSITORY,
    )
    assert child.stderr is not None
    assert b"forbids" in child.stderr.readline()  # what it says before it waits for the key
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 130
    assert b"Traceback" not in child.stderr.read()
    child.stderr.close()
    assert child.stdin is not None
    child.stdin.close()
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*words, "list", "--json"], stdout=write_end, stderr=subprocess.PIPE, env=environment(), cwd=REPOSITORY
    )
    os.close(write_end)
    assert done.stderr == b""


def test_the_commands_load_nothing_heavy_before_one_of_them_runs() -> None:
    heavy = ["tinydb", "cryptography", "filelock", "keyring", "blacksheep", "httpx", "authlib", "mcp_proxy"]
    code = f"import sys, accounts.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=REPOSITORY, check=True
    )
    assert done.stdout.strip() == "[]"
