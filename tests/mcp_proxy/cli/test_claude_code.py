"""The login that Claude Code keeps: read as it is rewritten, whatever it holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from accounts.model import ClaudeCodeLogin, Secret, Token
from mcp_proxy.cli import claude_code
from mcp_proxy.cli.callers_key import callers_key
from mcp_proxy.gateway.callers import Callers

TOKEN = "sk-ant-oat01-sk-fake-of-the-file"


def held(**fields: object) -> bytes:
    return json.dumps({"claudeAiOauth": {"accessToken": TOKEN, "expiresAt": 1_800_000_000_000, **fields}}).encode()


def login(path: Path, content: bytes) -> ClaudeCodeLogin:
    path.write_bytes(content)
    return ClaudeCodeLogin(str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".credentials.json"


def test_a_login_is_its_token_and_when_that_ends(path: Path) -> None:
    assert claude_code.parse(held()) == Token(Secret(TOKEN), 1_800_000_000.0)
    assert claude_code.parse(held(expiresAt=None)) == Token(Secret(TOKEN))
    assert claude_code.parse(held(expiresAt="soon")) == Token(Secret(TOKEN))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"claudeAiOauth":null}', b'{"claudeAiOauth":{}}', b"[" * 100_000, b"\xff"]
    + [held(accessToken=token) for token in (None, "", 7, "two words", "sk-ant-oat01-\u00e9", "a\nb")],
)
def test_what_is_no_login_is_told_as_that(path: Path, content: bytes) -> None:
    pauses: list[float] = []
    found = claude_code.read(login(path, content), pauses.append)
    assert isinstance(found, str) and found.startswith("the login")
    assert pauses == [claude_code.PAUSE_SECONDS] * 3


def test_half_of_a_file_is_read_again(path: Path) -> None:
    written = login(path, held()[:20])

    def finish() -> None:
        path.write_bytes(held())

    assert claude_code.read(written, lambda seconds: finish()) == claude_code.parse(held())
    path.unlink()
    assert claude_code.read(written, lambda seconds: None) == "there is no login"


def test_where_it_is_kept_is_claude_codes_to_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(path.parent))
    assert claude_code.find() is None
    path.write_bytes(held())
    assert claude_code.find() == ClaudeCodeLogin(str(path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert claude_code.find() is None
    (path.parent / ".claude").mkdir()
    path.rename(path.parent / ".claude" / path.name)
    moved = path.parent / ".claude" / path.name
    assert claude_code.find() == ClaudeCodeLogin(str(moved))
    moved.unlink()


def test_on_macos_it_is_asked_of_the_keychain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, content = path.with_name("security"), held(accessToken="token-of-a-keychain").decode()
    script.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'find-generic-password -s Claude Code-credentials -w' ] && echo '{content}'\n"
    )
    script.chmod(0o700)
    monkeypatch.setattr(claude_code, "KEYCHAIN", (str(script), *claude_code.KEYCHAIN[1:]))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(path.parent))
    assert claude_code.find() == ClaudeCodeLogin()
    assert claude_code.read(ClaudeCodeLogin()) == Token(Secret("token-of-a-keychain"), 1_800_000_000.0)
    script.write_text("#!/bin/sh\nexit 44\n")
    assert claude_code.find() is None


def test_callers_keep_their_names_as_long_as_the_key_is_there(tmp_path: Path) -> None:
    state, one, other = tmp_path / "state" / "state.db", Secret(f"{TOKEN}-1"), Secret(f"{TOKEN}-2")
    callers = Callers(callers_key(state))
    assert callers.name(one) == Callers(callers_key(state)).name(one) != callers.name(other)
    assert len(callers.name(one)) == 16 and callers.name(None) == ""
    assert Callers(callers_key(tmp_path / "elsewhere" / "state.db")).name(one) != callers.name(one)
    path = state.with_name("callers.key")
    assert path.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    path.write_bytes(b"short")
    assert len(callers_key(state)) == 32, "what is no key is replaced"
    (tmp_path / "file").write_text("")
    assert len(callers_key(tmp_path / "file" / "state.db")) == 32, "where no folder can be, it lasts for the process"
