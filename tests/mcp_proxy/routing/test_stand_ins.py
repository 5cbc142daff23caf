"""When a fallback model serves: after all who have the model itself, and not for a request that is at fault."""

from __future__ import annotations

import pytest

from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.ids import AccountId, ModelId
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import Bucket
from mcp_proxy.routing.decide import PATIENCE_SECONDS, decide
from mcp_proxy.routing.facts import Decision, Policy, Reason, Seat, Serving, Tried
from tests.mcp_proxy.routing.seats import NOW, at, closed, facts, quota, seat

OWN, OTHER = Bucket("claude-5h"), Bucket("gemini-5h")
CLAUDE = Offer(ModelId("claude"), (OWN,), context_window=1000)
GEMINI = Offer(ModelId("gemini"), (OTHER,), context_window=9000)
BOTH = (Serving(CLAUDE), Serving(GEMINI, step=1))


def decided(
    *seats: Seat, tokens: int = 10, tried: frozenset[Tried] = frozenset(), **ways: tuple[Serving, ...]
) -> Decision:
    serving = {each.id: ways.get(each.id, BOTH) for each in seats}
    return decide(facts(serving=serving, tokens=tokens), seats, Policy(), NOW, tried)


def told(decision: Decision) -> list[tuple[str, str, int]]:
    return [(each.account, each.offer.model, each.rank.step) for each in decision.candidates]


def test_an_account_that_has_both_serves_what_was_asked_for() -> None:
    assert told(decided(seat("a"))) == [("a", "claude", 0)]


def test_and_the_other_once_that_has_run_out() -> None:
    decision = decided(seat("a", closed=closed(3600, bucket=OWN)))
    assert told(decision) == [("a", "gemini", 1)]
    assert decision.refused == (), "each account has one line"


@pytest.mark.parametrize("spent", [{"quotas": quota(0.1, bucket=OWN)}, {"breaker": Breaker(3, at=at(-1))}, {"tier": 9}])
def test_whoever_has_the_model_itself_comes_first_however_little_it_is_wanted(spent: dict[str, object]) -> None:
    poor, rich = seat("poor", **spent), seat("rich")
    decision = decided(poor, rich, rich=(Serving(GEMINI, step=1),))
    assert told(decision) == [("poor", "claude", 0), ("rich", "gemini", 1)]


def test_the_chain_is_gone_down_step_by_step() -> None:
    ways = {"a": (Serving(GEMINI, step=2),), "b": (Serving(CLAUDE, step=1),)}
    assert told(decided(seat("a"), seat("b"), **ways)) == [("b", "claude", 1), ("a", "gemini", 2)]


def test_an_account_that_failed_for_one_model_may_serve_another() -> None:
    a = AccountId("a")
    assert told(decided(seat("a"), tried=frozenset({Tried(a, CLAUDE.model)}))) == [("a", "gemini", 1)]
    both = frozenset({Tried(a, CLAUDE.model), Tried(a, GEMINI.model)})
    decision = decided(seat("a"), tried=both)
    assert (decision.candidates, [each.reason for each in decision.refused]) == ((), [Reason.TRIED])


@pytest.mark.parametrize(
    ("ends", "hold"),
    [(PATIENCE_SECONDS - 1, True), (PATIENCE_SECONDS, True), (PATIENCE_SECONDS + 1, False), (3600, False)],
)
def test_a_reset_that_is_near_is_worth_holding_for(ends: float, hold: bool) -> None:
    decision = decided(seat("a", closed=closed(ends, bucket=OWN)), seat("b", closed=closed(7200, bucket=OWN)))
    assert decision.hold == (at(ends) if hold else None)
    assert decision.candidates, "and where nobody has the time, somebody serves"


def test_nobody_holds_for_a_reset_while_the_model_itself_is_served() -> None:
    assert decided(seat("a", closed=closed(5, bucket=OWN)), seat("b")).hold is None


def test_nobody_holds_for_a_stand_in() -> None:
    limited = closed(3600, bucket=OWN) | closed(5, bucket=OTHER)
    decision = decided(seat("a", closed=limited), seat("b", closed=closed(3600, bucket=OWN)))
    assert (told(decision), decision.hold) == ([("b", "gemini", 1)], None)


def test_nor_where_another_stand_in_opens_soon() -> None:
    seats = seat("a", closed=closed(3600, bucket=OWN)), seat("b", closed=closed(5, bucket=OTHER)), seat("c")
    ways = {"a": (Serving(CLAUDE),), "b": (Serving(GEMINI, step=1),), "c": (Serving(CLAUDE, step=2),)}
    decision = decided(*seats, **ways)
    assert (told(decision), decision.hold) == ([("c", "claude", 2)], None)


def test_of_several_resets_that_are_near_the_first_is_held_for() -> None:
    seats = seat("a", closed=closed(9, bucket=OWN)), seat("b", closed=closed(4, bucket=OWN))
    assert decided(*seats).hold == at(4)


def test_with_nobody_left_the_first_of_all_resets_counts() -> None:
    decision = decided(seat("a", closed=closed(3600, bucket=OWN) | closed(60, bucket=OTHER)))
    assert (decision.candidates, decision.retry_at) == ((), at(60))
    assert [(each.reason, each.until) for each in decision.refused] == [(Reason.LIMITED, at(3600))]


def test_a_request_that_is_too_large_is_told_so_and_does_not_change_its_family() -> None:
    decision = decided(seat("a"), seat("b"), tokens=5000, b=(Serving(GEMINI, step=1),))
    assert decision.candidates == ()
    assert {(each.account, each.reason) for each in decision.refused} == {
        ("a", Reason.TOO_SMALL),
        ("b", Reason.TOO_SMALL),
    }


def test_but_it_does_where_one_with_room_has_run_out() -> None:
    large = Offer(ModelId("claude"), (OWN,), context_window=9000)
    seats = seat("a"), seat("b", closed=closed(3600, bucket=OWN)), seat("c")
    ways = {"a": (Serving(CLAUDE),), "b": (Serving(large),), "c": (Serving(GEMINI, step=1),)}
    assert told(decided(*seats, tokens=5000, **ways)) == [("c", "gemini", 1)]


def test_every_account_appears_once() -> None:
    seats = [seat("a"), seat("b", closed=closed(9, bucket=OWN)), seat("c", enabled=False), seat("d", invalid="no")]
    decision = decided(*seats)
    named = [each.account for each in (*decision.candidates, *decision.refused)]
    assert sorted(named) == ["a", "b", "c", "d"]
