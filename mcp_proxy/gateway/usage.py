"""What was used, as the document that `/usage` answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.journal import By, Medians, Question, Tally, Used
from mcp_proxy.core.prices import READ_ON, SOURCES, Prices
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.report import stamp
from mcp_proxy.routing.facts import Seat

NOTE = "what these tokens cost by list price; with a plan you do not pay by token"
DEFAULT_DAYS = 7
MOST_DAYS = 3660


@dataclass(slots=True)
class _Sum:
    """Tallies of one group, summed up."""

    requests: int = 0
    failovers: int = 0
    errors: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int | None = None
    cost: float | None = None
    unpriced: set[str] = field(default_factory=set)

    def add(self, tally: Tally, cost: float | None) -> None:
        for name in ("requests", "failovers", "errors", "input", "cache_read", "cache_write", "output"):
            setattr(self, name, getattr(self, name) + getattr(tally, name))
        if tally.reasoning is not None:
            self.reasoning = (self.reasoning or 0) + tally.reasoning
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
        elif tally.model and (tally.input or tally.cache_read or tally.cache_write or tally.output):
            self.unpriced.add(tally.model)

    def shown(self, medians: Medians | None) -> dict[str, Any]:
        first, total = (medians.first, medians.total) if medians is not None else (None, None)
        return {
            "requests": self.requests,
            "failovers": self.failovers,
            "errors": self.errors,
            "tokens": {
                "input": self.input,
                "cache_read": self.cache_read,
                "cache_write": self.cache_write,
                "output": self.output,
                "reasoning": self.reasoning,
            },
            "cost_usd": None if self.cost is None else round(self.cost, 6),
            "unpriced": sorted(self.unpriced),
            "median_seconds": {"first_content": _rounded(first), "total": _rounded(total)},
        }


def report(question: Question, used: Used, prices: Prices, seats: Sequence[Seat]) -> dict[str, Any]:
    """The `/usage` document: a group for each account, model, provider, day or key that was used, and all together."""
    total, groups = _Sum(), dict[str, _Sum]()
    for tally in used.tallies:
        cost = _cost(tally, prices, question.borders)
        total.add(tally, cost)
        groups.setdefault(tally.group, _Sum()).add(tally, cost)
    names = _names(question.by, used.tallies, seats)
    return {
        "schema_version": 1,
        "since": stamp(used.since),
        "until": stamp(question.now),
        "days": question.days,
        "by": question.by.value,
        "provider": question.provider,
        "cost": {"note": NOTE, "prices_of": READ_ON, "sources": list(SOURCES), "overridden": sorted(prices.own)},
        "groups": [
            {"group": group or None, **names.get(group, {}), **found.shown(used.medians.get(group))}
            for group, found in sorted(groups.items(), key=_place(question.by))
        ],
        "total": total.shown(used.medians.get(None)),
    }


def _place(by: By) -> Any:
    """Days in their order; of anything else what cost most first, and what was used most where nobody knows a cost."""
    if by is By.DAY:
        return lambda item: item[0]
    return lambda item: (-(item[1].cost or 0.0), -item[1].requests, item[0])


def _cost(tally: Tally, prices: Prices, borders: Sequence[Instant]) -> float | None:
    at = borders[tally.period - 1] if tally.period else Instant(0.0)
    price = prices.price(tally.model, at) if tally.model else None
    if price is None:
        return None
    return price.of(tally.input, tally.cache_read, tally.cache_write, tally.cache_write_hour, tally.output)


def _names(by: By, tallies: Iterable[Tally], seats: Sequence[Seat]) -> Mapping[str, dict[str, str | None]]:
    """What an account is called now: the journal knows its id alone."""
    if by is not By.ACCOUNT:
        return {}
    labels = {seat.id: seat.account.label for seat in seats}
    return {
        tally.group: {"provider": tally.provider or None, "label": labels.get(AccountId(tally.group))}
        for tally in tallies
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
