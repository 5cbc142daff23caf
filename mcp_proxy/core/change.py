"""What can be learnt about the pool, as values that commute and may arrive twice, and where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.ids import AccountId, Conversation
from mcp_proxy.core.quota import Quota, RateLimit
from mcp_proxy.core.time import Instant


@dataclass(frozen=True, slots=True)
class QuotaRead:
    """A reading of one bucket. Of two about one bucket the later `quota.read_at` holds."""

    account: AccountId
    quota: Quota


@dataclass(frozen=True, slots=True)
class Limited:
    """A bucket closed, or with `until` in the past, opened. The later `limit.read_at` holds.

    strikes  how often in a row the upstream refused it without saying until when; 0 where it said
    """

    account: AccountId
    limit: RateLimit
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """A conversation was served by an account at `at`, and its prompt cache is warm there until `warm_until`."""

    conversation: Conversation
    account: AccountId
    at: Instant
    warm_until: Instant


@dataclass(frozen=True, slots=True)
class Used:
    """An account served somebody at `at`. Outlives the conversation: its owner wants to know it next week."""

    account: AccountId
    at: Instant


@dataclass(frozen=True, slots=True)
class Tripped:
    """A breaker changed: what of it is remembered now. The later `breaker.at` holds.

    subject  whose it is: an account or an upstream, as `breaker_of` and `Seat.upstream` name them
    """

    subject: str
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Tallied:
    """How many tokens one process has counted for an account in one slot of time. It only grows: the larger holds.

    slot    when the slot began
    writer  names the process, so that what several count adds up and what arrives twice does not
    """

    account: AccountId
    slot: Instant
    writer: str
    tokens: int


Change: TypeAlias = QuotaRead | Limited | Served | Used | Tripped | Tallied


def breaker_of(account: AccountId) -> str:
    """What an account's own breaker is called."""
    return f"account {account}"


class StateStore(Protocol):
    """Where changes outlive the process. Blocking: never called on the event loop's thread.

    What is over (a reset or an end in the past) may be forgotten. Several processes may share one store.
    """

    def load(self, now: Instant) -> Sequence[Change]:
        """Everything still worth knowing at `now`; conversations least recently served first."""
        ...

    def save(self, changes: Sequence[Change]) -> None:
        """Keep these, all or none. Raises `OSError` where they cannot be kept."""
        ...

    def close(self) -> None: ...
