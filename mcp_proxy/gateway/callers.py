"""Callers who bring a login of their own: what they are called here, and how such a seat is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b

from accounts.model import Secret, Token
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.routing.facts import Seat, Target

NAME_BYTES = 8
"""Enough that two callers never share a name, too little to try logins against without the key."""


class Callers:
    """Names callers by their logins.

    key  local and secret: without it a name tells nothing of the login. The same one gives the same names
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def name(self, login: Secret | None) -> str:
        """What the owner of a login is called, 16 hexadecimal digits; empty where there is none."""
        if login is None:
            return ""
        return blake2b(login.reveal().encode(), key=self._key, digest_size=NAME_BYTES).hexdigest()


def own_target(target: Target, seats: Iterable[Seat]) -> Target:
    """The target with a caller's own seats in the place of the accounts that they were made of."""
    own = {seat.stored: seat.id for seat in seats if seat.caller}
    if not own:
        return target
    return replace(target, serving={own.get(account, account): ways for account, ways in target.serving.items()})


def own_access(seat: Seat, ask: Ask, catalog: Catalog) -> Access | Failure | None:
    """How a seat is asked that has its caller's login; None where a credential of ours is kept for it."""
    if seat.caller is None:
        return None
    access = catalog.access(seat.account, Token(ask.login)) if ask.login is not None and seat.caller else None
    if access is None:
        return Failure(Blame.CONFIG, 502, "api_error", f"{seat.provider}: the request brings no login of its own")
    return replace(access, callers=True)


def given_back(failure: Failure, seat: Seat) -> Failure:
    """A failure as its caller has to hear it: the login that is refused is its own, and to be renewed by it alone."""
    theirs = seat.caller is not None and failure.blame is Blame.TOKEN
    return replace(failure, blame=Blame.REQUEST) if theirs else failure
