"""P7: no planted secret is in anything that was written. The search itself, on places where it must find one.

The whole suite is its subject: `tests/conftest.py` searches after every test. What the program writes when everything
is done to make it talk is in `tests/e2e/test_canary.py`.
"""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_proxy.sandbox import Sandbox
from tests.e2e.harness import KEY
from tests.faults.secrets import MARK, found_in_folder, found_in_text

SECRET = f"{MARK}-0001"
WRITTEN: dict[str, Callable[[str], str | bytes]] = {
    "as it is": str,
    "as bytes": str.encode,
    "in an error": lambda text: f"Traceback (most recent call last):\nValueError: {text!r}",
    "in JSON": lambda text: json.dumps({"error": f'"{text}"\n'}),
    "in a URL": lambda text: f"http://u:{urllib.parse.quote(text, safe='')}@h/?k={urllib.parse.quote_plus(text)}",
    "percent by percent": lambda text: "".join(f"%{ord(each):02X}" for each in text),
    "in base64": lambda text: base64.b64encode(text.encode()),
    "in base64 behind one byte": lambda text: base64.b64encode(b"a" + text.encode()),
    "in base64 behind two bytes": lambda text: base64.b64encode(b"ab" + text.encode()),
    "in basic authorization": lambda text: b"Basic " + base64.urlsafe_b64encode(f"user:{text}".encode()),
    "in hex": lambda text: text.encode().hex(),
    "in upper hex": lambda text: text.encode().hex().upper(),
    "in two bytes a letter": lambda text: text.encode("utf-16"),
    "cut short": lambda text: text[: len(MARK)],
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_planted_secret_is_found_however_it_was_written(how: str) -> None:
    """P7."""
    said = WRITTEN[how](SECRET)
    assert len(found_in_text([("the log", said)])) == 1
    assert found_in_text([("the log", WRITTEN[how]("sk-real-other-text"))]) == [], "and nothing else is"


def test_a_planted_secret_is_found_in_files_and_names_but_not_where_it_belongs(tmp_path: Path) -> None:
    """P7."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "state.db").write_bytes(b"\0" * 9000 + SECRET.encode() + b"\xff")
    (tmp_path / f"{MARK}.log").write_text("nothing")
    found = found_in_folder(tmp_path)
    assert len(found) == 2 and "deep/er/state.db" in found[1] and "the name of" in found[0]
    (tmp_path / "deep" / "er" / "state.db").unlink()
    (tmp_path / f"{MARK}.log").unlink()
    for name in ("config.toml", "proxy.key", ".env"):
        (tmp_path / name).write_text(SECRET)
    assert found_in_folder(tmp_path) == []


LEAKS = {
    "stdout": f"print('{SECRET}')",
    "stderr": f"import sys; print('{SECRET}', file=sys.stderr)",
    "a log record": f"import logging; logging.getLogger('x').warning('key %s', '{SECRET}')",
    "a file": f"(tmp_path / 'out.txt').write_text('{SECRET}')",
    "what was read already": f"print('{SECRET}'); capsys.readouterr()",
    "a program's output": f"import subprocess, sys; "
    f"subprocess.run([sys.executable, '-c', 'print(\"{SECRET}\")'], capture_output=True)",
}


@pytest.mark.parametrize(
    "where",
    [where if where in ("a file", "a log record") else pytest.param(where, marks=pytest.mark.slow) for where in LEAKS],
)
def test_a_test_that_leaves_a_planted_secret_fails(tmp_path: Path, where: str) -> None:
    """P7: the hook itself, in a suite of one test."""
    assert run_suite(tmp_path, LEAKS[where]) == (1, True)


def test_a_test_that_leaves_none_passes(tmp_path: Path) -> None:
    """P7: the twin."""
    assert run_suite(tmp_path, "print('nothing'); (tmp_path / 'config.toml').write_text('nothing')") == (0, False)


def run_suite(folder: Path, line: str) -> tuple[int, bool]:
    """How a suite of one test that does this ends, and whether it was because of a planted secret."""
    suite = folder / "suite.key"  # what it prints when it fails holds the secret, and so does its source
    suite.mkdir()
    (suite / "conftest.py").write_text("from tests.faults.watch import pytest_runtest_makereport  # noqa\n")
    (suite / "test_one.py").write_text(f"def test_it(tmp_path, capsys):\n    {line}\n")
    root = Path(__file__).parents[2]
    words = [
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        str(suite),
        str(suite),
    ]
    run = subprocess.Popen(
        [sys.executable, *words, "--basetemp", str(suite / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=root,
    )
    assert run.stdout is not None
    with run, run.stdout:
        said = run.stdout.read()  # not by `communicate`, which is watched
    for path in sorted(suite.rglob("*"), reverse=True):
        path.unlink() if path.is_file() or path.is_symlink() else path.rmdir()
    return run.returncode, "a planted secret was written" in said


async def test_the_secrets_of_the_suite_carry_the_mark() -> None:
    """P7: or the search would look for what nobody planted."""
    assert MARK in KEY
    async with Sandbox(["anthropic", "zai"]) as box:
        assert all(MARK in box.account(host).key for host in ("anthropic", "zai") for _ in range(2))
    logging.getLogger("tests").info("nothing to be found here")
