"""Seats, facts and policies as short as a table needs them. Times are seconds from `NOW`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accounts.model import Account
from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName, RequestId
from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.core.quota import ACCOUNT, Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Closed, Decision, Facts, Policy, Seat, Serving, Target, Tried

NOW = Instant(1_800_000_000.0)
MODEL = ModelId("m")
FIVE_HOURS, WEEK = Bucket("5h"), Bucket("7d")
MINUTE = Bucket("rpm", Kind.RATE)
OFFER = Offer(MODEL, (FIVE_HOURS, WEEK, MINUTE))


def at(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def seat(name: str, *, provider: str = "zai", offers: Iterable[Offer] = (OFFER,), **how: Any) -> Seat:
    """An account `name` that serves `m`; `enabled` and `invalid` go to the account, the rest to the seat."""
    account = {field: how.pop(field) for field in ("enabled", "invalid", "models") if field in how}
    return Seat(
        Account(AccountId(name), provider, name, **account),
        {offer.model: offer for offer in offers},
        how.pop("serves", Serves()),
        **how,
    )


def sizes(**models: str) -> Serves:
    """A provider's class table: `sizes(opus="glm-5.1")`."""
    return Serves(sizes={Size(size): ModelId(model) for size, model in models.items()})


def quota(
    left: float | None, *, bucket: Bucket = FIVE_HOURS, resets: float | None = 600, read: float = -60
) -> dict[Bucket, Quota]:
    return {bucket: Quota(bucket, left, None if resets is None else at(resets), at(read))}


def closed(
    until: float, *, bucket: Bucket = ACCOUNT, strikes: int = 0, read: float = -5, why: str = "busy"
) -> dict[Bucket, Closed]:
    return {bucket: Closed(RateLimit(bucket, at(until), why, at(read)), strikes)}


def failing(failures: int, since: Instant, until: float | None = None) -> Breaker:
    """So many failures in a row, the last then; with `until` it has opened."""
    return Breaker(failures, int(until is not None), at(until or 0), since, 529, "overloaded")


def facts(
    *seats: Seat,
    session: str = "s",
    agent: str = "",
    warm: str | None = None,
    tokens: int = 100,
    request: str = "r1",
    substitutes: Iterable[str] = (),
    serving: Mapping[AccountId, tuple[Serving, ...]] | None = None,
    hour_cache: bool = False,
) -> Facts:
    """A request for `m`, which every one of these seats serves."""
    if serving is None:
        serving = {each.id: (Serving(each.offers[MODEL], each.id in substitutes),) for each in seats}
    return Facts(
        request=RequestId(request),
        target=Target("m", serving),
        session=session,
        agent=agent,
        tokens=tokens,
        stream=True,
        warm={} if warm is None else {MODEL: AccountId(warm)},
        hour_cache=hour_cache,
    )


def order(*seats: Seat, policy: Policy | None = None, **how: Any) -> list[str]:
    """The candidates' names, best first."""
    return [candidate.account for candidate in decided(*seats, policy=policy, **how).candidates]


def decided(*seats: Seat, policy: Policy | None = None, tried: Iterable[str] = (), **how: Any) -> Decision:
    return decide(
        facts(*seats, **how), seats, policy or Policy(), NOW, frozenset(Tried(AccountId(each), MODEL) for each in tried)
    )


def provider(name: str) -> ProviderName:
    return ProviderName(name)
