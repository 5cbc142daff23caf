"""The retry loop, handed a list of outcomes: whom it asks, when it waits, when it gives up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.answer import Answer
from mcp_proxy.gateway.failover import Course, closes, failover
from mcp_proxy.routing.facts import FAILOVER_ON, Candidate, Decision, Rank, Reason, Refused, Tried
from tests.fakes import FakeResponse
from tests.mcp_proxy.routing.seats import OFFER, at

ANSWER = Answer(FakeResponse(), (), b"{}")
NOBODY = Failure(Blame.PROVIDER, 502, "api_error", "nobody")


def failed(blame: Blame, *, limit: bool = False, reached: bool = True) -> Failure:
    status = 400 if blame is Blame.REQUEST else 500
    return Failure(blame, status, "api_error", blame.value, ACCOUNT if limit else None, reached=reached)


DOWN = failed(Blame.PROVIDER)
LIMITED = failed(Blame.ACCOUNT, limit=True)
REFUSED = failed(Blame.ACCOUNT)
UNREACHED = failed(Blame.NETWORK, reached=False)
BAD_REQUEST = failed(Blame.REQUEST)


@dataclass
class World:
    """Accounts `a`, `b`, … in this order, each with what it will say; the last outcome for ever.

    closed  accounts that open with the next wait
    hold    whether what is closed is worth waiting for though others could serve
    waits   what each wait says: whether there is time
    """

    outcomes: dict[str, list[Answer | Failure]]
    closed: set[str] = field(default_factory=set)
    waits: list[bool] = field(default_factory=list)
    together: tuple[str, ...] = ()
    hold: bool = False
    asked: list[str] = field(default_factory=list)
    others: list[bool] = field(default_factory=list)
    waited_for: list[Instant] = field(default_factory=list)
    concluded: list[tuple[Decision, Mapping[AccountId, Failure]]] = field(default_factory=list)
    course: Course = field(default_factory=Course)

    def decide(self, tried: frozenset[Tried]) -> Decision:
        candidates, refused = [], []
        for name in self.outcomes:
            account = AccountId(name)
            if name in self.closed:
                refused.append(Refused(account, Reason.LIMITED, at(10)))
            elif Tried(account, OFFER.model) in tried:
                refused.append(Refused(account, Reason.TRIED))
            else:
                candidates.append(Candidate(Rank(0, False, False, False, True, 1, 0, 0), account, OFFER))
        until = at(10) if self.closed else None
        return Decision(tuple(candidates), tuple(refused), until, until if self.hold and candidates else None)

    async def attempt(self, candidate: Candidate, others: bool) -> Answer | Failure:
        self.asked.append(candidate.account)
        self.others.append(others)
        said = self.outcomes[candidate.account]
        result = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(result, Failure) and result.limit is not None:
            self.closed.add(candidate.account)
        return result

    async def wait(self, retry_at: Instant) -> bool:
        self.waited_for.append(retry_at)
        if not (self.waits and self.waits.pop(0)):
            return False
        self.closed.clear()
        return True

    def covered(self, failure: Failure, candidate: Candidate) -> frozenset[Tried]:
        together = (Tried(AccountId(each), OFFER.model) for each in self.together)
        return frozenset(together) if not failure.reached else frozenset()

    def conclude(self, decision: Decision, failures: Mapping[AccountId, Failure]) -> Failure:
        self.concluded.append((decision, dict(failures)))
        return NOBODY

    async def run(self, max_attempts: int = 5, failover_on: frozenset[int] = FAILOVER_ON) -> Answer | Failure:
        return await failover(
            self.decide,
            self.attempt,
            self.wait,
            self.covered,
            self.conclude,
            max_attempts,
            failover_on,
            self.course,
        )


def world(*outcomes: Answer | Failure | list[Answer | Failure], **how: object) -> World:
    said = {chr(97 + index): list(each) if isinstance(each, list) else [each] for index, each in enumerate(outcomes)}
    return World(said, **how)  # type: ignore[arg-type]


COURSES: list[tuple[str, list[Answer | Failure], str, int, bool]] = [
    # what it is about · what a, b, c, … say · whom it asked · counted · answered
    ("the first answers", [ANSWER, ANSWER], "a", 0, True),
    ("the next one after a failure", [DOWN, ANSWER], "ab", 1, True),
    ("each once", [DOWN, DOWN, DOWN], "abc", 3, False),
    ("five failures are enough", [DOWN] * 5 + [ANSWER], "abcde", 5, False),
    ("a limit does not count", [LIMITED] * 6 + [ANSWER], "abcdefg", 0, True),
    ("nor a refused credential", [REFUSED] * 6 + [ANSWER], "abcdefg", 0, True),
    ("six dead addresses, then the seventh answers", [UNREACHED] * 6 + [ANSWER], "abcdefg", 0, True),
    ("mixed", [DOWN, LIMITED, DOWN, UNREACHED, DOWN, DOWN, DOWN, ANSWER], "abcdefg", 5, False),
    ("a request at fault ends it", [BAD_REQUEST, ANSWER], "a", 0, False),
    ("also later", [DOWN, BAD_REQUEST, ANSWER], "ab", 1, False),
    ("nobody there", [], "", 0, False),
]


@pytest.mark.parametrize(("about", "outcomes", "asked", "counted", "answered"), COURSES, ids=[c[0] for c in COURSES])
async def test_who_is_asked(
    about: str, outcomes: list[Answer | Failure], asked: str, counted: int, answered: bool
) -> None:
    run = world(*outcomes)
    result = await run.run()
    assert "".join(run.asked) == asked
    assert run.course.counted == counted
    assert (result is ANSWER) is answered
    assert run.course.waited is False


async def test_a_request_at_fault_comes_back_as_it_is() -> None:
    assert await world(DOWN, BAD_REQUEST).run() is BAD_REQUEST


async def test_the_end_is_told_what_every_attempt_met() -> None:
    run = world(DOWN, UNREACHED)
    assert await run.run() is NOBODY
    ((decision, failures),) = run.concluded
    assert failures == {"a": DOWN, "b": UNREACHED}
    assert decision is run.course.decision


async def test_an_attempt_knows_whether_another_could_follow() -> None:
    run = world(DOWN, DOWN, ANSWER)
    await run.run()
    assert run.others == [True, True, False]


async def test_an_address_that_is_not_reached_speaks_for_its_other_accounts() -> None:
    run = world(UNREACHED, UNREACHED, UNREACHED, ANSWER, together=("a", "b", "c"))
    assert await run.run() is ANSWER
    assert run.asked == ["a", "d"]


async def test_one_that_is_reached_speaks_for_itself_alone() -> None:
    run = world(DOWN, ANSWER, together=("a", "b"))
    assert await run.run() is ANSWER
    assert run.asked == ["a", "b"]


async def test_after_a_wait_those_are_asked_again_that_a_limit_had_closed() -> None:
    run = world([LIMITED, ANSWER], DOWN, waits=[True])
    assert await run.run() is ANSWER
    assert run.asked == ["a", "b", "a"], "b failed otherwise, and is not asked twice"
    assert run.waited_for == [at(10)]
    assert run.course.waited


async def test_it_waits_as_often_as_there_is_time() -> None:
    run = world([LIMITED, LIMITED, LIMITED, ANSWER], waits=[True, True, False])
    assert await run.run() is NOBODY
    assert (len(run.asked), len(run.waited_for)) == (3, 3)


async def test_it_does_not_wait_where_nothing_will_open() -> None:
    run = world(DOWN, REFUSED, waits=[True])
    assert await run.run() is NOBODY
    assert run.waited_for == []


async def test_it_does_not_wait_once_its_attempts_are_spent() -> None:
    run = world(DOWN, DOWN, ANSWER, closed={"c"}, waits=[True])
    assert await run.run(max_attempts=2) is NOBODY
    assert (run.waited_for, run.course.waited) == ([], False), "nobody could be asked after it"


async def test_a_closed_pool_waits_before_anybody_was_asked() -> None:
    run = world(ANSWER, closed={"a"}, waits=[True])
    assert await run.run() is ANSWER
    assert run.course.waited


@pytest.mark.parametrize(
    ("failure", "closing"),
    [(None, False), (DOWN, False), (UNREACHED, False), (LIMITED, True), (REFUSED, True), (BAD_REQUEST, False)],
)
def test_what_closes_an_account(failure: Failure | None, closing: bool) -> None:
    assert closes(failure) is closing


async def test_a_stand_in_is_asked_once_the_model_itself_has_opened_or_not() -> None:
    run = world(ANSWER, ANSWER, closed={"a"}, hold=True, waits=[True])
    assert await run.run() is ANSWER
    assert (run.asked, run.course.waited, run.waited_for) == (["a"], True, [at(10)])
    run = world(ANSWER, ANSWER, closed={"a"}, hold=True, waits=[False])
    assert await run.run() is ANSWER
    assert (run.asked, run.course.waited) == (["b"], False), "there is no time for that"


async def test_a_request_is_held_for_the_model_itself_once() -> None:
    run = world(LIMITED, ANSWER, closed={"a"}, hold=True, waits=[True, True])
    assert await run.run() is ANSWER
    assert (run.asked, len(run.waited_for)) == (["a", "b"], 1)


async def test_what_the_list_does_not_name_goes_back() -> None:
    run = world(DOWN, ANSWER)
    assert await run.run(failover_on=frozenset({529})) is DOWN
    assert (run.asked, run.course.failures) == (["a"], {})
