"""Of each of many random requests the journal tells why it went where it went, and that is so: weighed anew, the same
account comes first, and every account is named once, with one reason."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import AccountId, ModelId, RequestId
from mcp_proxy.core.journal import Detail, Row, Standing, Step, pack, unpack
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import ACCOUNT, BILLING, Bucket, Kind, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.answer import Answer
from mcp_proxy.gateway.explain import Verdict, explain, first_choice
from mcp_proxy.gateway.failover import Course, failover
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.record import FIELDS, Attempt, Known, detailed, hashed, numbers, short, standings
from mcp_proxy.gateway.verdict import nobody
from mcp_proxy.journal.sqlite import SqliteJournal
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Candidate, Decision, Facts, Policy, Reason, Seat, Serving, Target, Tried
from mcp_proxy.routing.react import on_answer, on_failure, on_quotas
from tests.fakes import FakeResponse
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MINUTE, NOW, WEEK, closed, seat

MODELS = [Offer(ModelId(name), (FIVE_HOURS, WEEK, MINUTE), context_window=window) for name, window in
          (("m", 200_000), ("n", None), ("o", 1_000_000))]  # fmt: skip
REASONS = {*FIELDS, *Reason, *Blame, "limited", "served", "max_attempts", "gone", "failover"}


@dataclass
class World:
    """A pool that a made-up day changes, request by request."""

    rng: random.Random
    policy: Policy
    pool: Pool = field(default_factory=Pool)
    now: Instant = NOW

    def begin(self, accounts: int) -> None:
        self.pool.replace_all(self._seat(f"{number:06x}") for number in range(accounts))
        for each in self.pool.seats:
            for _ in range(self.rng.choice([0, 0, 1, 5])):
                self.pool.begin(each.id)
            for bucket in (FIVE_HOURS, WEEK, MINUTE):
                if self.rng.random() < 0.4:
                    self.pool.apply(on_quotas(each.id, [self._quota(bucket)]))

    def _seat(self, name: str) -> Seat:
        rng = self.rng
        return seat(
            name,
            provider=rng.choice(["zai", "anthropic", "kimi"]),
            offers=MODELS,
            tier=rng.choice([1, 1, 2, 3]),
            comfort=rng.choice([None, 1, 3]),
            sticky=rng.random() < 0.8,
            enabled=rng.random() < 0.95,
            invalid="refused" if rng.random() < 0.03 else None,
            caller=rng.choice(["", "c1"]) if rng.random() < 0.1 else None,
            local=rng.random() < 0.1,
        )

    def _quota(self, bucket: Bucket) -> Quota:
        left = self.rng.choice([None, 0.0, 0.1, 0.5, 1.0])
        return Quota(bucket, left, Instant(self.now + self.rng.uniform(-60, 900)), self.now)

    def facts(self, number: int) -> Facts:
        rng = self.rng
        serving: dict[AccountId, tuple[Serving, ...]] = {}
        for each in self.pool.seats:
            ways = [Serving(MODELS[0], rng.random() < 0.2)] if rng.random() < 0.8 else []
            ways += [Serving(MODELS[step], step=step) for step in (1, 2) if rng.random() < 0.3]
            if ways:
                serving[each.id] = tuple(ways)
        session = f"session {rng.randrange(40)}"
        warm = self.pool.warm(session, "", [offer.model for offer in MODELS], self.now)
        return Facts(
            request=RequestId(f"req_{number}"),
            target=Target("m", serving),
            session=session,
            agent="",
            tokens=rng.choice([10, 100, 400_000]),
            stream=True,
            warm=warm,
            local=rng.random() < 0.5,
            caller=rng.choice(["", "c1", "c2"]),
        )

    def outcome(self) -> Failure | None:
        """What one attempt comes to; None: an answer."""
        rng = self.rng
        if rng.random() < 0.5:
            return None
        soon = Instant(self.now + rng.uniform(1, 300))
        return rng.choice(
            [
                Failure(Blame.ACCOUNT, 429, "rate_limit_error", "full", ACCOUNT, soon),
                Failure(Blame.ACCOUNT, 429, "rate_limit_error", "full", rng.choice([FIVE_HOURS, MINUTE])),
                Failure(Blame.ACCOUNT, 402, "billing_error", "pay", BILLING),
                Failure(Blame.PROVIDER, 529, "overloaded_error", "busy"),
                Failure(Blame.MODEL, 404, "not_found_error", "no", Bucket("m", Kind.ABSENCE), soon),
                Failure(Blame.NETWORK, 502, "api_error", "cut", reached=rng.random() < 0.5),
                Failure(Blame.REQUEST, 400, "invalid_request_error", "bad"),
            ]
        )


@dataclass
class Went:
    """A request that was made: what was known at each decision, and what became of it."""

    facts: Facts
    course: Course
    attempts: list[Attempt]
    seats: tuple[Seat, ...]
    known: dict[int, tuple[tuple[Seat, ...], Instant, frozenset[Tried]]]
    result: Answer | Failure

    @property
    def opening(self) -> Decision:
        found = self.course.first or self.course.decision
        assert found is not None
        return found

    def detail(self) -> Detail:
        return detailed(self.course.first, self.course.decision, self.attempts, self.seats)

    def row(self) -> Row:
        served = isinstance(self.result, Answer)
        return Row(
            request=self.facts.request,
            begun=NOW,
            total=1.0,
            asked="m",
            outcome="ok" if served else "failed",
            status=200 if served else self.result.status,
            reason="served",
            stream=True,
            detail=pack(self.detail()),
        )


def ask(world: World, number: int) -> Went:
    """One request, through the real decisions and the real loop, with nobody at the other end."""
    world.now = Instant(world.now + world.rng.uniform(0, 20))
    facts, course, attempts = world.facts(number), Course(), list[Attempt]()
    known: dict[int, tuple[tuple[Seat, ...], Instant, frozenset[Tried]]] = {}
    kept: list[Decision] = []  # so that no other has the same id

    def decided(tried: frozenset[Tried]) -> Decision:
        decision = decide(facts, world.pool.seats, world.policy, world.now, tried)
        kept.append(decision)
        known[id(decision)] = (world.pool.seats, world.now, tried)
        return decision

    async def attempt(candidate: Candidate, others: bool) -> Answer | Failure:
        one, failure = Attempt(candidate, world.rng.random()), world.outcome()
        attempts.append(one)
        asked_at, world.now = world.now, Instant(world.now + one.seconds)
        held = world.pool.seat(candidate.account)
        assert held is not None
        if failure is None:
            one.answered = True
            world.pool.learn(held.id, on_answer(facts, held, candidate.offer, asked_at, world.now), world.now)
            return Answer(FakeResponse(), (), b"")
        one.failure = failure
        world.pool.learn(held.id, on_failure(failure, held, world.now), world.now)
        return failure

    async def wait(retry_at: Instant) -> bool:
        if retry_at - world.now > 60:
            return False
        world.now = Instant(max(world.now, retry_at) + 0.01)
        return True

    def covered(failure: Failure, candidate: Candidate) -> frozenset[Tried]:
        if failure.reached:
            return frozenset()
        one = world.pool.seat(candidate.account)
        near = [each for each in world.pool.seats if one is not None and each.provider == one.provider]
        return frozenset(
            Tried(each.id, way.offer.model) for each in near for way in facts.target.serving.get(each.id, ())
        )

    def conclude(decision: Decision, failures: Mapping[AccountId, Failure]) -> Failure:
        return nobody("m", decision, failures, world.now)

    policy = world.policy
    result = at_once(
        failover(decided, attempt, wait, covered, conclude, policy.max_attempts, policy.failover_on, course)
    )
    return Went(facts, course, attempts, world.pool.seats, known, result)


def at_once(work: Coroutine[Any, Any, Answer | Failure]) -> Answer | Failure:
    """What a coroutine comes to that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: Answer | Failure = ended.value
        return result
    raise AssertionError("it waits")


