"""The pool under failures: breakers, single probes and counts, against a plain reference, whatever the order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mcp_proxy.core.breaker import SOUND
from mcp_proxy.core.change import Change, Limited, QuotaRead, breaker_of
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.quota import ACCOUNT, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.pool import NO_PROBE, Pool, Probe
from mcp_proxy.routing.breaker import State, state
from mcp_proxy.routing.budget import SLOT_SECONDS, budget
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Policy, Reason, Seat
from mcp_proxy.routing.react import Lesson, on_answer
from mcp_proxy.state.memory import MemoryStore
from mcp_proxy.state.sqlite import SqliteStore
from tests.mcp_proxy.routing.seats import NOW, OFFER, WEEK, at, decided, facts, quota, seat

A, B, C = AccountId("a"), AccountId("b"), AccountId("c")
DOWN = Lesson(stumbled=True, sick=True, status=502, why="down")
OVERLOADED = Lesson(stumbled=True, status=529, why="overloaded")
WELL = Lesson(stumbled=False, sick=False)
FIVE_HOURS = 5 * 3600.0
OURS = budget("5h", FIVE_HOURS, 1000, shared=True)
MINE = budget("5h", FIVE_HOURS, 500, shared=False)


def pool(*seats: Seat) -> Pool:
    made = Pool(writer="w")
    made.replace_all(seats or (seat("a", upstream="zai x"), seat("b", upstream="zai x"), seat("c", upstream="zai y")))
    return made


def reasons(of: Pool, now: float = 0.0) -> dict[str, str]:
    told = decide(facts(*of.seats), of.seats, Policy(), at(now))
    return {each.account: each.reason.value for each in told.refused} | {each.account: "" for each in told.candidates}


def down(of: Pool, account: AccountId, times: int, lesson: Lesson = DOWN) -> None:
    for number in range(times):
        of.learn(account, lesson, at(number / 1000))


def test_the_account_and_its_upstream_open_together_and_the_neighbour_there_with_them() -> None:
    of = pool()
    down(of, A, 5)
    assert reasons(of, 1) == {"a": "breaker_open", "b": "breaker_open", "c": ""}
    assert (of.seats[0].breaker.trips, of.seats[1].breaker, of.seats[2].address) == (1, SOUND, SOUND)


def test_an_overload_is_the_accounts_alone() -> None:
    of = pool()
    down(of, A, 5, OVERLOADED)
    assert reasons(of, 1) == {"a": "breaker_open", "b": "", "c": ""}


def test_an_upstream_counts_in_a_row_over_all_its_accounts_and_one_answer_ends_it() -> None:
    of = pool()
    for account in (A, B, A, B):
        of.learn(account, DOWN, NOW)
    assert [each.address.failures for each in of.seats] == [4, 4, 0]
    of.learn(B, WELL, at(1))
    assert [each.address.failures for each in of.seats] == [0, 0, 0]
    assert of.seats[0].breaker.failures == 2, "another account's answer is not its own"


def test_one_request_probes_and_the_next_one_after_it() -> None:
    of = pool()
    down(of, A, 5)
    probe = of.probe(A, OFFER, at(11))
    assert probe == {("account", "a"), ("upstream", "zai x")}
    assert reasons(of, 11) == {"a": "probing", "b": "probing", "c": ""}
    assert of.probe(B, OFFER, at(11)) == NO_PROBE
    of.give_back(probe)  # its client left
    assert reasons(of, 11) == {"a": "", "b": "", "c": ""}
    assert of.probe(B, OFFER, at(11)) == {("upstream", "zai x")}


def test_a_seat_that_is_made_anew_is_still_probed() -> None:
    of = pool()
    down(of, A, 5)
    probe = of.probe(A, OFFER, at(11))
    of.replace_all([*of.seats, seat("new", upstream="zai x")])
    assert reasons(of, 11)["new"] == "probing"
    of.give_back(probe)
    assert reasons(of, 11)["new"] == ""


def test_a_probes_success_closes_both_and_its_failure_opens_both_for_longer() -> None:
    of = pool()
    down(of, A, 5)
    of.learn(A, DOWN, at(11), at(10.5))
    assert round(of.seats[1].address.until - NOW) == round(of.seats[0].breaker.until - NOW) == 31
    of.learn(A, WELL, at(33), at(32))
    assert [(each.breaker, each.address) for each in of.seats] == [(SOUND, SOUND)] * 3


def test_an_open_breaker_survives_a_restart() -> None:
    store, before, after = MemoryStore(), Pool(lambda change: store.save([change])), pool()
    before.replace_all(after.seats)
    down(before, A, 5)
    after.restore(store.load(at(1)))
    assert after.seats == before.seats
    assert reasons(after, 1) == {"a": "breaker_open", "b": "breaker_open", "c": ""}


def test_a_breaker_of_who_is_gone_is_forgotten() -> None:
    of = pool()
    down(of, A, 5)
    of.replace_all([seat("c", upstream="zai y")])
    of.replace_all([seat("a", upstream="zai x")])
    assert reasons(of, 1) == {"a": ""}


def test_reset_closes_breakers_and_forgets_limits_and_leaves_budgets() -> None:
    of = pool(seat("a", upstream="zai x", budgets=(OURS,)), seat("b", upstream="zai x"), seat("c", upstream="zai y"))
    down(of, A, 5)
    of.apply([Limited(A, RateLimit(ACCOUNT, at(600), "busy", NOW)), *restored(quota(0.0, bucket=WEEK), A)])
    of.apply([Limited(C, RateLimit(ACCOUNT, at(600), "busy", NOW))])
    of.spend(A, 1000, NOW)
    recorded: list[Change] = []
    of._record = recorded.append
    assert of.reset([A, B], NOW) == {"a": ["account", "7d", "breaker", "upstream breaker"], "b": ["upstream breaker"]}
    assert recorded, "the store is told"
    assert reasons(of) == {"a": "limited", "b": "", "c": "limited"}
    assert [refusal.detail for refusal in decided(of.seats[0]).refused] == ["budget-5h quota used up"]
    assert of.reset([B], at(1)) == {"b": []}


def restored(quotas: object, account: AccountId) -> list[Change]:
    return [QuotaRead(account, each) for each in quotas.values()]  # type: ignore[attr-defined]


def budgeted() -> Pool:
    return pool(seat("a", budgets=(OURS, MINE)), seat("b", budgets=(OURS,)), seat("other", provider="kimi"))


def test_a_providers_budget_is_used_up_by_all_its_accounts_and_an_accounts_by_itself() -> None:
    of = budgeted()
    of.spend(A, 300, NOW)
    of.spend(B, 300, NOW)
    of.spend(AccountId("other"), 300, NOW)
    assert [each.quotas[OURS.bucket].left for each in of.seats[:2]] == [0.4, 0.4]
    assert of.seats[0].quotas[MINE.bucket].left == 0.4 and not of.seats[2].quotas
    of.spend(A, 200, at(1))
    assert reasons(of, 1) == {"a": "limited", "b": "", "other": ""}
    of.spend(B, 200, at(2))
    assert reasons(of, 2) == {"a": "limited", "b": "limited", "other": ""}


def test_it_recovers_with_time_and_first_by_one_request_for_all_who_share_it() -> None:
    of = budgeted()
    of.spend(B, 1000, NOW)
    over = FIVE_HOURS + SLOT_SECONDS
    of.read_budgets(at(over - 1))
    assert reasons(of, over - 1)["b"] == "limited"
    probe = of.probe(B, OFFER, at(over))
    assert reasons(of, over) == {"a": "probing", "b": "probing", "other": ""}
    lesson = on_answer(facts(*of.seats), of.seats[1], OFFER, at(over), at(over + 1))
    of.learn(B, lesson, at(over + 1), at(over))
    of.give_back(probe)
    of.read_budgets(at(over + 2))
    assert reasons(of, over + 2) == {"a": "", "b": "", "other": ""}
    assert of.probe(A, OFFER, at(over + 2)) == NO_PROBE, "its success has let the others in"


def test_a_failed_probe_of_a_budget_lets_the_next_one_try() -> None:
    of = budgeted()
    of.spend(B, 1000, NOW)
    over = FIVE_HOURS + SLOT_SECONDS
    of.give_back(of.probe(B, OFFER, at(over)))
    of.read_budgets(at(over))
    assert of.probe(A, OFFER, at(over)) == {("window budget-5h", "zai")}


def test_a_larger_limit_lets_one_in_at_once() -> None:
    of = budgeted()
    of.spend(B, 1000, NOW)
    larger = OURS._replace(limit=1010)
    of.replace_all([seat("a", budgets=(larger,)), seat("b", budgets=(larger,))])
    of.read_budgets(at(1))
    assert reasons(of, 1) == {"a": "", "b": ""}
    assert of.probe(A, OFFER, at(1)) != NO_PROBE


def test_counts_survive_a_restart_in_the_middle_and_go_on() -> None:
    store = MemoryStore()
    for writer in ("first", "second", "third"):
        of = Pool(lambda change: store.save([change]), writer=writer)
        of.replace_all([seat("a", budgets=(MINE,))])
        of.restore(store.load(NOW))
        of.read_budgets(NOW)
        of.spend(A, 100, NOW)
        of.spend(A, 50, NOW)
    assert of.seats[0].quotas[MINE.bucket].left == 0.1
    of.restore(store.load(NOW))
    of.read_budgets(NOW)
    assert of.seats[0].quotas[MINE.bucket].left == 0.1, "what arrives twice counts once"


SPENDER = """
import os, signal, sys
from pathlib import Path
from mcp_proxy.state.sqlite import SqliteStore
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.routing.budget import budget
from tests.mcp_proxy.routing.seats import NOW, seat
store = SqliteStore(Path(sys.argv[1]))
of = Pool(lambda change: store.save([change]), writer="killed")
of.replace_all([seat("a", budgets=(budget("5h", 18000.0, 500, shared=False),))])
of.spend("a", 500, NOW)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_counts_that_were_kept_survive_a_kill(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", SPENDER, str(tmp_path / "state.db")], timeout=50, check=False)
    assert ended.returncode == -signal.SIGKILL
    store, after = SqliteStore(tmp_path / "state.db"), Pool(writer="next")
    after.replace_all([seat("a", budgets=(MINE,))])
    after.restore(store.load(NOW))
    after.read_budgets(NOW)
    assert reasons(after) == {"a": "limited"}
    store.close()


@dataclass
class Request:
    account: AccountId
    asked_at: Instant
    probe: Probe
    tries: frozenset[str]


class PoolMachine(RuleBasedStateMachine):
    """Requests come, end in every way, or leave; two of three accounts share an address; now and then a restart."""

    def __init__(self) -> None:
        super().__init__()
        self.now = float(NOW)
        self.store = MemoryStore()
        self.pool = self.opened(pool().seats)
        self.requests: list[Request] = []
        self.spent: list[tuple[float, str, int]] = []

    def opened(self, seats: Sequence[Seat]) -> Pool:
        made = Pool(lambda change: self.store.save([change]), writer=f"{self.now}")
        plain = [seat(each.id, upstream=each.upstream, budgets=(OURS,)) for each in seats]
        made.replace_all(plain)
        made.restore(self.store.load(Instant(self.now)))
        made.read_budgets(Instant(self.now))
        return made

    def half_open(self, account: AccountId) -> frozenset[str]:
        held = self.pool.seat(account)
        assert held is not None
        named = ((breaker_of(account), held.breaker), (held.upstream, held.address))
        return frozenset(name for name, each in named if state(each, Instant(self.now)) is State.HALF_OPEN)

    @rule(seconds=st.one_of(st.floats(0.01, 40), st.just(130.0), st.just(FIVE_HOURS + 600)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.pool.read_budgets(Instant(self.now))

    @rule()
    def a_request_comes(self) -> None:
        now = Instant(self.now)
        told = decide(facts(*self.pool.seats), self.pool.seats, Policy(), now)
        for refusal in told.refused:
            if refusal.reason is Reason.PROBING:
                busy = frozenset().union(*(each.tries for each in self.requests))
                assert busy & self.half_open(refusal.account) or any(
                    "window" in k for r in self.requests for k, _ in r.probe
                )
        if told.first is None:
            return
        account = told.first.account
        held = self.pool.seat(account)
        assert held is not None
        assert State.OPEN not in (state(held.breaker, now), state(held.address, now)), "nobody goes where it is open"
        assert self.within(self.now) < OURS.limit, "nor where the budget is spent"
        tries = self.half_open(account)
        for other in self.requests:
            assert not other.tries & tries, "exactly one probe"
        self.pool.begin(account)
        self.requests.append(Request(account, now, self.pool.probe(account, OFFER, now), tries))

    def ended(self, index: int) -> Request:
        self.now += 0.01
        request = self.requests.pop(index % len(self.requests))
        self.pool.end(request.account)
        self.pool.give_back(request.probe)
        return request

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 9), lesson=st.sampled_from([DOWN, DOWN, OVERLOADED, Lesson(), WELL]))
    def a_request_ends(self, index: int, lesson: Lesson) -> None:
        request = self.ended(index)
        self.pool.learn(request.account, lesson, Instant(self.now), request.asked_at)

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 9), tokens=st.integers(1, 500))
    def a_request_is_answered(self, index: int, tokens: int) -> None:
        request = self.ended(index)
        held, now = self.pool.seat(request.account), Instant(self.now)
        assert held is not None
        self.pool.learn(
            request.account, on_answer(facts(held), held, OFFER, request.asked_at, now), now, request.asked_at
        )
        self.spent.append((self.now // SLOT_SECONDS * SLOT_SECONDS, request.account, tokens))
        self.pool.spend(request.account, tokens, now)

    @rule()
    def it_is_started_anew(self) -> None:
        self.now += 0.01
        before = self.states()
        self.pool, self.requests = self.opened(self.pool.seats), []
        assert self.states() == before

    def states(self) -> list[tuple[State, State]]:
        now = Instant(self.now)
        return [(state(each.breaker, now), state(each.address, now)) for each in self.pool.seats]

    def within(self, now: float) -> int:
        return sum(tokens for slot, _, tokens in self.spent if slot + SLOT_SECONDS + FIVE_HOURS > now)

    @invariant()
    def it_counts_who_is_in_flight(self) -> None:
        for each in self.pool.seats:
            assert each.in_flight == sum(request.account == each.id for request in self.requests)
            assert (each.breaker.trips == 0) or each.breaker.failures >= 5

    @invariant()
    def accounts_at_one_address_agree_on_it(self) -> None:
        one, other, elsewhere = self.pool.seats
        assert one.address == other.address
        assert elsewhere.upstream != one.upstream

    @invariant()
    def budgets_hold_what_was_spent(self) -> None:
        for each in self.pool.seats:
            read = each.quotas[OURS.bucket]
            left = max(0.0, 1.0 - self.within(self.now) / OURS.limit)
            assert read.left == pytest.approx(left, abs=0.0015) or read.resets is not None


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)


@pytest.mark.slow
def test_the_pool_and_its_reference_agree_for_long() -> None:
    run_state_machine_as_test(PoolMachine, settings=settings(max_examples=400, stateful_step_count=60, deadline=None))
