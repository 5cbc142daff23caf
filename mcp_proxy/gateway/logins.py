"""A login that another program keeps for its user: read where it lies, each time it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from accounts.model import ClaudeCodeLogin, Token
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.core.time import Instant, after

ReadLogin: TypeAlias = Callable[[ClaudeCodeLogin], Token | str]
"""The token as it is now, or in a few words why there is none. Blocks; never raises."""

AGAIN_SECONDS = 150.0
"""How long such an account is left alone then: longer than a request waits by default, so that its client is told."""


def no_login(login: ClaudeCodeLogin) -> Token | str:
    """For whoever cannot read any."""
    return "no login can be read here"


def login_failure(why: str, now: Instant) -> Failure:
    """There is no good login. No fault of the account, which is good again once its program has renewed it."""
    message = f"Claude Code: {why}; run `claude` once to renew your login"
    return Failure(Blame.ACCOUNT, 401, "authentication_error", message, ACCOUNT, after(now, AGAIN_SECONDS))
