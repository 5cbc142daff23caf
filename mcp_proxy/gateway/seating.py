"""Seats made of seats, and what of a seat is known beside it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import inf, nextafter

from msgspec.structs import replace

from mcp_proxy.core.change import Change, Limited, QuotaRead, breaker_of
from mcp_proxy.core.ids import own_id
from mcp_proxy.core.quota import Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.facts import Seat


def for_caller(caller: str, seat: Seat) -> Seat:
    """A seat of a caller's own, of which nothing is known yet."""
    account = dataclasses.replace(seat.account, id=own_id(seat.id, caller))
    return replace(seat, account=account, caller=caller)


def with_knowledge(seat: Seat, known: Seat) -> Seat:
    """A seat of other settings, with what was known of the one in whose place it comes.

    What was counted for a budget that is no more is no knowledge.
    """
    gone = {budget.bucket for budget in known.budgets} - {budget.bucket for budget in seat.budgets}
    return replace(
        seat,
        quotas={bucket: quota for bucket, quota in known.quotas.items() if bucket not in gone},
        closed={bucket: closed for bucket, closed in known.closed.items() if bucket not in gone},
        in_flight=known.in_flight,
        last_used=known.last_used,
    )


def subjects(seat: Seat) -> tuple[str, ...]:
    """What the breakers that a seat obeys are of."""
    return (breaker_of(seat.id), seat.upstream) if seat.upstream else (breaker_of(seat.id),)


def forgetting(seat: Seat, now: Instant) -> Iterator[tuple[str, Change]]:
    """What lets a seat in at once, by the names of its windows. Budgets stay: they are counts, and nobody's refusal."""
    own = {budget.bucket for budget in seat.budgets}
    for bucket, held in seat.closed.items():
        if bucket not in own and (held.limit.until > now or held.strikes):
            at = Instant(max(now, nextafter(held.limit.read_at, inf)))
            yield bucket.name, Limited(seat.id, RateLimit(bucket, now, "forgotten by hand", at))
    for bucket, quota in seat.quotas.items():
        if bucket not in own and quota.left is not None and quota.left <= 0.0:
            at = Instant(max(now, nextafter(quota.read_at, inf)))
            yield bucket.name, QuotaRead(seat.id, Quota(bucket, None, None, at))
