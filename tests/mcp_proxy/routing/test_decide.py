"""Who serves a request, in what order, and why not the others."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.breaker import SOUND
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import ACCOUNT, Bucket, absence, model_bucket
from mcp_proxy.routing.breaker import STUMBLED_SECONDS
from mcp_proxy.routing.decide import lot, put_back
from mcp_proxy.routing.facts import Policy, Reason, Seat, Serving
from tests.mcp_proxy.routing.seats import (
    FIVE_HOURS,
    MINUTE,
    MODEL,
    NOW,
    OFFER,
    WEEK,
    at,
    closed,
    decided,
    facts,
    failing,
    order,
    quota,
    seat,
)

LOW = quota(0.1)


def test_an_empty_pool_decides_nothing() -> None:
    decision = decided()
    assert (decision.candidates, decision.refused, decision.retry_at, decision.first) == ((), (), None, None)


BETTER_AND_WORSE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # what it is about · the better seat · the worse seat · the request. The worse is better in all later fields.
    ("probation before the soft limit", {"quotas": LOW}, {"breaker": failing(1, at(-1))}, {}),
    ("the soft limit before substitutes", {}, {"quotas": LOW}, {"substitutes": ("good",)}),
    ("a substitute after a cold one", {}, {}, {"substitutes": ("bad",), "warm": "bad"}),
    ("warmth before the tier", {"tier": 2}, {"tier": 1}, {"warm": "good"}),
    ("the tier before crowding", {"comfort": 1, "in_flight": 9}, {"tier": 2}, {}),
    ("crowding before the lot", {"comfort": 2, "in_flight": 1}, {"comfort": 2, "in_flight": 2}, {}),
    ("less crowding before more", {"comfort": 1, "in_flight": 1}, {"comfort": 1, "in_flight": 2}, {}),
    ("no opinion on crowding", {"in_flight": 50}, {"comfort": 1, "in_flight": 1}, {}),
]


@pytest.mark.parametrize(("about", "good", "bad", "how"), BETTER_AND_WORSE, ids=[row[0] for row in BETTER_AND_WORSE])
def test_each_preference_outranks_all_that_follow(
    about: str, good: dict[str, Any], bad: dict[str, Any], how: dict[str, Any]
) -> None:
    for session in ("s1", "s2", "s3", "s4", "s5"):  # whatever the lot says
        assert order(seat("bad", **bad), seat("good", **good), session=session, **how) == ["good", "bad"], about


@pytest.mark.parametrize(
    ("quotas", "soft"),
    [
        (quota(0.2001), False),
        (quota(0.2), True),
        (quota(0.0, resets=None), True),
        (quota(None), False),
        ({}, False),
        (quota(0.1, resets=0), False),
        (quota(0.1, resets=-1), False),
        (quota(0.1, resets=None), True),
        (quota(0.9) | quota(0.2, bucket=WEEK), True),
        (quota(0.05, bucket=MINUTE), False),
        (quota(0.05, bucket=Bucket("another model's")), False),
    ],
    ids=[
        "just above",
        "exactly at it",
        "empty without a reset",
        "a reading that says nothing",
        "never read",
        "reset this moment",
        "reset a second ago",
        "low without a reset",
        "the lowest of two windows counts",
        "a rate is never low",
        "a window it does not draw on",
    ],
)
def test_an_allowance_at_or_under_the_soft_limit_is_kept_for_last(quotas: dict[Any, Any], soft: bool) -> None:
    candidate = decided(seat("a", quotas=quotas), policy=Policy(soft_limit=0.2)).first
    assert candidate is not None and candidate.rank.soft_limited is soft


def test_without_a_soft_limit_nothing_is_low() -> None:
    candidate = decided(seat("a", quotas=quota(0.001)), policy=Policy(soft_limit=None)).first
    assert candidate is not None and candidate.rank.soft_limited is False


def test_the_second_tier_serves_before_the_end_of_the_first_is_spent() -> None:
    first, second = seat("first", tier=1, quotas=LOW), seat("second", tier=2)
    assert order(first, second) == ["second", "first"]
    assert order(first, second, warm="first") == ["second", "first"], "not even a warm cache is worth the end"


def test_a_seat_that_spreads_is_never_warm_and_draws_anew_for_each_request() -> None:
    pool = [seat(name, sticky=False) for name in ("a", "b", "c")]
    firsts = {order(*pool, warm="a", request=f"r{number}")[0] for number in range(40)}
    assert firsts == {"a", "b", "c"}


def test_a_conversation_draws_the_same_seat_whatever_the_request() -> None:
    pool = [seat(name) for name in ("a", "b", "c")]
    assert len({order(*pool, request=f"r{number}")[0] for number in range(20)}) == 1


def test_a_subagent_is_another_conversation() -> None:
    pool = [seat(name) for name in ("a", "b", "c")]
    assert len({order(*pool, agent=f"agent {number}")[0] for number in range(30)}) == 3


def test_a_session_keeps_its_seat_when_another_seat_leaves() -> None:
    pool = [seat(name) for name in "abcdef"]
    for number in range(200):
        first = order(*pool, session=f"session {number}")[0]
        for gone in pool:
            if gone.id != first:
                rest = [each for each in pool if each is not gone]
                assert order(*rest, session=f"session {number}")[0] == first


def test_conversations_spread_evenly() -> None:
    pool = [seat(name) for name in "abcde"]
    firsts = Counter(order(*pool, session=f"session {number}")[0] for number in range(2000))
    assert len(firsts) == 5
    assert all(320 <= count <= 480 for count in firsts.values()), firsts


def test_the_lot_is_the_same_in_another_process() -> None:
    code = "from tests.mcp_proxy.routing.seats import *; from mcp_proxy.routing.decide import lot; "
    code += "print(lot(facts(session='s\\ud800', agent='x'), seat('a')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) == lot(facts(session="s\ud800", agent="x"), seat("a"))


@pytest.mark.parametrize(("ago", "probation"), [(0.0, 1), (STUMBLED_SECONDS - 0.1, 1), (STUMBLED_SECONDS, 0), (9e9, 0)])
def test_a_seat_that_stumbled_is_tried_last_for_a_while(ago: float, probation: int) -> None:
    candidate = decided(seat("a", breaker=failing(1, at(-ago)))).first
    assert candidate is not None and candidate.rank.probation == probation


@pytest.mark.parametrize(
    ("own", "address", "probation"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 0), (0, 2, 0), (1, 1, 1), (0, 3, 2), (1, 3, 3), (3, 3, 4)],
)
def test_an_upstream_puts_its_accounts_back_only_once_it_is_degraded(own: int, address: int, probation: int) -> None:
    held = seat("a", breaker=failing(own, NOW), address=failing(address, NOW))
    assert put_back(held, NOW) == probation


def test_at_one_address_who_has_not_failed_stands_before_who_has() -> None:
    at_address = {"upstream": "zai x", "address": failing(3, at(-1))}
    bad, good = seat("bad", breaker=failing(3, at(-1)), **at_address), seat("good", tier=2, **at_address)
    assert order(bad, good, seat("elsewhere", tier=3)) == ["elsewhere", "good", "bad"]


@pytest.mark.parametrize(
    ("own", "hold"),
    [
        ({"closed": closed(9)}, 9),
        ({"closed": closed(16)}, None),
        ({"breaker": failing(5, at(-1), 9)}, None),
        ({"breaker": failing(5, at(-20), -1), "probing": frozenset({"account"})}, None),
    ],
    ids=["a short limit", "a long one", "an open breaker", "a probe under way"],
)
def test_only_a_limit_that_is_soon_over_holds_fallback_models_back(own: dict[str, Any], hold: float | None) -> None:
    itself, other = seat("itself", **own), seat("other")
    serving = {itself.id: (Serving(OFFER),), other.id: (Serving(OFFER, step=1),)}
    decision = decided(itself, other, serving=serving)
    assert [each.account for each in decision.candidates] == ["other"]
    assert decision.hold == (None if hold is None else at(hold))


REFUSED: list[tuple[str, Seat, Reason, float | None]] = [
    ("switched off", seat("a", enabled=False), Reason.DISABLED, None),
    ("credential refused", seat("a", invalid="revoked"), Reason.INVALID, None),
    ("the account is closed", seat("a", closed=closed(30)), Reason.LIMITED, 30),
    ("the model is closed", seat("a", closed=closed(30, bucket=model_bucket(MODEL))), Reason.LIMITED, 30),
    ("a window is closed", seat("a", closed=closed(30, bucket=WEEK)), Reason.LIMITED, 30),
    ("a rate is closed", seat("a", closed=closed(30, bucket=MINUTE)), Reason.LIMITED, 30),
    ("a window is used up", seat("a", quotas=quota(0.0, resets=90)), Reason.LIMITED, 90),
    ("the longest counts", seat("a", closed=closed(30) | closed(70, bucket=WEEK)), Reason.LIMITED, 70),
    ("the model is not there", seat("a", closed=closed(99, bucket=absence(MODEL))), Reason.NOT_SERVED, None),
    (
        "a model that is not there does not come with a reset",
        seat("a", closed=closed(10, bucket=absence(MODEL)) | closed(70)),
        Reason.NOT_SERVED,
        None,
    ),
    ("its breaker is open", seat("a", breaker=failing(5, at(-1), 7)), Reason.BREAKER, 7),
    ("its upstream's breaker is open", seat("a", address=failing(5, at(-1), 7)), Reason.BREAKER, 7),
    (
        "of both the longer counts",
        seat("a", breaker=failing(5, at(-1), 7), address=failing(5, at(-1), 9)),
        Reason.BREAKER,
        9,
    ),
    (
        "another request is its probe",
        seat("a", breaker=failing(5, at(-9), -1), probing=frozenset({"account"})),
        Reason.PROBING,
        1,
    ),
    (
        "another account's request is its upstream's",
        seat("a", address=failing(5, at(-9), -1), probing=frozenset({"upstream"})),
        Reason.PROBING,
        1,
    ),
    (
        "another request tries a window whose end was guessed",
        seat("a", closed=closed(-1, bucket=WEEK, strikes=1), probing=frozenset({"window 7d"})),
        Reason.PROBING,
        1,
    ),
    ("a limit comes before a breaker", seat("a", closed=closed(30), breaker=failing(5, at(-1), 7)), Reason.LIMITED, 30),
    ("the window is too small", seat("a", offers=[Offer(MODEL, context_window=60)]), Reason.TOO_SMALL, None),
]


@pytest.mark.parametrize(("about", "refused", "reason", "until"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_refusal_says_why_and_until_when(about: str, refused: Seat, reason: Reason, until: float | None) -> None:
    decision = decided(refused)
    assert decision.candidates == ()
    assert [(each.account, each.reason) for each in decision.refused] == [("a", reason)]
    assert decision.refused[0].until == decision.retry_at == (None if until is None else at(until))


@pytest.mark.parametrize(
    "open_seat",
    [
        seat("a", closed=closed(0)),
        seat("a", closed=closed(-1)),
        seat("a", closed=closed(60, bucket=Bucket("another"))),
        seat("a", breaker=failing(5, at(-9), -1)),
        seat("a", breaker=failing(4, at(-9)), probing=frozenset({"account", "window 5h"})),
        seat("a", closed=closed(-1, bucket=WEEK, strikes=1), probing=frozenset({"window 5h"})),
        seat("a", closed=closed(-1, bucket=WEEK), probing=frozenset({"window 7d"})),
        seat("a", quotas=quota(0.0, resets=None)),
        seat("a", quotas=quota(0.0, bucket=MINUTE)),
        seat("a", offers=[Offer(MODEL, context_window=100)]),
    ],
    ids=[
        "over now",
        "long over",
        "not its bucket",
        "half-open",
        "a probe of nothing",
        "another window's probe",
        "its end was told",
        "no reset known",
        "a rate's reading",
        "just large enough",
    ],
)
def test_what_does_not_refuse(open_seat: Seat) -> None:
    assert order(open_seat) == ["a"]


def test_a_name_the_account_does_not_serve() -> None:
    decision = decided(seat("a"), serving={})
    assert [refusal.reason for refusal in decision.refused] == [Reason.NOT_SERVED]


def test_who_was_tried_is_not_asked_again_but_a_reset_is_still_told() -> None:
    decision = decided(seat("a"), seat("b", closed=closed(30)), seat("c"), tried=("a", "b"))
    assert {refusal.account: refusal.reason for refusal in decision.refused} == {
        "a": Reason.TRIED,
        "b": Reason.LIMITED,
    }
    assert decision.first is not None and decision.first.account == "c"
    assert decision.retry_at == at(30)


def test_the_next_chance_is_the_earliest_reset() -> None:
    pool = (seat("a", closed=closed(300)), seat("b", closed=closed(20)), seat("c", enabled=False, closed=closed(5)))
    assert decided(*pool).retry_at == at(20)


def test_reasons_never_hide_behind_each_other() -> None:
    everything = closed(30, bucket=ACCOUNT)
    assert decided(seat("a", enabled=False, invalid="x", closed=everything)).refused[0].reason is Reason.DISABLED
    assert decided(seat("a", invalid="x", closed=everything)).refused[0].reason is Reason.INVALID


seats = st.builds(
    lambda name, how: seat(name, **how),
    st.text("abcdefgh", min_size=1, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "enabled": st.booleans(),
            "invalid": st.none() | st.just("revoked"),
            "tier": st.integers(1, 3),
            "comfort": st.none() | st.integers(0, 2),
            "in_flight": st.integers(0, 4),
            "sticky": st.booleans(),
            "breaker": st.sampled_from([SOUND, failing(1, at(-1)), failing(3, at(-1)), failing(5, at(-1), 30)]),
            "address": st.sampled_from([SOUND, failing(5, at(-9), 20), failing(5, at(-99), -1)]),
            "probing": st.sampled_from([frozenset(), frozenset({"upstream"})]),
            "quotas": st.sampled_from([{}, quota(0.0), quota(0.2), quota(0.5), quota(None), quota(0.1, resets=-1)]),
            "closed": st.sampled_from([{}, closed(30), closed(-30), closed(60, bucket=FIVE_HOURS)]),
        },
    ),
)
pools = st.lists(seats, max_size=6, unique_by=lambda each: each.id)


@given(pools, st.text(max_size=3), st.sets(st.text("abcdefgh", min_size=1, max_size=3)))
def test_every_seat_appears_exactly_once(pool: list[Seat], session: str, tried: set[str]) -> None:
    decision = decided(*pool, session=session, tried=tried)
    named = [each.account for each in (*decision.candidates, *decision.refused)]
    assert sorted(named) == sorted(each.id for each in pool)
    assert not {candidate.account for candidate in decision.candidates} & {AccountId(name) for name in tried}
    untils = [refusal.until for refusal in decision.refused if refusal.until is not None]
    assert decision.retry_at == (min(untils) if untils else None)
    assert all(until > NOW for until in untils)


@given(pools.filter(lambda pool: len(pool) <= 4), st.text(max_size=3))
def test_the_order_of_the_pool_does_not_matter(pool: list[Seat], session: str) -> None:
    orders = {tuple(order(*shuffled, session=session)) for shuffled in permutations(pool)}
    assert len(orders) == 1


@given(pools, st.text(max_size=3))
def test_the_same_facts_decide_the_same(pool: list[Seat], session: str) -> None:
    assert decided(*pool, session=session) == decided(*pool, session=session)


@given(pools, st.text(max_size=3))
def test_candidates_stand_by_their_rank(pool: list[Seat], session: str) -> None:
    ranks = [candidate.rank for candidate in decided(*pool, session=session).candidates]
    assert ranks == sorted(ranks)