def holds(went: Went, row: Row, policy: Policy) -> None:
    """What is kept of a request tells of it what was so."""
    detail, lines = unpack(row.detail), explain(row)
    assert detail == went.detail(), "nothing is lost on the way to the disk and back"
    asked = [attempt.candidate.account for attempt in went.attempts]
    # weighed anew by what was kept
    assert first_choice(detail) == (asked[0] if asked else None)
    # decided anew on what was known
    opening = went.opening
    seats, now, tried = went.known[id(opening)]
    anew = decide(went.facts, seats, policy, now, tried)
    assert anew == opening
    assert standings(anew, Known({each.id: each.account.provider for each in seats})) == detail.first
    assert not asked or (anew.first is not None and anew.first.account == asked[0])
    # every account once, with one reason
    assert sorted(line.account for line in lines) == sorted(each.id for each in went.seats)
    assert {line.reason for line in lines} <= REASONS
    served = [line.account for line in lines if line.verdict is Verdict.SERVED]
    assert served == (asked[-1:] if isinstance(went.result, Answer) else [])
    assert {line.account for line in lines if line.verdict in (Verdict.SERVED, Verdict.FAILED)} == set(asked)
    last = went.course.decision
    assert last is not None
    refused = {each.account: each.reason for each in last.refused}
    for line in lines:
        if line.verdict is Verdict.REFUSED:
            assert line.reason == refused[AccountId(line.account)]
        elif line.verdict is Verdict.CANDIDATE:
            mine = next(each.rank for each in last.candidates if each.account == line.account)
            assert tuple(line.rank.values()) == numbers(mine) and tuple(line.rank) == FIELDS


