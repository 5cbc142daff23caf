"""The one place that changes seats: what is learnt commutes, and nothing is lost when accounts change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcp_proxy.core.breaker import SOUND, Breaker
from mcp_proxy.core.change import Change, Limited, QuotaRead, Served
from mcp_proxy.core.ids import AccountId, Conversation, ModelId
from mcp_proxy.core.quota import ACCOUNT, Quota, RateLimit
from mcp_proxy.gateway.pool import MAX_CONVERSATIONS, Pool
from mcp_proxy.routing.budget import budget
from mcp_proxy.routing.react import Lesson
from mcp_proxy.state.memory import MemoryStore
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MODEL, NOW, WEEK, at, closed, quota, seat

A, B = AccountId("a"), AccountId("b")


def pool(*names: str) -> Pool:
    made = Pool()
    made.replace_all(seat(name) for name in names or ("a", "b"))
    return made


def read(left: float | None, when: float, account: AccountId = A) -> QuotaRead:
    return QuotaRead(account, Quota(FIVE_HOURS, left, at(600), at(when)))


def limited(until: float, when: float, why: str = "busy", strikes: int = 0) -> Limited:
    return Limited(A, RateLimit(ACCOUNT, at(until), why, at(when)), strikes)


def served(session: str, when: float, account: AccountId = A, warm: float = 300) -> Served:
    return Served(Conversation(session, "", MODEL), account, at(when), at(when + warm))


times = st.integers(0, 2).map(float)
accounts = st.sampled_from([A, B, AccountId("gone")])
moments = times.map(at)
quotas = st.builds(
    Quota, st.sampled_from([FIVE_HOURS, WEEK]), st.none() | st.sampled_from([0.0, 0.5]), st.none() | moments, moments
)
limits = st.builds(RateLimit, st.sampled_from([ACCOUNT, WEEK]), moments, st.sampled_from(["x", "y"]), moments)
conversations = st.builds(Conversation, st.sampled_from("st"), st.just(""), st.just(MODEL))
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(QuotaRead, accounts, quotas),
    st.builds(Limited, accounts, limits, st.integers(0, 2)),
    st.builds(Served, conversations, accounts, moments, moments),
)


def known(of: Pool) -> tuple[object, ...]:
    return (*of.seats, *(dict(of.warm(session, "", [MODEL], at(-100))) for session in "st"))


@given(st.lists(changes, max_size=8), st.randoms(use_true_random=False))
def test_changes_may_come_in_any_order_and_twice(learnt: list[Change], rng: object) -> None:
    straight, mixed = pool(), pool()
    straight.apply(learnt)
    again = learnt * 2
    rng.shuffle(again)  # type: ignore[attr-defined]
    for change in again:
        mixed.apply([change])
    assert known(mixed) == known(straight)


@given(st.lists(changes, max_size=8))
def test_a_restart_brings_back_what_was_known(learnt: list[Change]) -> None:
    store, before, after = MemoryStore(), pool(), pool()
    before.apply(learnt)
    store.save(learnt)
    after.restore(store.load(NOW))
    for now, then in zip(after.seats, before.seats, strict=True):
        assert (now.quotas, now.closed) == (then.quotas, then.closed)


def test_only_news_is_recorded() -> None:
    recorded: list[Change] = []
    learning = Pool(recorded.append)
    learning.replace_all([seat("a")])
    learning.apply([read(0.5, 0), read(0.5, 0), read(0.9, -1), limited(9, 0), limited(9, 0), served("s", 0)])
    learning.apply([read(0.4, 1), served("s", -1), read(0.1, 5, account=B)])
    assert recorded == [read(0.5, 0), limited(9, 0), served("s", 0), read(0.4, 1)]


def test_what_is_restored_is_not_recorded_again() -> None:
    recorded: list[Change] = []
    learning = Pool(recorded.append)
    learning.replace_all([seat("a")])
    learning.restore([read(0.5, 0), served("s", 0)])
    assert recorded == []
    assert learning.seats[0].quotas[FIVE_HOURS].left == 0.5


def test_a_later_reading_lifts_a_limit_early() -> None:
    learning = pool()
    learning.apply([limited(900, 0), limited(1, 1), limited(800, 0)])
    assert learning.seats[0].closed[ACCOUNT].limit.until == at(1)


def test_a_conversation_is_warm_where_it_was_served_last_and_for_as_long_as_it_lasts() -> None:
    learning = pool()
    learning.apply([served("s", 0, A), served("s", 5, B), served("s", 2, A)])
    assert learning.warm("s", "", [MODEL, ModelId("other")], at(6)) == {MODEL: "b"}
    assert learning.warm("s", "agent", [MODEL], at(6)) == {}
    assert learning.warm("s", "", [MODEL], at(304)) == {MODEL: "b"}
    assert learning.warm("s", "", [MODEL], at(305)) == {}


def test_the_least_recently_served_conversation_is_forgotten_first() -> None:
    learning = pool()
    learning.apply(served(f"s{number}", number / 1000, warm=900) for number in range(MAX_CONVERSATIONS))
    learning.apply([served("s0", 20, warm=900), served("new", 21, warm=900)])
    assert learning.warm("s0", "", [MODEL], NOW) and learning.warm("new", "", [MODEL], NOW)
    assert not learning.warm("s1", "", [MODEL], NOW)
    assert learning.warm("s2", "", [MODEL], NOW)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.booleans()), max_size=20))
def test_what_is_in_flight_is_never_negative(steps: list[tuple[AccountId, bool]]) -> None:
    learning = pool("a")
    for account, begin in steps:
        (learning.begin if begin else learning.end)(account)
        assert all(each.in_flight >= 0 for each in learning.seats)


def test_in_flight_counts_up_and_down() -> None:
    learning = pool()
    learning.begin(A)
    learning.begin(A)
    learning.end(A)
    assert [each.in_flight for each in learning.seats] == [1, 0]


def test_another_set_of_accounts_keeps_what_is_known_of_those_that_stay() -> None:
    learning = pool("a", "b")
    learning.apply([read(0.5, 0), limited(60, 0), served("s", 0)])
    learning.begin(A)
    learning.learn(A, Lesson(stumbled=True), NOW)
    before = learning.seats[0]
    learning.replace_all([seat("c"), seat("a", tier=7)])
    assert [each.id for each in learning.seats] == ["c", "a"]
    assert learning.seats[1] == replace(before, tier=7)
    assert learning.seat(B) is None


def test_an_account_that_left_and_came_back_starts_anew() -> None:
    learning = pool("a")
    learning.begin(A)
    learning.replace_all([])
    learning.replace_all([seat("a")])
    learning.end(A)  # of the request that began before
    assert learning.seats == (seat("a"),)


def test_a_new_credential_clears_the_mark_and_a_refusal_sets_it() -> None:
    learning = pool("a")
    learning.mark_invalid(A, "revoked")
    assert learning.seats[0].account.invalid == "revoked"
    learning.replace_all([seat("a")])
    assert learning.seats[0].account.invalid is None


def test_who_stumbled_is_trusted_again_once_it_answers() -> None:
    learning = pool("a")
    learning.learn(A, Lesson(stumbled=True, why="down"), at(3))
    assert learning.seats[0].breaker == Breaker(1, 0, at(-NOW), at(3), 502, "down")
    learning.learn(A, Lesson(stumbled=None), at(4))
    assert learning.seats[0].breaker.failures == 1, "a request at fault says nothing"
    learning.learn(A, Lesson(stumbled=False, whole=False), at(5))
    assert learning.seats[0].breaker.failures == 1, "nor does an answer that has only begun"
    learning.learn(A, Lesson(stumbled=False), at(6))
    assert learning.seats[0].breaker is SOUND


def test_nothing_is_learnt_of_an_account_that_is_gone() -> None:
    learning = pool("a")
    learning.learn(B, Lesson((read(0.5, 0, B), served("s", 0, B)), invalid="x", stumbled=True), NOW)
    learning.mark_invalid(B, "x")
    learning.begin(B)
    assert learning.seats == (seat("a"),)
    assert learning.warm("s", "", [MODEL], NOW) == {}


def test_the_version_grows_with_the_accounts_alone() -> None:
    learning = pool()
    version = learning.version
    learning.apply([read(0.5, 0)])
    learning.begin(A)
    assert learning.version == version
    learning.replace_all(learning.seats)
    assert learning.version == version + 1


def test_a_seat_in_hand_does_not_change() -> None:
    learning = pool("a")
    before = learning.seats
    learning.apply([read(0.1, 0), limited(60, 0)])
    assert before == (seat("a"),)
    assert learning.seats == (
        seat("a", quotas=quota(0.1, read=0), closed=closed(60, read=0)),
    )  # fmt: skip


def test_a_budget_that_is_set_no_more_leaves_nothing_behind_and_counts_on_once_it_is_back() -> None:
    week = budget("7d", 7 * 86_400.0, 100, shared=False)
    of = Pool()
    of.replace_all([replace(seat("a"), budgets=(week,))])
    of.apply([read(0.5, -1)])
    of.spend(A, 100, NOW)
    assert of.seats[0].quotas[week.bucket].left == 0.0 and week.bucket in of.seats[0].closed
    of.replace_all([seat("a")])
    assert set(of.seats[0].quotas) == {FIVE_HOURS} and not of.seats[0].closed
    of.replace_all([replace(seat("a"), budgets=(week,))])
    of.read_budgets(NOW)
    assert of.seats[0].quotas[week.bucket].left == 0.0 and week.bucket in of.seats[0].closed
