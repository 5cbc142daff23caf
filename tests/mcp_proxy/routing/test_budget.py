"""Token budgets: what counts, what a rolling window holds, and what is read of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_proxy.core.quota import LONGEST_WINDOW_SECONDS, Bucket
from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.routing.budget import (
    SLOT_SECONDS,
    Budget,
    Meter,
    budget,
    counted,
    reading,
    slot_of,
)
from mcp_proxy.routing.facts import Policy, Seat
from mcp_proxy.routing.windows import closed_by, doubtful, is_soft, lowest, windows
from mcp_proxy.state import worth
from tests.mcp_proxy.routing.seats import MODEL, NOW, OFFER, WEEK, at, closed, decided, quota, seat

HOURS = budget("5h", 5 * 3600.0, 1000, shared=True)
ALL_OF_IT = budget("7d", 7 * 86_400.0, 1000, threshold=1.0, shared=False)


def test_what_is_read_from_the_cache_does_not_count() -> None:
    assert counted(Usage(input=10, cache_read=100_000, cache_write=20, output=3)) == 33
    assert counted(Usage(input=-1, output=2)) == 2


def test_a_budget_is_named_by_its_window_and_whose_it_is() -> None:
    assert (HOURS.bucket, ALL_OF_IT.bucket) == (Bucket("budget-5h"), Bucket("own-budget-7d"))
    assert (HOURS.kept, ALL_OF_IT.kept) == pytest.approx((0.1, 0.0), abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "limit", "threshold"), [(0, 1, 0.9), (60, 0, 0.9), (60, 1, -0.1), (60, 1, 1.1), (36 * 86_400, 1, 0.9)]
)
def test_what_cannot_be_a_budget(seconds: float, limit: int, threshold: float) -> None:
    with pytest.raises(ValueError, match="no budget"):
        budget("x", seconds, limit, threshold, shared=True)


def test_counts_are_kept_for_as_long_as_any_window() -> None:
    assert LONGEST_WINDOW_SECONDS <= worth.TALLIED


def used_up(of: Budget, tokens: int, now: float = 0.0) -> Meter:
    meter = Meter(of.seconds)
    meter.add(slot_of(at(now)), tokens)
    return meter


@pytest.mark.parametrize(
    ("tokens", "left", "shut"),
    [(0, 1.0, False), (899, 0.101, False), (900, 0.1, False), (1000, 0.0, True), (9999, 0.0, True)],
)
def test_what_is_left(tokens: int, left: float, shut: bool) -> None:
    told, closing = reading(HOURS, used_up(HOURS, tokens), NOW)
    assert told.left == pytest.approx(left) and (closing is not None) is shut
    assert (told.resets is not None) is shut


def test_it_opens_when_enough_has_left_the_window() -> None:
    meter = Meter(HOURS.seconds)
    for number, tokens in enumerate((300, 400, 500)):
        meter.add(at(number * SLOT_SECONDS), tokens)
    told, closing = reading(HOURS, meter, at(1000))
    assert closing is not None and closing.until == told.resets == at(HOURS.seconds + SLOT_SECONDS)
    assert reading(HOURS, meter, Instant(closing.until - 1))[1] is not None
    assert reading(HOURS, meter, closing.until)[1] is None
    assert meter.used(closing.until) == 900


def held(of: Budget, left: float | None, resets: float | None = None, **how: object) -> Seat:
    return seat("a", budgets=(of,), quotas=quota(left, bucket=of.bucket, resets=resets), **how)


@pytest.mark.parametrize(
    ("of", "left", "soft"),
    [(HOURS, 0.101, False), (HOURS, 0.1, True), (HOURS, 0.001, True), (HOURS, None, False), (ALL_OF_IT, 0.001, False)],
)
def test_it_is_kept_for_last_by_its_own_threshold_and_not_the_soft_limit(of: Budget, left: float, soft: bool) -> None:
    for policy in (Policy(soft_limit=0.5), Policy(soft_limit=None), Policy(reserve={"5h": 0.9, "7d": 0.9})):
        assert is_soft(held(of, left), OFFER, policy, NOW) is soft


def test_one_that_is_used_up_is_a_window_like_any_other() -> None:
    out = held(HOURS, 0.0, 600)
    limit = closed_by(out, OFFER, NOW)
    assert limit is not None and (limit.bucket, limit.until) == (HOURS.bucket, at(600))
    assert [bucket.name for bucket, _ in windows(out, OFFER)] == ["5h", "7d", "budget-5h"]
    low = lowest(out, OFFER, NOW)
    assert low is not None and low.bucket == HOURS.bucket
    refusal = decided(out).refused[0]
    assert (refusal.reason.value, refusal.until) == ("limited", at(600))


@pytest.mark.parametrize(
    ("limits", "doubted"),
    [
        (closed(-1, bucket=WEEK, strikes=1), ["7d"]),
        (closed(-1, bucket=WEEK), []),
        (closed(5, bucket=WEEK, strikes=1), []),
        (closed(-1, bucket=HOURS.bucket, strikes=1), ["budget-5h"]),
        (closed(-1, bucket=Bucket("30d"), strikes=1), []),
        (closed(-1, strikes=1), []),
    ],
    ids=["guessed", "told", "not over", "ours", "another's", "no allowance"],
)
def test_a_window_whose_end_was_guessed_is_tried_by_one_request(limits: object, doubted: list[str]) -> None:
    found = doubtful(seat("a", closed=limits, budgets=(HOURS,)), OFFER, NOW)
    assert [bucket.name for bucket in found] == doubted
    assert OFFER.model == MODEL


class WindowMachine(RuleBasedStateMachine):
    """A meter against every token with its moment, added up each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = float(NOW)
        self.meter = Meter(HOURS.seconds)
        self.spent: list[tuple[float, int]] = []

    @rule(seconds=st.one_of(st.floats(0.1, 400), st.floats(0.1, 7200), st.just(20_000.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tokens=st.integers(1, 700), late=st.sampled_from([0.0, 0.0, 200.0, 900.0, 30_000.0]))
    def tokens_are_used(self, tokens: int, late: float) -> None:
        when = slot_of(Instant(self.now - late))
        self.spent.append((when, tokens))
        self.meter.add(when, tokens)

    def within(self, now: float) -> int:
        return sum(tokens for when, tokens in self.spent if when + SLOT_SECONDS + HOURS.seconds > now)

    @invariant()
    def it_holds_what_was_used_within_the_window(self) -> None:
        now = Instant(self.now)
        assert self.meter.used(now) == self.within(now)

    @invariant()
    def it_opens_at_the_first_moment_with_room(self) -> None:
        until = self.meter.opens(HOURS.limit, Instant(self.now))
        full = self.within(self.now) >= HOURS.limit
        assert (until is not None) is full
        if until is not None:
            assert self.within(until) < HOURS.limit <= self.within(until - 0.001)


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
