"""What is told of a request when it is over: the reason that its answer carries, a line of the log, a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.ids import ModelId, RequestId, stored_id
from mcp_proxy.core.journal import Detail, Row, pack
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.gateway.failover import Course
from mcp_proxy.gateway.record import Attempt, detailed, hashed, short, undecided
from mcp_proxy.routing.facts import Facts, Reason, Seat

log = structlog.get_logger("mcp_proxy.exchange")


class Why(StrEnum):
    """`x-proxy-reason`: the first that holds."""

    WAITED = "waited"
    FALLBACK_MODEL = "fallback_model"
    FAILOVER = "failover"
    SOFT_LIMITED = "soft_limited"
    STICKY = "sticky"
    FIRST_CHOICE = "first_choice"


def reason(course: Course, attempts: Sequence[Attempt], asked: str) -> Why:
    """Why the answer came from where it came."""
    if course.waited:
        return Why.WAITED
    if not attempts:
        return Why.FIRST_CHOICE
    rank = attempts[-1].candidate.rank
    if rank.step or (rank.substitute and attempts[-1].candidate.offer.model != asked):
        return Why.FALLBACK_MODEL
    if len(attempts) > 1:
        return Why.FAILOVER
    if _soft_limit_spoke(course, attempts[-1]):
        return Why.SOFT_LIMITED
    return Why.STICKY if not rank.cold else Why.FIRST_CHOICE


def _soft_limit_spoke(course: Course, attempt: Attempt) -> bool:
    """Whether the soft limit had a say: it is on the one that served, or moved the conversation off its seat."""
    rank, decision = attempt.candidate.rank, course.decision
    if rank.soft_limited:
        return True
    limited = [c.rank for c in decision.candidates if c.rank.soft_limited] if decision is not None else []
    return any(not each.cold or each._replace(soft_limited=False) < rank for each in limited)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended, in values that nothing changes any more, so that any thread may read them.

    ask       without its body
    key       the name of the key that the client showed
    facts     None where nobody serves the model
    failure   None where there was an answer, and where the client left before
    usage     None where there was no answer
    seat      who answered, or was asked last; None where nobody was, or the account is gone
    seats     everybody, as they were when it ended
    first     seconds to the first content; None where there was none
    total     seconds to the end
    """

    request: RequestId
    ask: Ask
    key: str
    facts: Facts | None
    course: Course
    attempts: Sequence[Attempt]
    outcome: str
    failure: Failure | None
    usage: Usage | None
    seat: Seat | None
    seats: Sequence[Seat]
    upstream_id: str | None
    cleaned: tuple[str, ...]
    first: float | None
    total: float

    @property
    def _status(self) -> int:
        return self.failure.status if self.failure else 200

    @property
    def _model(self) -> ModelId | None:
        return self.attempts[-1].candidate.offer.model if self.attempts else None

    @property
    def caller(self) -> str:
        """Who asked with a credential of their own; empty: nobody did."""
        return self.facts.caller if self.facts is not None else ""

    def log(self) -> None:
        """The one line of the log."""
        usage, seat = self.usage, self.seat
        log.info(
            "request",
            request_id=self.request,
            model=self.ask.model,
            account=f"{seat.provider}/{seat.stored}" if seat else None,
            upstream_model=self._model,
            upstream_request_id=self.upstream_id,
            reason=reason(self.course, self.attempts, self.ask.model).value,
            attempts=len(self.attempts),
            outcome=self.outcome,
            status=self._status,
            stream=self.ask.stream,
            seconds=round(self.total, 3),
            input=usage.input if usage else None,
            cache_read=usage.cache_read if usage else None,
            cache_write=usage.cache_write if usage else None,
            output=usage.output if usage else None,
            cleaned=list(self.cleaned) or None,
            refusals=[
                f"{attempt.candidate.account}: {attempt.failure.blame.value} {attempt.failure.status}"
                for attempt in self.attempts
                if attempt.failure is not None
            ]
            or None,
        )

    def row(self) -> Row:
        """What the journal keeps. It takes a while where there are many accounts: not for the event loop's thread."""
        usage, seat, facts, caller = self.usage, self.seat, self.facts, self.caller
        return Row(
            request=self.request,
            upstream=short(self.upstream_id),
            begun=Instant(self.ask.at),
            first=self.first,
            total=self.total,
            session=hashed(facts.session) if facts else "",
            key=self.key,
            caller=caller,
            asked=short(self.ask.model) or "",
            model=self._model,
            provider=seat.provider if seat else None,
            account=stored_id(self.attempts[-1].candidate.account, caller) if self.attempts else None,
            outcome=self.outcome,
            status=self._status,
            reason=reason(self.course, self.attempts, self.ask.model).value,
            stream=self.ask.stream,
            waited=self.course.waited,
            hour=facts.hour_cache if facts else False,
            attempts=len(self.attempts),
            input=usage.input if usage else None,
            cache_read=usage.cache_read if usage else None,
            cache_write=usage.cache_write if usage else None,
            output=usage.output if usage else None,
            reasoning=usage.reasoning if usage else None,
            detail=pack(self._detail()),
        )

    def _detail(self) -> Detail:
        """How it was decided. Where nobody serves the name, or the client had left by then, it was not."""
        if self.course.decision is None:
            return undecided(self.seats, Reason.NOT_SERVED if self.failure is not None else "client_gone")
        return detailed(self.course.first, self.course.decision, self.attempts, self.seats, self.caller)
