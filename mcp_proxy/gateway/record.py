"""From what a request went through to the row that is kept of it. Pure, and nothing that anybody wrote gets in.

A caller's own seat is told of as the account that it was made of: the row names the caller besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.ids import AccountId, stored_id
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


class Known(NamedTuple):
    """What accounts are called in the journal.

    providers  of the accounts that are still there
    caller     whose own seats have that name behind their accounts' ids; empty: nobody's
    """

    providers: Mapping[AccountId, str]
    caller: str = ""

    def of(self, account: AccountId) -> tuple[AccountId, str]:
        """Its id, and its provider; that is empty where the account is gone."""
        stored = stored_id(account, self.caller)
        return stored, self.providers.get(stored, "")


def detailed(
    first: Decision | None,
    last: Decision | None,
    attempts: Iterable[Attempt],
    seats: Sequence[Seat],
    caller: str = "",
) -> Detail:
    """How it was decided, as it is kept: every account under the id that it is stored by.

    first   the decision by which the first account was asked; None where nobody ever was
    last    the one that ended it
    seats   for the names of their providers
    caller  whose own seats are among them; empty: nobody's
    """
    known_as = Known({seat.id: seat.account.provider for seat in seats}, caller)
    opening = first or last
    begun = standings(opening, known_as) if opening is not None else ()
    asked = tuple(_step(attempt, known_as) for attempt in attempts)
    later: tuple[Standing, ...] = ()
    if last is not None and last is not opening:
        known = {each.account: each for each in begun}
        skipped = {step.account for step in asked}
        later = tuple(
            each
            for each in standings(last, known_as)
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


def standings(decision: Decision, known_as: Known) -> tuple[Standing, ...]:
    """Every account of a decision once, the candidates first and best first."""
    return (
        *(_candidate(each, known_as) for each in decision.candidates),
        *(_refused(each, known_as) for each in decision.refused),
    )


def _candidate(each: Candidate, known_as: Known) -> Standing:
    standing = Standing(*known_as.of(each.account), model=each.offer.model, rank=numbers(each.rank))
    if each.passed is None:
        return standing
    return msgspec.structs.replace(standing, detail=each.passed.reason.value, until=each.passed.until)


def _refused(each: Refused, known_as: Known) -> Standing:
    detail = each.detail if each.reason in _OURS else ""
    return Standing(*known_as.of(each.account), each.reason.value, until=each.until, detail=detail)


def numbers(rank: Rank) -> tuple[int, ...]:
    """A rank as numbers that compare as it does."""
    return tuple(map(int, rank))


def _step(attempt: Attempt, known_as: Known) -> Step:
    candidate, failure = attempt.candidate, attempt.failure
    outcome = "failed" if failure is not None else "answered" if attempt.answered else "gone"
    head = (*known_as.of(candidate.account), candidate.offer.model, outcome)
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
