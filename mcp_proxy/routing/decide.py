"""Who serves this request: an order over the seats, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence, Set
from hashlib import blake2b

from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import BILLING, Kind
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.facts import Candidate, Decision, Facts, Policy, Rank, Reason, Refused, Seat, Serving, Tried
from mcp_proxy.routing.windows import closed_by, is_soft

PROBATION_SECONDS = 30.0
"""A seat whose upstream failed to answer is tried last for this long, so that not every request walks the dead."""


CLEARLY = 1.5
"""An estimate refuses a window only from here on: nearer to it, the upstream knows better."""

PATIENCE_SECONDS = 15.0
"""A model that opens this soon is waited for before another takes its place: a short throttle changes no family."""


def decide(
    facts: Facts, pool: tuple[Seat, ...], policy: Policy, now: Instant, tried: Set[Tried] = frozenset()
) -> Decision:
    """Order the seats that can serve this request, best first.

    Pure: reads no clock, no store, no settings. Every seat appears in the answer once, as a candidate or as a
    refusal with its reason, so a log line needs nothing else.
    """
    candidates: list[Candidate] = []
    refused: list[Refused] = []
    itself: list[Refused] = []
    ends: list[Instant] = []
    for seat in pool:
        ways = facts.target.serving.get(seat.id, ())
        refusal = barred(seat, ways, facts)
        if refusal is not None:
            refused.append(refusal)
            continue
        met: list[Refused] = []
        for way in ways:
            hindered = obstacle(seat, way.offer, facts, now, tried)
            if hindered is None:
                candidates.append(Candidate(rank(seat, way, facts, policy, now), seat.id, way.offer))
                break
            met.append(hindered)
        else:
            refused.append(met[0])
            ends += [each.until for each in met if each.until is not None]
        if met and not ways[0].step:
            itself.append(met[0])
    candidates.sort()
    retry_at = min(ends) if ends else None
    if candidates and candidates[0].rank.step:
        return _beside(itself, candidates, refused, retry_at, now)
    return Decision(tuple(candidates), tuple(refused), retry_at)


def _beside(
    itself: list[Refused], candidates: list[Candidate], refused: list[Refused], retry_at: Instant | None, now: Instant
) -> Decision:
    """The decision where only fallback models could serve; `itself`: why those that have the model cannot.

    They stand in for what has run out. For a request that is too large they do not: its client has to be told.
    """
    small = next((each for each in itself if each.reason is Reason.TOO_SMALL), None)
    if small is not None and all(each.reason in (Reason.TOO_SMALL, Reason.NOT_SERVED) for each in itself):
        return Decision((), (*refused, *(small._replace(account=each.account) for each in candidates)))
    near = [each.until for each in itself if each.until is not None and each.until - now <= PATIENCE_SECONDS]
    return Decision(tuple(candidates), tuple(refused), retry_at, min(near) if near else None)


def barred(seat: Seat, ways: Sequence[Serving], facts: Facts) -> Refused | None:
    """Why this seat cannot serve this request, whatever the model; None if it might."""
    account = seat.account
    if not account.enabled:
        return Refused(account.id, Reason.DISABLED)
    if seat.caller is not None and (not facts.caller or seat.caller != facts.caller):
        return Refused(account.id, Reason.NO_LOGIN, None, "the request brings no login of its caller's own")
    if seat.local and not facts.local:
        return Refused(account.id, Reason.NOT_LOCAL, None, "for programs on this machine only")
    if not ways:
        return Refused(account.id, Reason.NOT_SERVED)
    if account.invalid is not None:
        return Refused(account.id, Reason.INVALID, None, account.invalid)
    return None


def obstacle(seat: Seat, offer: Offer, facts: Facts, now: Instant, tried: Set[Tried]) -> Refused | None:
    """Why this seat cannot serve this request by this model now; None if it can."""
    window = offer.context_window
    if window is not None and facts.tokens > window * CLEARLY:
        return Refused(seat.id, Reason.TOO_SMALL, None, f"{facts.tokens} tokens > {window}")
    limit = closed_by(seat, offer, now)
    if limit is not None and limit.bucket.kind is Kind.ABSENCE:
        return Refused(seat.id, Reason.NOT_SERVED, None, limit.why)
    if limit is not None and limit.bucket == BILLING:
        return Refused(seat.id, Reason.UNPAID, None, limit.why)
    if limit is not None:
        return Refused(seat.id, Reason.LIMITED, limit.until, limit.why)
    if tried and (seat.id, offer.model) in tried:
        return Refused(seat.id, Reason.TRIED)
    return None


def rank(seat: Seat, way: Serving, facts: Facts, policy: Policy, now: Instant) -> Rank:
    """How much this seat is wanted for this request. Only for a seat without an obstacle."""
    offer, stumbled = way.offer, seat.stumbled
    return Rank(
        step=way.step,
        probation=stumbled is not None and now - stumbled < PROBATION_SECONDS,
        soft_limited=is_soft(seat, offer, policy, now),
        substitute=way.substitute,
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
