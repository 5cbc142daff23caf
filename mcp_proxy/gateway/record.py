"""From what a request went through to the row that is kept of it. Pure, and nothing that anybody wrote gets in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.journal import Detail, Standing, Step
from mcp_proxy.routing.facts import Candidate, Decision, Rank, Reason, Refused, Seat

FIELDS = Rank._fields

LONGEST_NAME = 200
"""Characters of a name that a client or an upstream chose."""

_OURS = frozenset({Reason.TOO_SMALL, Reason.NO_LOGIN, Reason.NOT_LOCAL, Reason.PROBING})
"""Refusals whose detail is in our own words; in the others an upstream's may stand, which may quote what was asked."""


@dataclass(slots=True)
class Attempt:
    """One seat that was asked.

    seconds   until its first content or its failure
    failure   None where it answered, and where the client left before
    answered  whether its first content came
    """

    candidate: Candidate
    seconds: float = 0.0
    failure: Failure | None = None
    answered: bool = False


def detailed(
    first: Decision | None, last: Decision | None, attempts: Iterable[Attempt], seats: Sequence[Seat]
) -> Detail:
    """How it was decided, as it is kept.

    first  the decision by which the first account was asked; None where nobody ever was
    last   the one that ended it
    seats  for the names of their providers
    """
    providers = {seat.id: seat.account.provider for seat in seats}
    opening = first or last
    begun = standings(opening, providers) if opening is not None else ()
    asked = tuple(_step(attempt, providers) for attempt in attempts)
    later: tuple[Standing, ...] = ()
    if last is not None and last is not opening:
        known = {each.account: each for each in begun}
        skipped = {step.account for step in asked}
        later = tuple(
            each
            for each in standings(last, providers)
            if each.account not in skipped and known.get(each.account) != each
        )
    return Detail(FIELDS, begun, asked, later)


def undecided(seats: Sequence[Seat], reason: str) -> Detail:
    """What is kept where it never came to a decision: of every account the same reason, or that it is switched off."""
    off = Reason.DISABLED.value
    return Detail(
        FIELDS,
        tuple(Standing(seat.id, seat.account.provider, reason if seat.account.enabled else off) for seat in seats),
    )


def standings(decision: Decision, providers: Mapping[AccountId, str]) -> tuple[Standing, ...]:
    """Every account of a decision once, the candidates first and best first."""
    return (
        *(_candidate(each, providers) for each in decision.candidates),
        *(_refused(each, providers) for each in decision.refused),
    )


def _candidate(each: Candidate, providers: Mapping[AccountId, str]) -> Standing:
    provider = providers.get(each.account, "")
    return Standing(each.account, provider, model=each.offer.model, rank=numbers(each.rank))


def _refused(each: Refused, providers: Mapping[AccountId, str]) -> Standing:
    detail = each.detail if each.reason in _OURS else ""
    return Standing(each.account, providers.get(each.account, ""), each.reason.value, until=each.until, detail=detail)


def numbers(rank: Rank) -> tuple[int, ...]:
    """A rank as numbers that compare as it does."""
    return tuple(map(int, rank))


def _step(attempt: Attempt, providers: Mapping[AccountId, str]) -> Step:
    candidate, failure = attempt.candidate, attempt.failure
    outcome = "failed" if failure is not None else "answered" if attempt.answered else "gone"
    head = (candidate.account, providers.get(candidate.account, ""), candidate.offer.model, outcome)
    seconds, rank = round(attempt.seconds, 4), numbers(candidate.rank)
    if failure is None:
        return Step(*head, seconds, rank=rank)
    bucket = failure.limit.name if failure.limit is not None else None
    return Step(*head, seconds, failure.status, failure.blame.value, bucket, failure.retry_at, rank)


def hashed(name: str) -> str:
    """A name that tells two apart and cannot be turned back; empty for none."""
    if not name:
        return ""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"mcp-journal").hexdigest()


def short(name: str | None) -> str | None:
    """A name that somebody else chose, of bounded length and in one line."""
    return None if name is None else "".join(each for each in name[:LONGEST_NAME] if each.isprintable())
