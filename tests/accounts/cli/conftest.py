from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from accounts.cli import Ports
from tests.accounts.cli import program
from tests.accounts.kit import vault_in


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


class Shell:
    """Runs commands over a store in a folder; `stdin` is piped, so nobody can be asked."""

    def __init__(self, home: Path, run: Callable[..., Result]) -> None:
        self.home = home
        self._run = run
        self.fields: dict[str, object] = {}

    def __call__(self, *words: str, stdin: str = "", **fields: object) -> Result:
        return self._run(program.ports(self.home, **{**self.fields, **fields}), words, stdin)

    def add(self, key: str, *words: str) -> Result:
        provider = () if "--provider" in words else ("--provider", "zai")
        return self("add", *provider, *words, "--api-key-stdin", stdin=f"{key}\n")

    @property
    def vault(self):  # type: ignore[no-untyped-def]
        return vault_in(self.home)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    def run(made: Ports, words: tuple[str, ...], stdin: str) -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = program.call(made, *words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Result(code, said.out, said.err)

    return Shell(tmp_path / "home", run)
