"""Who serves this request: an order over the seats, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter

from mcp_proxy.core.breaker import SOUND
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import BILLING, Kind, RateLimit
from mcp_proxy.core.time import Instant, after
from mcp_proxy.routing.breaker import PROBE_SECONDS, State, level, state
from mcp_proxy.routing.facts import (
    ADDRESS,
    OWN,
    WINDOW,
    Candidate,
    Decision,
    Facts,
    Policy,
    Rank,
    Reason,
    Refused,
    Seat,
    Serving,
    Tried,
)
from mcp_proxy.routing.windows import closed_by, doubtful, is_soft

CLEARLY = 1.5
"""An estimate refuses a window only from here on: nearer to it, the upstream knows better."""

PATIENCE_SECONDS = 15.0
"""A model that opens this soon is waited for before another takes its place: a short throttle changes no family."""


_BY_RANK = itemgetter(0)
"""Two accounts never draw the same lot, so nothing behind the rank needs to be looked at."""


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
    serving, drawn = facts.target.serving, conversation_draw(facts)
    for seat in pool:
        ways = serving.get(seat.account.id, ())
        refusal = barred(seat, ways, facts)
        if refusal is not None:
            refused.append(refusal)
            continue
        met: list[Refused] | None = None
        for way in ways:
            offer = way.offer
            hindered = obstacle(seat, offer, facts, now, tried)
            if hindered is None:
                passed = met[0] if met else None
                candidates.append(Candidate(rank(seat, way, facts, policy, now, drawn), seat.account.id, offer, passed))
                break
            met = [hindered] if met is None else [*met, hindered]
        else:
            if met:
                refused.append(met[0])
                ends += [each.until for each in met if each.until is not None]
        if met and not ways[0].step:
            itself.append(met[0])
    candidates.sort(key=_BY_RANK)
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
    # a limit that is soon over, that is: who has failed again and again may well do so once more
    limits = (each.until for each in itself if each.reason is Reason.LIMITED)
    near = [until for until in limits if until is not None and until - now <= PATIENCE_SECONDS]
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
    limit = closed_by(seat, offer, now) if seat.closed or seat.quotas else None
    if limit is not None:
        return _limited(seat, limit)
    if tried and (seat.id, offer.model) in tried:
        return Refused(seat.id, Reason.TRIED)
    if seat.breaker is not SOUND or seat.address is not SOUND:
        broken = _broken(seat, now)
        if broken is not None:
            return broken
    if seat.probing and not seat.probing.isdisjoint(probed(seat, offer, now)):
        return _probing(seat, now)
    return None


def _limited(seat: Seat, limit: RateLimit) -> Refused:
    if limit.bucket.kind is Kind.ABSENCE:
        return Refused(seat.id, Reason.NOT_SERVED, None, limit.why)
    if limit.bucket == BILLING:
        return Refused(seat.id, Reason.UNPAID, None, limit.why)
    return Refused(seat.id, Reason.LIMITED, limit.until, limit.why)


def _broken(seat: Seat, now: Instant) -> Refused | None:
    """The open breaker of a seat; of its own and its address's the one that is open longer."""
    both = (seat.breaker, seat.address)
    worse = max((each for each in both if state(each, now) is State.OPEN), key=lambda each: each.until, default=None)
    if worse is None:
        return None
    detail = f"{'upstream ' if worse is seat.address else ''}failed {worse.failures} times in a row: {worse.why}"
    return Refused(seat.id, Reason.BREAKER, worse.until, detail, worse.status)


def _probing(seat: Seat, now: Instant) -> Refused:
    """Another request tries it: without a status where it tries a window alone."""
    status = seat.breaker.status if OWN in seat.probing else seat.address.status if ADDRESS in seat.probing else None
    return Refused(seat.id, Reason.PROBING, after(now, PROBE_SECONDS), "one request tries it now", status)


def probed(seat: Seat, offer: Offer, now: Instant) -> frozenset[str]:
    """What a request to this seat would be the probe of, so that no other may go there before its outcome."""
    breakers = ((OWN, seat.breaker), (ADDRESS, seat.address))
    found = {name for name, each in breakers if each.trips and state(each, now) is State.HALF_OPEN}
    return frozenset(found).union(f"{WINDOW}{bucket.name}" for bucket in doubtful(seat, offer, now))


def rank(seat: Seat, way: Serving, facts: Facts, policy: Policy, now: Instant, drawn: int | None = None) -> Rank:
    """How much this seat is wanted for this request. Only for a seat without an obstacle.

    drawn  `draw` of the request's conversation, where the caller has it at hand
    """
    offer, comfort, account = way.offer, seat.comfort, seat.account.id
    sound = seat.breaker is SOUND and seat.address is SOUND
    crowding = 0 if comfort is None else seat.in_flight + 1 - comfort
    if not seat.sticky:
        drawn = None
    # by position: this line is most of what a decision costs
    return Rank(
        way.step,
        0 if sound else put_back(seat, now),
        is_soft(seat, offer, policy, now),
        way.substitute,
        not (seat.sticky and facts.warm.get(offer.model) == account),
        seat.tier,
        crowding if crowding > 0 else 0,
        lot(facts, seat) if drawn is None else _mixed(drawn, _ticket(account)),
    )


def put_back(seat: Seat, now: Instant) -> int:
    """How far its own failures and its upstream's put a seat back, added up.

    So one that has not failed itself stands before one at the same address that has. A single failure is its account's
    alone: else it would send every conversation to the next tier.
    """
    address = level(seat.address, now)
    return level(seat.breaker, now) + (address if address > 1 else 0)


def lot(facts: Facts, seat: Seat) -> int:
    """A number drawn for a conversation and an account: the same each time, also after a restart.

    Rendezvous hashing: when a seat leaves, only its own conversations move. A seat that spreads draws anew
    for each request.
    """
    drawn = conversation_draw(facts) if seat.sticky else _hash(facts.request)
    return _mixed(drawn, _ticket(seat.account.id))


def conversation_draw(facts: Facts) -> int:
    """The conversation's part of its lots."""
    return _hash(f"{facts.session}\0{facts.agent}")


@lru_cache(maxsize=4096)
def _ticket(account: str) -> int:
    """The account's part of its lots."""
    return _hash(account)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _mixed(one: int, other: int) -> int:
    """Two hashes to one, every bit of which depends on all of theirs (the finish of MurmurHash3, 64 bits)."""
    mixed = one ^ other
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCD & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 33
