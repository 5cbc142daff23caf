"""Reading a seat's quotas and limits at a moment."""

from __future__ import annotations

from collections.abc import Iterator

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
    # what is over is passed over before it is asked what draws on it: that is nearly all
    for bucket, held in seat.closed.items():
        limit = held.limit
        if limit.until > now and draws(seat, offer, bucket) and not _lifted(limit, seat.quotas.get(bucket), now):
            if bucket.kind is Kind.ABSENCE:
                return limit
            longest = _longer(longest, limit)
    quotas = seat.quotas
    if quotas:
        for bucket in offer.allowances:
            quota = quotas.get(bucket)
            if quota is not None and quota.left is not None and quota.left <= 0.0:
                longest = _longer(longest, _spent(quota, now))
        for budget in seat.budgets:
            quota = quotas.get(budget.bucket)
            if quota is not None and quota.left == 0.0:
                longest = _longer(longest, _spent(quota, now))
    return longest


def draws(seat: Seat, offer: Offer, bucket: Bucket) -> bool:
    """Whether a request for this model needs room in that bucket."""
    return bucket in offer.bucket_set or any(budget.bucket == bucket for budget in seat.budgets)


def doubtful(seat: Seat, offer: Offer, now: Instant) -> Iterator[Bucket]:
    """The allowances that should be open again by now, by our guess alone: one request has to try them first.

    Nobody has told when such a window is over, and nobody has been served since.
    """
    for bucket, held in seat.closed.items():
        if held.strikes and held.limit.until <= now and bucket.kind is Kind.ALLOWANCE and draws(seat, offer, bucket):
            yield bucket


def _longer(one: RateLimit | None, other: RateLimit | None) -> RateLimit | None:
    """The one that lasts longer; of two as long always the same one."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda limit: (limit.until, limit.bucket.name, limit.why))


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
        for _, quota in windows(seat, offer)
        if quota is not None and (fraction := left(quota, now)) is not None
    ]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def is_soft(seat: Seat, offer: Offer, policy: Policy, now: Instant) -> bool:
    """Whether any allowance this model draws on is at or under what is to be kept of it. Unknown is not low."""
    quotas, most = seat.quotas, policy.most_kept
    if not quotas:
        return False
    for bucket in offer.allowances:
        quota = quotas.get(bucket)
        if quota is not None and quota.left is not None and quota.left <= most:
            kept = kept_of(bucket.name, policy)
            if kept is not None and quota.left <= kept and left(quota, now) is not None:
                return True
    for budget in seat.budgets:
        quota = quotas.get(budget.bucket)
        if quota is not None and quota.left is not None and quota.left <= budget.kept and left(quota, now) is not None:
            return True
    return False


def kept_of(window: str, policy: Policy) -> float | None:
    """The fraction of a window that is kept for last; None: none.

    A provider may have several windows of one length, told apart by what stands before the length: `gemini-5h`.
    """
    own = policy.reserve.get(window)
    if own is None and "-" in window:
        own = policy.reserve.get(window.rpartition("-")[2])
    return policy.soft_limit if own is None else own


def windows(seat: Seat, offer: Offer) -> tuple[tuple[Bucket, Quota | None], ...]:
    """The allowances this model draws on, ours last, each with its reading."""
    own = (budget.bucket for budget in seat.budgets)
    return tuple((bucket, seat.quotas.get(bucket)) for bucket in (*offer.allowances, *own))
