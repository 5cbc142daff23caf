"""The tokens that budgets count: by account, slot of time and process, and what is left by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from mcp_proxy.core.change import Tallied
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.quota import LONGEST_WINDOW_SECONDS, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.budget import Budget, Meter, reading
from mcp_proxy.routing.facts import Seat

PRUNE_SECONDS = 3600.0

Metered: TypeAlias = tuple[str, Budget]
"""Whose a meter is: a provider or an account, and for which of its budgets."""


class Tallies:
    """What was counted, and a meter for each budget in use.

    writer  names this process; another one, also after a restart, counts beside it
    """

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._counts: dict[tuple[AccountId, Instant, str], int] = {}
        self._meters: dict[Metered, Meter] = {}
        self._metered: dict[AccountId, tuple[Meter, ...]] = {}
        self._pruned = Instant(0.0)

    def seat_all(self, seats: Iterable[Seat]) -> None:
        """Have meters for the budgets of these seats, with all that was counted."""
        self._meters, self._metered = {}, {}
        for seat in seats:
            keys = dict.fromkeys(_metered(seat, budget) for budget in seat.budgets)
            self._metered[seat.id] = tuple(self._meters.setdefault(key, Meter(key[1].seconds)) for key in keys)
        for (account, slot, _), tokens in sorted(self._counts.items(), key=lambda entry: entry[0][1]):
            self._add(account, slot, tokens)

    def counted(self, account: AccountId, slot: Instant, tokens: int) -> Tallied:
        """The change that says that so many more were used in this slot."""
        key = (account, slot, self._writer)
        return Tallied(account, slot, self._writer, self._counts.get(key, 0) + tokens)

    def take(self, change: Tallied) -> bool:
        """Count it; whether it was news."""
        key = (change.account, change.slot, change.writer)
        more = change.tokens - self._counts.get(key, 0)
        if more <= 0:
            return False
        self._counts[key] = change.tokens
        self._add(change.account, change.slot, more)
        return True

    def readings(self, seat: Seat, now: Instant) -> list[tuple[Quota, RateLimit | None]]:
        """What is left of each of a seat's budgets."""
        return [reading(budget, self._meters[_metered(seat, budget)], now) for budget in seat.budgets]

    def prune(self, now: Instant) -> None:
        """Forget what no window reaches back to."""
        if now - self._pruned < PRUNE_SECONDS:
            return
        self._pruned, since = now, now - LONGEST_WINDOW_SECONDS
        self._counts = {key: tokens for key, tokens in self._counts.items() if key[1] > since}

    def _add(self, account: AccountId, slot: Instant, tokens: int) -> None:
        for meter in self._metered.get(account, ()):
            meter.add(slot, tokens)


def _metered(seat: Seat, budget: Budget) -> Metered:
    return (seat.provider if budget.shared else seat.stored, budget)
