"""What is kept, and which of two changes about one thing holds. Every store obeys this."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, Tallied, Tripped, Used
from mcp_proxy.core.quota import BILLING, Bucket, Kind
from mcp_proxy.core.time import Instant, Seconds

MAX_CONVERSATIONS = 10_000
"""Least recently served leave first."""

GRACE = Seconds(3600.0)
"""What is over is kept this long: a lift must outlive an older closing that arrives late."""

STALE = Seconds(35 * 86_400.0)
"""A reading without a reset is forgotten after this; no window we know is longer than a month."""

REMEMBERED = Seconds(400 * 86_400.0)
"""When an account was last used is told for a year and a month."""

TALLIED = Seconds(35 * 86_400.0)
"""Tokens are counted for windows as long as this."""

AHEAD = Seconds(3600.0)
"""What is dated further ahead than this was dated by a clock since set back, and would hold for ever."""

Order: TypeAlias = tuple[float | str, ...]


def subject(change: Change) -> tuple[str, ...]:
    """What a change is about: of two with one subject, one holds."""
    if isinstance(change, Served):
        return ("served", *change.conversation)
    if isinstance(change, Used):
        return ("used", change.account)
    if isinstance(change, Tripped):
        return ("tripped", change.subject)
    if isinstance(change, Tallied):
        return ("tallied", change.account, str(change.slot), change.writer)
    bucket = change.quota.bucket if isinstance(change, QuotaRead) else change.limit.bucket
    return (type(change).__name__, change.account, *bucket)


def order(change: Change) -> Order:
    """The larger holds: the later, and of two as late always the same one, whichever came first."""
    if isinstance(change, QuotaRead):
        quota = change.quota
        left = -1.0 if quota.left is None else quota.left
        return (quota.read_at, left, -1.0 if quota.resets is None else quota.resets)
    if isinstance(change, Limited):
        return (change.limit.read_at, change.limit.until, change.strikes, change.limit.why)
    if isinstance(change, Used):
        return (change.at,)
    if isinstance(change, Tripped):
        breaker = change.breaker
        return (breaker.at, breaker.trips, breaker.failures, breaker.until, breaker.status, breaker.why)
    if isinstance(change, Tallied):
        return (change.tokens,)
    return (change.at, change.warm_until, change.account)


def worth_keeping(change: Change, now: Instant) -> bool:
    """Whether a change says anything at `now`."""
    if isinstance(change, QuotaRead):
        learnt, over = change.quota.read_at, change.quota.resets
        over = Instant(learnt + STALE) if over is None else Instant(over + GRACE)
    elif isinstance(change, Limited):
        learnt, over = change.limit.read_at, Instant(max(change.limit.until, change.limit.read_at) + GRACE)
    elif isinstance(change, Used):
        learnt, over = change.at, Instant(change.at + REMEMBERED)
    elif isinstance(change, Tripped):
        learnt, over = change.breaker.at, Instant(max(change.breaker.until, change.breaker.at) + GRACE)
    elif isinstance(change, Tallied):
        learnt, over = change.slot, Instant(change.slot + TALLIED)
    else:
        learnt, over = change.at, Instant(change.warm_until + GRACE)
    return over > now and learnt <= now + AHEAD


def unquoted(change: Change) -> Change:
    """A change as it is kept: in our words. An upstream's may quote what was asked, and are for memory alone.

    What opens a bucket is ours already, and so is what closes a budget.
    """
    if isinstance(change, Tripped) and change.breaker.why:
        return replace(change, breaker=change.breaker._replace(why=f"HTTP {change.breaker.status}"))
    if isinstance(change, Limited) and change.limit.until > change.limit.read_at and not _counted(change.limit.bucket):
        return replace(change, limit=replace(change.limit, why=_told(change.limit.bucket)))
    return change


def _counted(bucket: Bucket) -> bool:
    return bucket.name.startswith(("budget-", "own-budget-"))


def _told(bucket: Bucket) -> str:
    if bucket == BILLING:
        return "payment required"
    return "no such model" if bucket.kind is Kind.ABSENCE else f"{bucket.name} limit"
