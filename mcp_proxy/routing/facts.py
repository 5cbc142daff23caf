"""What a decision is made from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec

from accounts.model import Account
from mcp_proxy.core.breaker import SOUND, Breaker
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName, RequestId, stored_id
from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.core.quota import Bucket, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.budget import Budget

LAST_RESORT = 1000
"""The tier of a login that is read where another program keeps it, unless its owner names one."""


class Closed(NamedTuple):
    """A limit in force, and how often in a row it was met without being told until when."""

    limit: RateLimit
    strikes: int = 0


OWN, ADDRESS, WINDOW = "account", "upstream", "window "
"""What can be probed: an account's breaker, its upstream's, a window; the last is followed by the window's name."""


class Seat(msgspec.Struct, frozen=True):
    """One account as the router sees it. Frozen: a change makes another seat, some of them with every request.

    offers      the models it serves by their own ids
    serves      its provider's table, for size classes and for ids nobody lists
    any         whether it serves every id
    closed      limits by bucket, also ones that are over
    tier        lower is tried first
    comfort     requests in flight from which another seat is preferred; None: no opinion
    sticky      whether a conversation prefers the seat that has its cache
    breaker     its own failures in a row
    upstream    names its provider at its address, which other accounts may share; empty: unknown
    address     the failures in a row of that upstream, over all its accounts
    probing     for what a single request of ours is under way that is to tell whether it works again: `OWN`, `ADDRESS`,
                `WINDOW` and a name
    budgets     the windows that we count ourselves; every model draws on them
    caller      None: its credential is ours. Else it is asked with the caller's own, and this names the caller whose
                windows these are; empty: of no caller in particular, so that it can only be listed
    local       whether only this machine's own programs may use it
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
    breaker: Breaker = SOUND
    upstream: str = ""
    address: Breaker = SOUND
    probing: frozenset[str] = frozenset()
    budgets: tuple[Budget, ...] = ()
    last_used: Instant | None = None
    caller: str | None = None
    local: bool = False

    @property
    def id(self) -> AccountId:
        return self.account.id

    @property
    def stored(self) -> AccountId:
        """The id that its account is stored under: a caller's own seat has its caller's name behind it."""
        return stored_id(self.account.id, self.caller)

    @property
    def provider(self) -> ProviderName:
        return ProviderName(self.account.provider)

    @property
    def last_resort(self) -> bool:
        """Whether it only stands in wherever anybody else could serve at all."""
        return self.local and self.tier >= LAST_RESORT


class Route(NamedTuple):
    """Who serves a size class.

    provider  None: whoever serves the model
    account   only this one of the provider's accounts; None: all of them
    model     the model it is served by; None: the name that was asked for, else the provider's own of the class
    """

    provider: ProviderName | None
    account: AccountId | None = None
    model: str | None = None


FAILOVER_ON = frozenset({429, 500, 502, 503, 504, 529})
"""The statuses after which the next account is tried, unless the operator names others."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants.

    soft_limit    fraction left at or under which an allowance is kept for last; None: never
    reserve       the same for single windows, by the window's name ("5h", "7d"), in place of `soft_limit`
    max_attempts  failed attempts for one request; a refusal that closes the account is not one
    max_wait      seconds; longest wait for a reset when every account is closed
    failover_on   the statuses after which the next account is tried; after a quota that is used up, a credential that
                  is refused, a model that is not there and trouble on the way it is in any case
    substitutes   whether accounts that serve a name by its size class may stand beside those that serve it
    fallbacks     a model's name to the models that stand in once nobody can serve it, best first; empty: none does
    own_rows      of these, the names and patterns that the operator wrote the row for
    aliases       what a client asks for, `*` matching anything, to what is asked upstream
    own_aliases   the same for one provider's accounts: the name they are asked for to the model they serve it by
    providers     every provider's name: before a slash it binds, whether or not there are accounts of it
    tiers         size class to who serves it
    """

    soft_limit: float | None = 0.2
    reserve: Mapping[str, float] = field(default_factory=dict)
    max_attempts: int = 5
    max_wait: float = 120.0
    failover_on: frozenset[int] = FAILOVER_ON
    substitutes: bool = False
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own_rows: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    own_aliases: Mapping[ProviderName, Mapping[str, str]] = field(default_factory=dict)
    tiers: Mapping[Size, Route] = field(default_factory=dict)
    providers: frozenset[ProviderName] = frozenset()
    most_kept: float = field(init=False, repr=False, compare=False)
    """The largest part that is kept of any window; -1.0 where none is. Nearly every window has more left."""

    def __post_init__(self) -> None:
        kept = (self.soft_limit, *self.reserve.values())
        object.__setattr__(self, "most_kept", max((each for each in kept if each is not None), default=-1.0))


class Serving(NamedTuple):
    """How a seat serves a name.

    offer       the upstream model
    substitute  whether that is a stand-in of the same size class
    step        how far down the chain of fallback models it stands; 0: it is what was asked for
    """

    offer: Offer
    substitute: bool = False
    step: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A model name made out: who serves it, and as what.

    asked    the name as the client wrote it
    serving  the accounts that serve it, each with its ways in the order they are tried; empty: nobody knows the name
    """

    asked: str
    serving: Mapping[AccountId, tuple[Serving, ...]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one request.

    session, agent  the conversation's; see `Conversation`
    warm            the accounts whose cache is warm for it, by upstream model
    tokens          its size, estimated; only for windows that are known to be too small
    hour_cache      whether it asks for the hour-long cache
    local           whether a program on this machine asks
    caller          names who asks with a credential of their own; empty: nobody does
    """

    request: RequestId
    target: Target
    session: str
    agent: str
    tokens: int
    stream: bool
    warm: Mapping[ModelId, AccountId] = field(default_factory=dict)
    hour_cache: bool = False
    local: bool = False
    caller: str = ""


class Tried(NamedTuple):
    """An account that was asked for a model, and could not."""

    account: AccountId
    model: ModelId


class Reason(StrEnum):
    """Why a seat is not a candidate."""

    NOT_SERVED = "not_served"
    DISABLED = "disabled"
    INVALID = "invalid"
    LIMITED = "limited"
    TOO_SMALL = "context_too_small"
    UNPAID = "unpaid"
    TRIED = "tried"
    BREAKER = "breaker_open"
    PROBING = "probing"
    NO_LOGIN = "no_login"
    NOT_LOCAL = "not_local"


class Refused(NamedTuple):
    """A seat that cannot serve this request now; `until` only where time will cure it.

    status  what its upstream last failed with, where that is why; else None
    """

    account: AccountId
    reason: Reason
    until: Instant | None = None
    detail: str = ""
    status: int | None = None


class Rank(NamedTuple):
    """Why one candidate stands before another: compared field by field, smallest first.

    step          how far down the chain of fallback models it would serve; 0: what was asked for
    probation     how far failures put it back, its own and its upstream's added up, each 0 not at all, 1 it failed a
                  moment ago, 2 several times in a row, 3 so often that a single request has to try it first
    soft_limited  what is left of an allowance is kept for last
    substitute    it would serve another model of the same size class
    cold          this conversation's prompt cache is not there
    tier          the operator's order of providers
    crowding      requests in flight over its comfort
    lot           a hash of conversation and account: spreads conversations, stable for each
    """

    step: int
    probation: int
    soft_limited: bool
    substitute: bool
    cold: bool
    tier: int
    crowding: int
    lot: int


class Candidate(NamedTuple):
    """A seat that can serve this request, and why it stands where it stands.

    passed  why it does not serve it by what comes before in the chain of models; None where nothing does
    """

    rank: Rank
    account: AccountId
    offer: Offer
    passed: Refused | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Every seat once: candidates best first, or refused with the reason.

    retry_at  the earliest moment at which time alone opens a refused seat; None if none will
    hold      the same for a seat that has the model itself, where only fallback models could serve now and that
              moment is near: worth waiting for before the family is changed
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refused, ...]
    retry_at: Instant | None = None
    hold: Instant | None = None

    @property
    def first(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None
