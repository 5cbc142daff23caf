"""Circuit breakers: what a row of failures leads to, and how it ends."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mcp_proxy.core.breaker import SOUND, Breaker
from mcp_proxy.core.change import Tripped
from mcp_proxy.core.time import Instant
from mcp_proxy.routing import breaker as breakers
from mcp_proxy.routing.breaker import (
    DEGRADED_SECONDS,
    FORGOTTEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    OPEN_SECONDS,
    SPARED_SECONDS,
    STUMBLED_SECONDS,
    State,
    level,
    state,
)
from mcp_proxy.routing.facts import Policy
from mcp_proxy.state.worth import order
from tests.mcp_proxy.routing.seats import NOW, at


def after_failures(count: int, start: Breaker = SOUND, seconds: float = 0.0, draw: float = 0.0) -> Breaker:
    for _ in range(count):
        start = breakers.failed(start, at(seconds), at(seconds), draw, 529, "overloaded")
    return start


@pytest.mark.parametrize(
    ("failures", "expected", "put_back"),
    [
        (0, State.CLOSED, 0),
        (1, State.CLOSED, 1),
        (2, State.CLOSED, 1),
        (3, State.DEGRADED, 2),
        (4, State.DEGRADED, 2),
        (5, State.OPEN, 0),
        (9, State.OPEN, 0),
    ],
)
def test_three_failures_in_a_row_degrade_and_five_open(failures: int, expected: State, put_back: int) -> None:
    row = after_failures(failures)
    assert (state(row, NOW), level(row, NOW)) == (expected, put_back)


def test_a_success_between_them_begins_anew() -> None:
    row = breakers.succeeded(after_failures(4), NOW, NOW)
    assert state(after_failures(2, row), NOW) is State.CLOSED
    assert state(after_failures(3, row), NOW) is State.DEGRADED


def test_an_answer_that_has_only_begun_is_no_success_or_one_that_always_cuts_is_never_found_out() -> None:
    row = SOUND
    for second in range(5):
        row = breakers.answered(row, at(second), at(second))
        row = after_failures(1, row, second)
    assert state(row, at(4)) is State.OPEN


def test_a_probe_that_is_cut_short_costs_one_client_and_not_five() -> None:
    opened = after_failures(5)
    begun = breakers.answered(opened, opened.until, opened.until)
    assert state(begun, opened.until) is State.DEGRADED, "others are let in"
    cut = breakers.failed(begun, opened.until, Instant(opened.until + 1), 0.0, 502, "cut")
    assert state(cut, Instant(opened.until + 1)) is State.OPEN
    whole = breakers.succeeded(begun, opened.until, Instant(opened.until + 1))
    assert (state(whole, opened.until), whole.failures) == (State.CLOSED, 0)


def test_the_first_opening_is_ten_seconds_and_each_failed_probe_doubles_it_up_to_the_ceiling() -> None:
    row, now, lengths = after_failures(5), NOW, []
    for _ in range(7):
        lengths.append(round(row.until - now))
        now = row.until
        assert state(row, Instant(now - 0.001)) is State.OPEN and state(row, now) is State.HALF_OPEN
        row = breakers.failed(row, now, now, 0.0, 502, "down")
    assert lengths == [10, 20, 40, 80, 120, 120, 120]
    assert Policy().max_wait == LONGEST_OPEN_SECONDS, "who has one account waits, and is not locked out"


def test_a_success_after_many_openings_begins_with_the_shortest_again() -> None:
    row = after_failures(5)
    for _ in range(4):
        row = breakers.failed(row, row.until, row.until, 0.0, 502, "down")
    now = row.until
    row = breakers.succeeded(row, now, now)
    assert (state(row, now), level(row, now)) == (State.CLOSED, 0)
    row = after_failures(5, row, now - NOW)
    assert round(row.until - now) == 10


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 10.0), (0.5, 9.0), (1.0, 8.0)])
def test_jitter_only_shortens(draw: float, seconds: float) -> None:
    assert after_failures(5, draw=draw).until == pytest.approx(at(seconds), abs=0.001)


def test_what_was_asked_before_it_opened_neither_lengthens_nor_closes_it() -> None:
    row = after_failures(5)
    late = at(OPEN_SECONDS + 1)
    assert breakers.failed(row, at(-3), late, 0.0, 502, "late") is row
    assert breakers.answered(row, at(-3), late) is row
    assert breakers.succeeded(row, at(-3), late) is row
    assert breakers.failed(row, at(1), at(2), 0.0, 502, "while open") is row


@pytest.mark.parametrize(
    ("row", "seconds", "put_back"),
    [
        (after_failures(1), STUMBLED_SECONDS - 0.1, 1),
        (after_failures(1), STUMBLED_SECONDS + 0.1, 0),
        (after_failures(3), DEGRADED_SECONDS - 0.1, 2),
        (after_failures(3), DEGRADED_SECONDS + 0.1, 0),
        (after_failures(5), OPEN_SECONDS + 0.1, 3),
        (after_failures(5), OPEN_SECONDS + SPARED_SECONDS + 0.1, 0),
        (after_failures(4), -1000.0, 0),
    ],
    ids=["stumbled", "long ago", "degraded", "its turn comes", "spared", "its probe's turn", "a clock set back"],
)
def test_being_put_back_ends_with_time(row: Breaker, seconds: float, put_back: int) -> None:
    assert level(row, at(seconds)) == put_back


def test_after_an_hour_all_is_forgotten() -> None:
    row = after_failures(4)
    assert state(after_failures(1, row, FORGOTTEN_SECONDS - 1), at(FORGOTTEN_SECONDS - 1)) is State.OPEN
    assert after_failures(1, row, FORGOTTEN_SECONDS + 1).failures == 1
    assert state(after_failures(5), at(FORGOTTEN_SECONDS + OPEN_SECONDS + 1)) is State.CLOSED


def test_one_that_a_clock_since_set_back_has_opened_is_tried() -> None:
    assert state(after_failures(5, seconds=86_400.0), NOW) is State.HALF_OPEN


def test_the_probe_of_one_that_is_of_a_clock_since_set_back_tells_all_the_same() -> None:
    ahead = Breaker(6, 2, Instant(NOW + 3000.0), Instant(NOW + 2990.0))
    assert state(ahead, NOW) is State.HALF_OPEN
    assert breakers.succeeded(ahead, NOW, Instant(NOW + 1.0)).failures == 0
    assert breakers.failed(ahead, NOW, Instant(NOW + 1.0), 0.0, 500, "").trips == 3


def test_by_hand_it_is_closed_at_once() -> None:
    row = breakers.closed(after_failures(5), at(1))
    assert (state(row, at(1)), row.failures, row.trips) == (State.CLOSED, 0, 0)


class Reference:
    """The same rules once more, as plainly as they can be said."""

    def __init__(self) -> None:
        self.failures = 0
        self.length: float | None = None
        self.opened = self.until = self.last = 0.0

    def forget(self, now: float) -> None:
        if self.failures and now - max(self.last, self.until if self.length else 0.0) >= 3600:
            self.failures, self.length = 0, None

    def name(self, now: float) -> str:
        self.forget(now)
        if self.length is not None:
            return "open" if now < self.until else "half_open"
        return "degraded" if self.failures >= 3 else "closed"

    def fail(self, asked: float, now: float, draw: float) -> None:
        where = self.name(now)
        if where == "open" or (where == "half_open" and asked < self.opened):
            return
        self.failures += 1
        self.last = now
        if where == "half_open" or self.failures >= 5:
            self.length = 10.0 if self.length is None else min(2 * self.length, 120.0)
            self.opened, self.until = now, now + self.length * (1 - 0.2 * draw)

    def answer(self, asked: float, now: float, *, whole: bool) -> None:
        if self.length is not None and asked < self.opened:
            return
        if whole:
            self.failures, self.length = 0, None
        elif self.length is not None:
            self.failures, self.length, self.last = 4, None, now


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = float(NOW)
        self.breaker = SOUND
        self.model = Reference()

    @rule(seconds=st.one_of(st.floats(0.01, 30), st.sampled_from([60.0, 130.0, 3000.0, 3601.0])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 5), ago=st.sampled_from([0.0, 0.0, 5.0, 200.0]), draw=st.floats(0, 1))
    def requests_fail(self, count: int, ago: float, draw: float) -> None:
        for _ in range(count):
            self.now += 0.01
            asked = self.now - ago
            self.model.fail(asked, self.now, draw)
            self.become(breakers.failed(self.breaker, Instant(asked), Instant(self.now), draw, 502, "down"))

    @rule(ago=st.sampled_from([0.0, 5.0, 200.0]), whole=st.booleans())
    def a_request_is_answered(self, ago: float, whole: bool) -> None:
        self.now += 0.01
        asked = self.now - ago
        self.model.forget(self.now)
        self.model.answer(asked, self.now, whole=whole)
        outcome = breakers.succeeded if whole else breakers.answered
        self.become(outcome(self.breaker, Instant(asked), Instant(self.now)))

    @precondition(lambda self: self.breaker.trips)
    @rule()
    def its_time_is_over(self) -> None:
        self.now = max(self.now, self.breaker.until)

    def become(self, breaker: Breaker) -> None:
        if breaker != self.breaker:
            assert order(Tripped("x", breaker)) > order(Tripped("x", self.breaker)), "of two the later holds"
        self.breaker = breaker

    @invariant()
    def it_is_where_the_reference_is(self) -> None:
        now = Instant(self.now)
        assert state(self.breaker, now).value == self.model.name(self.now)
        if state(self.breaker, now) is State.OPEN:
            assert self.breaker.until == pytest.approx(self.model.until, abs=0.001)
            assert self.breaker.until - now <= 120
        assert level(self.breaker, now) in {
            "closed": (0, 1), "degraded": (0, 2), "open": (0,), "half_open": (0, 3),
        }[self.model.name(self.now)]  # fmt: skip


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.slow
def test_the_breaker_and_its_reference_agree_for_long() -> None:
    run_state_machine_as_test(
        BreakerMachine, settings=settings(max_examples=1000, stateful_step_count=60, deadline=None)
    )
