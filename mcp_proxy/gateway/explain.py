"""Why a request went where it went: every account once, chosen or refused, with its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.routing.facts import Rank

PROBATION = {
    1: "its upstream failed a moment ago",
    2: "it failed several times in a row",
    3: "it failed often in a row",
}
"""`Rank.probation` in words."""


@dataclass(frozen=True, slots=True)
class Line:
    """One account's part in a request.

    verdict  served, failed, candidate, or why it was refused
    detail   for people: what it was preferred or put back for, what it said
    until    when a refusal ends by itself
    """

    account: AccountId
    verdict: str
    detail: str = ""
    until: Instant | None = None


def explain(exchange: Exchange) -> Iterator[Line]:
    """Every account once: those that were asked in their order, then those that were not."""
    asked: dict[AccountId, Line] = {}
    for attempt in exchange.attempts:
        account, failure = attempt.candidate.account, attempt.failure
        before = asked.pop(account, None)
        after = f", after {before.detail}" if before is not None else ""
        if failure is None:
            asked[account] = Line(account, "served", preferences(attempt.candidate.rank) + after)
        else:
            asked[account] = Line(account, "failed", f"{failure.status} {failure.message}", failure.retry_at)
    yield from asked.values()
    decision = exchange.course.decision
    if decision is None:
        return
    for candidate in decision.candidates:
        if candidate.account not in asked:
            yield Line(candidate.account, "candidate", preferences(candidate.rank))
    for refusal in decision.refused:
        if refusal.account not in asked:
            yield Line(refusal.account, refusal.reason.value, refusal.detail, refusal.until)


def preferences(rank: Rank) -> str:
    """What a rank says, in words: what puts it back, else that nothing does."""
    words = [
        *([f"fallback model {rank.step}"] if rank.step else []),
        *([PROBATION[min(rank.probation, 3)]] if rank.probation else []),
        *(["kept for last"] if rank.soft_limited else []),
        *(["another model of the same size"] if rank.substitute else []),
        *([] if rank.cold else ["its cache is warm"]),
        f"tier {rank.tier}",
        *([f"{rank.crowding} over its comfort"] if rank.crowding else []),
    ]
    return ", ".join(words)
