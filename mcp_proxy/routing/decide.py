"""Who serves this request: an order over the seats, with a reason for each."""

from __future__ import annotations

from collections.abc import Set
from hashlib import blake2b

from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.quota import BILLING, Kind
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.facts import Candidate, Decision, Facts, Policy, Rank, Reason, Refused, Seat
from mcp_proxy.routing.windows import closed_by, is_soft

PROBATION_SECONDS = 30.0
"""A seat whose upstream failed to answer is tried last for this long, so that not every request walks the dead."""


CLEARLY = 1.5
"""An estimate refuses a window only from here on: nearer to it, the upstream knows better."""


def decide(
    facts: Facts, pool: tuple[Seat, ...], policy: Policy, now: Instant, tried: Set[AccountId] = frozenset()
) -> Decision:
    """Order the seats that can serve this request, best first.

    Pure: reads no clock, no store, no settings. Every seat appears in the answer once, as a candidate or as a
    refusal with its reason, so a log line needs nothing else.
    """
    candidates: list[Candidate] = []
    refused: list[Refused] = []
    for seat in pool:
        refusal = obstacle(seat, facts, now, tried)
        if refusal is not None:
            refused.append(refusal)
        else:
            candidates.append(Candidate(rank(seat, facts, policy, now), seat.id, facts.target.serving[seat.id].offer))
    candidates.sort()
    ends = [refusal.until for refusal in refused if refusal.until is not None]
    return Decision(tuple(candidates), tuple(refused), min(ends) if ends else None)


def obstacle(seat: Seat, facts: Facts, now: Instant, tried: Set[AccountId]) -> Refused | None:
    """Why this seat cannot serve this request now; None if it can."""
    account = seat.account
    if not account.enabled:
        return Refused(account.id, Reason.DISABLED)
    serving = facts.target.serving.get(account.id)
    if serving is None:
        return Refused(account.id, Reason.NOT_SERVED)
    if account.invalid is not None:
        return Refused(account.id, Reason.INVALID, None, account.invalid)
    window = serving.offer.context_window
    if window is not None and facts.tokens > window * CLEARLY:
        return Refused(account.id, Reason.TOO_SMALL, None, f"{facts.tokens} tokens > {window}")
    limit = closed_by(seat, serving.offer, now)
    if limit is not None and limit.bucket.kind is Kind.ABSENCE:
        return Refused(account.id, Reason.NOT_SERVED, None, limit.why)
    if limit is not None and limit.bucket == BILLING:
        return Refused(account.id, Reason.UNPAID, None, limit.why)
    if limit is not None:
        return Refused(account.id, Reason.LIMITED, limit.until, limit.why)
    if account.id in tried:
        return Refused(account.id, Reason.TRIED)
    return None


def rank(seat: Seat, facts: Facts, policy: Policy, now: Instant) -> Rank:
    """How much this seat is wanted for this request. Only for a seat without an obstacle."""
    offer, substitute = facts.target.serving[seat.id]
    stumbled = seat.stumbled
    return Rank(
        probation=stumbled is not None and now - stumbled < PROBATION_SECONDS,
        soft_limited=is_soft(seat, offer, policy.soft_limit, now),
        substitute=substitute,
        cold=not (seat.sticky and facts.warm.get(offer.model) == seat.id),
        tier=seat.tier,
        crowding=0 if seat.comfort is None else max(0, seat.in_flight + 1 - seat.comfort),
        lot=lot(facts, seat),
    )


def lot(facts: Facts, seat: Seat) -> int:
    """A number drawn for a conversation and an account: the same each time, also after a restart.

    Rendezvous hashing: when a seat leaves, only its own conversations move. A seat that spreads draws anew
    for each request.
    """
    name = f"{facts.session}\0{facts.agent}" if seat.sticky else facts.request
    return int.from_bytes(blake2b(f"{name}\0{seat.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest())
