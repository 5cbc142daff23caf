"""The project's only retry loop: who is asked next, who waits, and when it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.answer import Answer
from mcp_proxy.routing.facts import Candidate, Decision, Tried
from mcp_proxy.routing.react import moves_on

Try: TypeAlias = Callable[[Candidate, bool], Awaitable[Answer | Failure]]
"""Ask one seat; the flag says whether another could still be asked after it."""


class Wait(Protocol):
    """Wait until `retry_at` or an earlier chance; False where that would take too long."""

    async def __call__(self, retry_at: Instant) -> bool: ...


@dataclass(slots=True)
class Course:
    """How a request went: whom it asked, what they said, and the decisions that began and ended it.

    first    the decision by which the first seat was asked; None where none was
    decision the last one
    counted  failed attempts; none is a refusal that closes the account, for a while or for good, nor an upstream
             that was not reached
    """

    failures: dict[Tried, Failure] = field(default_factory=dict)
    counted: int = 0
    waited: bool = False
    first: Decision | None = None
    decision: Decision | None = None

    def by_account(self) -> dict[AccountId, Failure]:
        """What each account said last of the model it was asked for first."""
        found: dict[AccountId, Failure] = {}
        for tried, failure in self.failures.items():
            found.setdefault(tried.account, failure)
        return found


async def failover(
    ask: Callable[[frozenset[Tried]], Decision],
    attempt: Try,
    wait: Wait,
    covered: Callable[[Failure, Candidate], frozenset[Tried]],
    conclude: Callable[[Decision, Mapping[AccountId, Failure]], Failure],
    max_attempts: int,
    failover_on: frozenset[int],
    course: Course,
) -> Answer | Failure:
    """Try seats, best first, until one has content in hand.

    ask          decides anew on the pool as it is now, without what was already tried
    attempt      opens one upstream: its first content read (`Answer`), or what went wrong (`Failure`)
    wait         for the next moment at which a closed seat opens
    covered      what a failure speaks for, beside the seat and the model that met it
    conclude     what the client is told when nobody is left
    failover_on  the statuses after which the next is tried

    An answer ends it for good: once the client has begun to read, nobody else can be tried.
    """
    tried: frozenset[Tried] = frozenset()
    while True:
        decision = course.decision = ask(tried)
        candidate, spent = decision.first, course.counted >= max_attempts
        # for the model itself once, and shortly; for anybody at all as often as there is time
        until = decision.hold if candidate is not None and not course.waited else None
        if candidate is None:
            until = decision.retry_at
        if until is not None and not spent and await wait(until):
            course.waited = True
            tried -= {each for each in tried if closes(course.failures.get(each))}
            continue
        if candidate is None or spent:
            if until is not None and not (now := ask(tried)).candidates:
                decision = course.decision = now  # it may have waited in vain: what ends when has changed meanwhile
            return conclude(decision, course.by_account())
        course.first = course.first or decision
        result = await attempt(candidate, len(decision.candidates) > 1)
        if isinstance(result, Answer) or not moves_on(result, failover_on):
            return result
        met = Tried(candidate.account, candidate.offer.model)
        course.failures[met] = result
        course.counted += result.reached and not closes(result)
        tried |= {met} | covered(result, candidate)


def closes(failure: Failure | None) -> bool:
    """Whether a failure closed its account, for a while or for good, so that asking it again now is no use."""
    return failure is not None and (failure.limit is not None or failure.blame in (Blame.ACCOUNT, Blame.TOKEN))
