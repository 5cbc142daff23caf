"""The login that Claude Code keeps for its user: found, and read. It is never written.

Where and in what shape: code.claude.com "Authentication"; the fields as observed, 2026-08 to 2026-11.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from accounts.model import ClaudeCodeLogin, Secret, Token

KEYCHAIN = ("security", "find-generic-password", "-s", "Claude Code-credentials", "-w")
KEYCHAIN_SECONDS = 20.0
"""A person may have to allow it."""

SIZE_LIMIT = 1024 * 1024
READS, PAUSE_SECONDS = 4, 0.05
"""Claude Code rewrites the file while it runs: half of one is read again."""


def find() -> ClaudeCodeLogin | None:
    """Where the login is kept on this machine; None where nobody is logged in."""
    folder = os.environ.get("CLAUDE_CONFIG_DIR")  # a habit of Claude Code, not a setting of ours
    path = (Path(folder) if folder else Path.home() / ".claude") / ".credentials.json"
    if path.is_file():
        return ClaudeCodeLogin(str(path.absolute()))
    return ClaudeCodeLogin() if sys.platform == "darwin" and _in_keychain() is not None else None


def read(login: ClaudeCodeLogin, pause: Callable[[float], None] = time.sleep) -> Token | str:
    """The token as it is now, or why there is none. Blocks."""
    why = ""
    for attempt in range(READS):
        if attempt:
            pause(PAUSE_SECONDS)
        content = _in_keychain() if login.path is None else _in_file(Path(login.path))
        if content is None:
            why = "there is no login"
        elif isinstance(token := parse(content), Token):
            return token
        else:
            why = token
    return why


def parse(content: bytes) -> Token | str:
    """The token that a login holds, or why there is none. Never raises."""
    try:
        held = json.loads(content)["claudeAiOauth"]
        token, until = held["accessToken"], held.get("expiresAt")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "the login cannot be read"
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        return "the login holds no token"
    told = isinstance(until, int | float) and not isinstance(until, bool) and 0 < until < 1e14
    return Token(Secret(token), until / 1000 if told else None)


def _in_file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as opened:
            return opened.read(SIZE_LIMIT)
    except OSError:
        return None


def _in_keychain() -> bytes | None:
    try:
        asked = subprocess.run(KEYCHAIN, capture_output=True, timeout=KEYCHAIN_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout if asked.returncode == 0 else None
