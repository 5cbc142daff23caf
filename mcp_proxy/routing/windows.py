"""Reading a seat's quotas and limits at a moment."""

from __future__ import annotations

from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.facts import Policy, Seat

LIFTS_FROM = 0.05
"""A later reading lifts a limit on the same allowance only if it sees this much left: meters lag and round."""


def left(quota: Quota | None, now: Instant) -> float | None:
    """The fraction still free at `now`; None where nobody knows, also once the window has started over."""
    if quota is None or (quota.resets is not None and quota.resets <= now):
        return None
    return quota.left


def closed_by(seat: Seat, offer: Offer, now: Instant) -> RateLimit | None:
    """The limit that keeps this model closed longest, or None while it is open.

    That an account does not have the model comes before every limit: no reset will cure it. An allowance read as
    empty closes until its reset, also where a limit on it says less; a rate's reading never does, since such a
    bucket refills all the time and its `reset` is when it is full again (Anthropic, "Rate limits").
    """
    longest: RateLimit | None = None
    for bucket in offer.buckets:
        held, quota = seat.closed.get(bucket), seat.quotas.get(bucket)
        limit = held.limit if held is not None else None
        if limit is not None and (limit.until <= now or _lifted(limit, quota, now)):
            limit = None
        if limit is not None and bucket.kind is Kind.ABSENCE:
            return limit
        for each in (limit, _spent(quota, now)):
            if each is not None and (longest is None or each.until > longest.until):
                longest = each
    return longest


def _lifted(limit: RateLimit, quota: Quota | None, now: Instant) -> bool:
    if quota is None or quota.bucket.kind is not Kind.ALLOWANCE or quota.read_at <= limit.read_at:
        return False
    fraction = left(quota, now)
    return fraction is not None and fraction >= LIFTS_FROM


def _spent(quota: Quota | None, now: Instant) -> RateLimit | None:
    if quota is None or quota.bucket.kind is not Kind.ALLOWANCE or quota.resets is None or quota.resets <= now:
        return None
    if quota.left is None or quota.left > 0.0:
        return None
    return RateLimit(quota.bucket, quota.resets, f"{quota.bucket.name} quota used up", quota.read_at)


def lowest(seat: Seat, offer: Offer, now: Instant) -> Quota | None:
    """The reading with least left among the allowances this model draws on; None if none is known."""
    known = [
        (fraction, quota)
        for bucket in offer.draws_on
        if bucket.kind is Kind.ALLOWANCE and (quota := seat.quotas.get(bucket)) is not None
        if (fraction := left(quota, now)) is not None
    ]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def is_soft(seat: Seat, offer: Offer, policy: Policy, now: Instant) -> bool:
    """Whether any allowance this model draws on is at or under what is to be kept of it. Unknown is not low."""
    quotas, reserve = seat.quotas, policy.reserve
    for bucket in offer.draws_on:
        if bucket.kind is Kind.ALLOWANCE and bucket in quotas:
            kept = kept_of(bucket.name, policy) if reserve else policy.soft_limit
            fraction = left(quotas[bucket], now)
            if kept is not None and fraction is not None and fraction <= kept:
                return True
    return False


def kept_of(window: str, policy: Policy) -> float | None:
    """The fraction of a window that is kept for last; None: none.

    A provider may have several windows of one length, told apart by what stands before the length: `gemini-5h`.
    """
    own = policy.reserve.get(window)
    return policy.reserve.get(window.rpartition("-")[2], policy.soft_limit) if own is None else own


def windows(seat: Seat, offer: Offer) -> tuple[tuple[Bucket, Quota | None], ...]:
    """The allowances this model draws on, each with its reading."""
    return tuple((bucket, seat.quotas.get(bucket)) for bucket in offer.draws_on if bucket.kind is Kind.ALLOWANCE)
