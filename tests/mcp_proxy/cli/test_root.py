"""The command line as a whole: help, usage errors, exit codes, and what is imported when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
from tests.mcp_proxy.cli.conftest import Proxy

HEAVY = (
    "blacksheep",
    "uvicorn",
    "httpx",
    "httpx2",
    "aiohttp",
    "authlib",
    "tinydb",
    "cryptography",
    "msgspec",
    "structlog",
)
COMMANDS = ("serve", "demo", "accounts", "config", "status", "limits", "models", "usage", "why", "reset", "doctor")
OWN = ("serve", "config", "status", "limits", "models", "usage", "why", "reset", "doctor")


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=30, check=False)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
assert run(app, ["--help"]) == 0
heavy = {(*HEAVY, "mcp_proxy.cli.s", "mcp_proxy.settings")!r}
sys.exit(" ".join(name for name in sys.modules if name.startswith(heavy)) or 0)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert all(f" {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", OWN)
def test_a_commands_help_imports_nothing_heavy_and_has_examples_and_exit_codes(proxy: Proxy, command: str) -> None:
    code = f"""
import sys
from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
assert run(app, [{command!r}, "--help"]) == 0
sys.exit(" ".join(name for name in sys.modules if name.split(".")[0] in {HEAVY!r}) or 0)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout and "Exit codes:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_module_and_the_version() -> None:
    done = python("-m", "mcp_proxy", "--version")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip()


def test_without_a_command_there_is_help(proxy: Proxy) -> None:
    ended = proxy()
    assert ended.code == 0 and "proxy demo" in ended.out and not ended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["srve"], 'did you mean "serve"?'),
        (["serve", "--prot", "1"], "--port"),
        (["serve", "--port", "many"], "int"),
        (["serve", "word"], "word"),
        (["status", "--json", "--nope"], "--nope"),
        (["accounts", "add", "antigravity"], "did you mean --provider antigravity?"),
        (["accounts", "list", "claude-subscription"], "did you mean --provider claude-subscription?"),
        (["accounts", "list", "--provider", "zai", "zai"], "a word too many. A key"),
        (["reset", "zai"], "did you mean --provider zai?"),
        (["limits", "now"], "there is a word too many\n"),
        (["limits", "--no-json"], "--no-json"),
        (["serve", "--soft-limit", "nan"], "--soft-limit is not between 0 and 1"),
        (["serve", "--soft-limit", "1.5"], "--soft-limit is not between 0 and 1"),
        (["serve", "--soft-limit", "0.1", "--no-soft-limit"], "cannot both"),
        (["serve", "--workers", "2"], "--workers"),
        (["serve", "--config", "/nowhere/config.toml"], "--config: there is no file"),
        (["serve"], "PROXY_API_KEY is not set"),
    ],
)
def test_a_usage_error_is_a_line_or_two_on_stderr_and_ends_with_2(proxy: Proxy, words: list[str], says: str) -> None:
    ended = proxy(*words)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert says in ended.err and len(ended.err.splitlines()) <= 2 and ended.err.startswith("proxy: ")


def test_a_key_pasted_in_the_wrong_place_is_not_repeated(proxy: Proxy) -> None:
    for words in (
        ["serve", "sk-fake-key-0123456789"],
        ["serve", "--api-key=sk-fake-key-0123456789"],
        ["sk-fake-key-0123456789"],
    ):
        ended = proxy(*words)
        assert ended.code == Exit.USAGE and "sk-fake-key-0123456789" not in ended.err


class Strange(Exception):
    exit_code = 7


def raising(error: BaseException) -> App:
    found = App(name="proxy", result_action="return_value", suppress_keyboard_interrupt=False)

    @found.command
    def work() -> int:
        raise error

    return found


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Strange("the store is locked"), 7, "proxy: the store is locked\n"),
        (Trouble("nobody there", Exit.UNREACHABLE), 6, "proxy: nobody there\n"),
        (KeyboardInterrupt(), 130, "proxy: interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (SystemExit(5), 5, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_known_trouble_is_its_own_words_and_its_own_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    monkeypatch.setattr("mcp_proxy.cli.run._close_quietly", lambda: None)
    assert run(raising(error), ["work"]) == code
    assert capsys.readouterr() == ("", says)


def test_an_unforeseen_error_is_one_line_without_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = raising(ValueError("bad header: fake-secret"))
    assert run(broken, ["work"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.startswith("proxy: internal error: ValueError") and "DEBUG=1" in said
    assert len(said.splitlines()) == 1 and "fake-secret" not in said
    monkeypatch.setenv("DEBUG", "1")
    assert run(broken, ["work"]) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_what_a_command_returns_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    found = App(name="proxy")

    @found.command
    async def wait() -> int:
        return 3

    @found.command
    def nothing() -> None:
        return None

    assert (run(found, ["wait"]), run(found, ["nothing"])) == (3, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of a shell")
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m mcp_proxy --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (0, 1) and done.stderr == ""


def test_every_registered_command_has_a_place_and_help() -> None:
    names = [name for name in app if not name.startswith("-")]
    assert sorted(names) == sorted(COMMANDS)
