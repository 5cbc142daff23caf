"""What a decision is made from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec

from accounts.model import Account
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName, RequestId
from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.core.quota import Bucket, Quota, RateLimit
from mcp_proxy.core.time import Instant


class Closed(NamedTuple):
    """A limit in force, and how often in a row it was met without being told until when."""

    limit: RateLimit
    strikes: int = 0


class Seat(msgspec.Struct, frozen=True):
    """One account as the router sees it. Frozen: a change makes another seat, some of them with every request.

    offers      the models it serves by their own ids
    serves      its provider's table, for size classes and for ids nobody lists
    any         whether it serves every id
    closed      limits by bucket, also ones that are over
    tier        lower is tried first
    comfort     requests in flight from which another seat is preferred; None: no opinion
    sticky      whether a conversation prefers the seat that has its cache
    stumbled    when its upstream last failed to answer; None once it has answered since
    """

    account: Account
    offers: Mapping[ModelId, Offer]
    serves: Serves
    any: bool = False
    quotas: Mapping[Bucket, Quota] = {}  # msgspec makes a new one for each
    closed: Mapping[Bucket, Closed] = {}
    tier: int = 1
    comfort: int | None = None
    sticky: bool = True
    in_flight: int = 0
    stumbled: Instant | None = None
    last_used: Instant | None = None

    @property
    def id(self) -> AccountId:
        return self.account.id

    @property
    def provider(self) -> ProviderName:
        return ProviderName(self.account.provider)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants.

    soft_limit    fraction left at or under which an allowance is kept for last; None: never
    max_attempts  failed attempts for one request; a refusal that closes the account is not one
    max_wait      seconds; longest wait for a reset when every account is closed
    substitutes   whether accounts that serve a name by its size class may stand beside those that serve it
    aliases       what a client asks for, `*` matching anything, to what is asked upstream
    providers     every provider's name: before a slash it binds, whether or not there are accounts of it
    tiers         size class to the provider that serves it
    """

    soft_limit: float | None = 0.2
    max_attempts: int = 5
    max_wait: float = 120.0
    substitutes: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    tiers: Mapping[Size, ProviderName] = field(default_factory=dict)
    providers: frozenset[ProviderName] = frozenset()


class Serving(NamedTuple):
    """How a seat serves a name: under which upstream model, and whether that is a stand-in by size."""

    offer: Offer
    substitute: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A model name made out: who serves it, and as what.

    asked    the name as the client wrote it
    serving  the accounts that serve it; empty: nobody knows the name
    """

    asked: str
    serving: Mapping[AccountId, Serving]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one request.

    session, agent  the conversation's; see `Conversation`
    warm            the accounts whose cache is warm for it, by upstream model
    tokens          its size, estimated; only for windows that are known to be too small
    hour_cache      whether it asks for the hour-long cache
    """

    request: RequestId
    target: Target
    session: str
    agent: str
    tokens: int
    stream: bool
    warm: Mapping[ModelId, AccountId] = field(default_factory=dict)
    hour_cache: bool = False


class Reason(StrEnum):
    """Why a seat is not a candidate."""

    NOT_SERVED = "not_served"
    DISABLED = "disabled"
    INVALID = "invalid"
    LIMITED = "limited"
    TOO_SMALL = "context_too_small"
    UNPAID = "unpaid"
    TRIED = "tried"


class Refused(NamedTuple):
    """A seat that cannot serve this request now; `until` only where time will cure it."""

    account: AccountId
    reason: Reason
    until: Instant | None = None
    detail: str = ""


class Rank(NamedTuple):
    """Why one candidate stands before another: compared field by field, smallest first.

    probation     its upstream failed to answer a moment ago
    soft_limited  what is left of an allowance is kept for last
    substitute    it would serve another model of the same size class
    cold          this conversation's prompt cache is not there
    tier          the operator's order of providers
    crowding      requests in flight over its comfort
    lot           a hash of conversation and account: spreads conversations, stable for each
    """

    probation: bool
    soft_limited: bool
    substitute: bool
    cold: bool
    tier: int
    crowding: int
    lot: int


class Candidate(NamedTuple):
    """A seat that can serve this request, and why it stands where it stands."""

    rank: Rank
    account: AccountId
    offer: Offer


@dataclass(frozen=True, slots=True)
class Decision:
    """Every seat once: candidates best first, or refused with the reason.

    retry_at  the earliest moment at which time alone opens a refused seat; None if none will
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refused, ...]
    retry_at: Instant | None = None

    @property
    def first(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None
