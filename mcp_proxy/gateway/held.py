"""What is held of one account's credential, and what is remembered of the trouble with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from accounts.model import ApiKey, Credential, OAuthGrant, Secret, Token, same_credential
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.time import Instant

FIRST_WINDOW, LONGEST_WINDOW = 5.0, 300.0
"""Seconds in which nobody asks again after a failure: the first time, and after many in a row."""

LONGEST_HEEDED = 3600.0
"""However long an issuer wants to be left alone, it is asked again after an hour."""

JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Setback:
    """A failure, and until when (the loop's time) it is the answer without asking again."""

    failure: Failure
    until: float
    strikes: int = 1


def setback(failure: Failure, before: Setback | None, loop_time: float, now: Instant, rng: random.Random) -> Setback:
    """What a failure becomes: each in a row counts for twice as long as the last, and as long as its issuer says."""
    strikes = before.strikes + 1 if before is not None else 1
    window = min(FIRST_WINDOW * 2 ** min(strikes - 1, 10), LONGEST_WINDOW) * rng.uniform(1 - JITTER, 1 + JITTER)
    if failure.retry_at is not None:
        window = max(window, min(failure.retry_at - now, LONGEST_HEEDED))
    return Setback(failure, loop_time + window, strikes)


@dataclass(slots=True)
class Held:
    """One account's credential in use.

    token    what goes on the wire; None: has to be minted
    dropped  the token that was refused last, which the store may still hold
    stored   the grant that the store still holds where a newer could not be saved; None: it holds `credential`
    learnt   what its provider said of the account, beside what its seat knows
    kept     until when (the loop's time) a new token is used, whatever its expiry and the clock say
    work     what is under way to make the account ready
    asked    when (the loop's time) its provider was last asked about it; None: not by this process
    """

    credential: Credential
    token: Token | None = None
    dropped: Secret | None = None
    stored: OAuthGrant | None = None
    learnt: Mapping[str, str] = field(default_factory=dict)
    kept: float = float("-inf")
    setback: Setback | None = None
    work: asyncio.Task[Failure | None] | None = None
    asked: float | None = None

    def __post_init__(self) -> None:
        held = self.credential
        if isinstance(held, ApiKey):
            self.token = Token(held.key)
        elif isinstance(held, OAuthGrant):
            self.token = held.token

    def is_of(self, credential: Credential) -> bool:
        """Whether this is what the store has, or was minted from it."""
        return same_credential(self.credential, credential) or (
            self.stored is not None and same_credential(self.stored, credential)
        )

    def take(self, credential: Credential) -> None:
        """Take over what the store has now, unless what we have is newer and not saved yet."""
        if not isinstance(credential, OAuthGrant):
            return
        if self.stored is not None and same_credential(self.stored, credential):
            return
        token = credential.token
        self.credential = credential
        self.token = token if token is not None and token.value != self.dropped else None

    def drop(self, refused: Token) -> None:
        """A token was refused; nothing happens where another has taken its place."""
        if self.token is not None and self.token.value == refused.value:
            self.dropped, self.token = refused.value, None


def told(failure: Failure) -> Failure:
    """A failure to get a token as that of an attempt: it says nothing of the request, nor of the provider's address."""
    known = failure.blame in (Blame.ACCOUNT, Blame.CONFIG, Blame.PROVIDER, Blame.NETWORK)
    return replace(failure, blame=failure.blame if known else Blame.PROVIDER, reached=True, body=None, headers=())
