"""Token budgets: limits that the operator sets and we count ourselves, for upstreams that tell nothing.

A budget is one more window of an account, of kind ALLOWANCE: what is left of it is a reading like any other.
What counts is what an answer cost anew: input, what was written to the cache, and output. What was read from the cache
does not: it is the same text again with every turn, ten times what is new, and upstreams charge next to nothing for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_proxy.core.quota import LONGEST_WINDOW_SECONDS, Bucket, Quota, RateLimit
from mcp_proxy.core.time import Instant, after
from mcp_proxy.core.usage import Usage

SLOT_SECONDS = 300.0
"""Tokens are counted in slots this long; a whole slot leaves a window when its last second does."""

DIGITS = 3
"""What is left is told to this many decimals: a reading with every request would be news to nobody."""


class Budget(NamedTuple):
    """A limit over a rolling window.

    bucket     its name among the windows of an account: `budget-7d` of a provider, `own-budget-7d` of an account
    seconds    how long the window is; `LONGEST_WINDOW_SECONDS` at most
    limit      tokens
    threshold  the part of it from which on the account is kept for last; 0.0: it always is; 1.0: it is only closed, at
               the limit
    shared     whether all the provider's accounts use it up together
    """

    bucket: Bucket
    seconds: float
    limit: int
    threshold: float = 0.9
    shared: bool = False

    @property
    def kept(self) -> float:
        """The fraction left at or under which it is kept for last."""
        return 1.0 - self.threshold + 1e-9  # 1.0 - 0.9 is a little under 0.1


def budget(window: str, seconds: float, limit: int, threshold: float = 0.9, *, shared: bool) -> Budget:
    """A budget by the name of its window ("5h", "7d")."""
    if not 0.0 < seconds <= LONGEST_WINDOW_SECONDS or limit <= 0 or not 0.0 <= threshold <= 1.0:
        raise ValueError(f"no budget: {window}, {limit} tokens, threshold {threshold}")
    return Budget(Bucket(f"{'' if shared else 'own-'}budget-{window}"), seconds, limit, threshold, shared)


def counted(usage: Usage) -> int:
    """The tokens of an answer that budgets count."""
    return max(0, usage.input) + max(0, usage.cache_write) + max(0, usage.output)


def slot_of(now: Instant) -> Instant:
    """When the slot that `now` is in began."""
    return Instant(now // SLOT_SECONDS * SLOT_SECONDS)


@dataclass(slots=True)
class Meter:
    """What was used up in a rolling window; costs the same however long that is.

    seconds  how long the window is
    """

    seconds: float
    _slots: deque[list[float]] = field(default_factory=deque)
    _used: float = 0.0

    def add(self, slot: Instant, tokens: int) -> None:
        """Count tokens in the slot that began then."""
        self._used += tokens
        slots, later = self._slots, []
        while slots and slots[-1][0] > slot:
            later.append(slots.pop())  # only what another process counted comes late
        if slots and slots[-1][0] == slot:
            slots[-1][1] += tokens
        else:
            slots.append([slot, float(tokens)])
        slots.extend(reversed(later))

    def used(self, now: Instant) -> int:
        """Tokens in the window that ends now. Time does not go back: what has left it is gone."""
        while self._slots and self._slots[0][0] + SLOT_SECONDS + self.seconds <= now:
            self._used -= self._slots.popleft()[1]
        return int(self._used)

    def opens(self, limit: int, now: Instant) -> Instant | None:
        """When so much has left the window that less than `limit` is in it; None if that is so now."""
        left = self.used(now)
        if left < limit:
            return None
        for slot, tokens in self._slots:
            left -= int(tokens)
            if left < limit:
                return Instant(slot + SLOT_SECONDS + self.seconds)
        return after(now, self.seconds)


def reading(of: Budget, meter: Meter, now: Instant) -> tuple[Quota, RateLimit | None]:
    """What is left of a budget, and its closing where it is used up."""
    until = meter.opens(of.limit, now)
    left = max(0.0, 1.0 - meter.used(now) / of.limit)
    if until is None:
        return Quota(of.bucket, max(10**-DIGITS, round(left, DIGITS)), None, now), None
    closing = RateLimit(of.bucket, until, f"{of.bucket.name} of {of.limit} tokens used up", now)
    return Quota(of.bucket, 0.0, until, now), closing
