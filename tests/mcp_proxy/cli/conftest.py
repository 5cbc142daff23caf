"""Every command in these tests has a home of its own and an environment without surprises."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Proxy = Callable[..., Ended]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = {"PATH", "HOME", "TMPDIR", "SYSTEMROOT"}
    for name in set(os.environ) - kept:
        if not name.startswith(("PYTHON", "COVERAGE", "PYTEST")):
            monkeypatch.delenv(name)
    found = tmp_path / "home"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("MCP_PROXY_HOME", str(found))
    return found


@pytest.fixture
def proxy(capsys: pytest.CaptureFixture[str]) -> Proxy:
    """Run a command line in this process."""

    def proxy(*words: str) -> Ended:
        capsys.readouterr()
        code = run(app, words)
        return Ended(code, *capsys.readouterr())

    return proxy