def simulate(folder: Path, requests: int, seed: int) -> list[Went]:
    """Random requests over random pools; a new pool for each five hundred."""
    rng, all_of_them = random.Random(seed), list[Went]()
    journal = SqliteJournal(folder / "state.db")
    for start in range(0, requests, 500):
        policy = Policy(soft_limit=rng.choice([None, 0.2]), reserve=rng.choice([{}, {"7d": 0.5}]))
        world = World(rng, policy)
        world.begin(rng.choice([1, 3, 8, 20]))
        wents = [ask(world, number) for number in range(start, min(start + 500, requests))]
        journal.write([went.row() for went in wents])
        for went in wents:
            row = journal.find(went.facts.request)
            assert row is not None
            holds(went, row, policy)
        all_of_them += wents
    journal.close()
    return all_of_them


def test_of_random_requests_it_is_told_what_was_so(tmp_path: Path) -> None:
    wents = simulate(tmp_path, 400, 1)
    assert sum(len(went.attempts) > 1 for went in wents) > 30, "some failed over"
    assert sum(went.course.waited for went in wents) > 5, "some waited"
    assert sum(not went.attempts for went in wents) > 5, "of some nobody was asked"
    assert any(went.detail().later for went in wents), "in some something changed on the way"
    assert any(line.step for went in wents for line in explain(went.row())), "some were served by a fallback model"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_of_ten_thousand_random_requests_it_is_told_what_was_so(tmp_path: Path, seed: int) -> None:
    assert len(simulate(tmp_path, 10_000, 100 + seed)) == 10_000


def test_a_wrong_record_would_be_found(tmp_path: Path) -> None:
    """The check can fail: with the ranks of the first two exchanged it does."""
    world = World(random.Random(3), Policy())
    world.begin(8)
    went = next(each for number in range(100) if len((each := ask(world, number)).opening.candidates) > 1)
    row = went.row()
    one, two, *rest = unpack(row.detail).first
    swapped = Detail(FIELDS, (one_with(one, two.rank), one_with(two, one.rank), *rest), unpack(row.detail).attempts)
    assert first_choice(swapped) == two.account != first_choice(unpack(row.detail))
    with pytest.raises(AssertionError):
        holds(went, Row(**{**_fields(row), "detail": pack(swapped)}), world.policy)


def one_with(standing: Standing, rank: tuple[int, ...]) -> Standing:
    return Standing(standing.account, standing.provider, standing.reason, standing.model, rank)


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__struct_fields__}


def standing(account: str, **rank: int) -> Standing:
    return Standing(account, "zai", model="m", rank=tuple(rank.get(name, 0) for name in FIELDS))


@pytest.mark.parametrize("behind", FIELDS)
def test_a_candidate_is_told_what_it_was_behind_in(behind: str) -> None:
    best, worse = standing("a"), standing("b", **{behind: 1})
    step = Step("a", "zai", "m", "answered", 0.1, rank=best.rank)
    detail = Detail(FIELDS, (best, worse), (step,))
    row = Row(begun=NOW, total=1.0, request="r", asked="m", outcome="ok", status=200, reason="sticky", stream=True,
              detail=pack(detail))  # fmt: skip
    assert [(line.verdict.value, line.reason) for line in explain(row)] == [
        ("served", "sticky"),
        ("candidate", behind),
    ]


def test_who_gave_no_answer_has_no_status_of_its_own() -> None:
    steps = tuple(
        Step("a", "zai", "m", "failed", 0.1, status, blame) for status, blame in ((502, "network"), (500, "provider"))
    )
    row = Row(begun=NOW, total=1.0, request="r", asked="m", outcome="failed", status=502, reason="failover",
              stream=True, detail=pack(Detail(FIELDS, (), steps)))  # fmt: skip
    assert explain(row)[0].detail == "no answer after 0.10 s, then HTTP 500 after 0.10 s"


def test_what_an_upstream_wrote_is_not_kept() -> None:
    told = "limited: you asked for `the recipe of the cake`"
    held = (seat("a", closed=closed(30, why=told)), seat("b", invalid=told), seat("c"))
    world = World(random.Random(1), Policy())
    world.pool.replace_all(held)
    serving = {each.id: (Serving(MODELS[0]),) for each in held}
    facts = Facts(RequestId("r"), Target("m", serving), "s", "", 10, True)
    decision = decide(facts, held, Policy(), NOW)
    failure = Failure(Blame.ACCOUNT, 429, told, told, Bucket("5h"), body=told.encode())
    attempts = [Attempt(Candidate(decision.candidates[0].rank, AccountId("c"), Offer(ModelId("m"))), 1.0, failure)]
    assert "recipe" not in repr(detailed(decision, decision, attempts, held))


def test_a_callers_own_seat_is_kept_as_the_account_that_it_is_made_of() -> None:
    world = World(random.Random(1), Policy())
    world.pool.replace_all((seat("plan", provider="plan", caller=""), seat("other", provider="plan", caller="")))
    own = world.pool.of("c1")
    serving = {each.id: (Serving(MODELS[0]),) for each in own}
    decision = decide(Facts(RequestId("r"), Target("m", serving), "s", "", 10, True, caller="c1"), own, Policy(), NOW)
    asked = [Attempt(decision.candidates[0], 1.0, answered=True)]
    detail = detailed(decision, decision, asked, world.pool.seats, "c1")
    assert {(each.account, each.provider) for each in detail.first} == {("plan", "plan"), ("other", "plan")}
    assert [(each.account, each.provider) for each in detail.attempts] == [(detail.first[0].account, "plan")]


def test_names_are_hashed_or_short() -> None:
    assert hashed("") == "" and hashed("s\ud800") != hashed("s") and len(hashed("s")) == 16 and "s" not in hashed("s")
    assert short(None) is None and short("a\x1b[2J\nb") == "a[2Jb" and len(short("x" * 9999) or "") == 200


def test_what_is_kept_of_a_decision_is_small() -> None:
    sizes = {}
    for accounts in (10, 100):
        world = World(random.Random(5), Policy())
        world.begin(accounts)
        found = [len(pack(ask(world, number).detail())) for number in range(20)]
        sizes[accounts] = sum(found) // len(found)
    assert sizes[10] < 1000 and sizes[100] < 6000, sizes


def test_what_cannot_be_read_is_an_empty_detail() -> None:
    assert unpack(b"") == unpack(b"z\x00") == unpack(b"[1]") == Detail()
