"""What every `StateStore` must do. A store's own test subclasses this and says how to open one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.model import AccountId
from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, StateStore, Tallied, Tripped, Used
from mcp_proxy.core.ids import Conversation, ModelId
from mcp_proxy.core.quota import Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant

NOW = Instant(1_800_000_000.0)
WEEK = Bucket("7d")
MINUTE = Bucket("rpm", Kind.RATE)


def quota(left: float | None, read_at: float, *, resets: float | None = 600, bucket: Bucket = WEEK) -> QuotaRead:
    """A reading; times are seconds from NOW."""
    until = None if resets is None else Instant(NOW + resets)
    return QuotaRead(AccountId("a"), Quota(bucket, left, until, Instant(NOW + read_at)))


def limited(until: float, read_at: float, *, why: str = "full", strikes: int = 0) -> Limited:
    return Limited(AccountId("a"), RateLimit(MINUTE, Instant(NOW + until), why, Instant(NOW + read_at)), strikes)


def served(session: str, at: float, *, account: str = "a", warm: float = 300) -> Served:
    where = Conversation(session, "", ModelId("m"))
    return Served(where, AccountId(account), Instant(NOW + at), Instant(NOW + at + warm))


def tripped(until: float, at: float, *, subject: str = "account a", trips: int = 1) -> Tripped:
    return Tripped(subject, Breaker(5, trips, Instant(NOW + until), Instant(NOW + at), 529, "overloaded"))


def tallied(tokens: int, slot: float = 0, *, writer: str = "w", account: str = "a") -> Tallied:
    return Tallied(AccountId(account), Instant(NOW + slot), writer, tokens)


seconds = st.integers(-300, 300).map(float)
names = st.sampled_from(["a", "b", "ü\x00x"])
buckets = st.builds(Bucket, st.sampled_from(["5h", "7d"]), st.sampled_from(Kind))
moments = seconds.map(lambda offset: Instant(NOW + offset))
changes = st.one_of(
    st.builds(
        QuotaRead,
        names.map(AccountId),
        st.builds(Quota, buckets, st.none() | st.sampled_from([0.0, 0.5, 1.0]), st.none() | moments, moments),
    ),
    st.builds(
        Limited,
        names.map(AccountId),
        st.builds(RateLimit, buckets, moments, st.sampled_from(["", "full"]), moments),
        st.integers(0, 2),
    ),
    st.builds(
        Served, st.builds(Conversation, names, names, names.map(ModelId)), names.map(AccountId), moments, moments
    ),
    st.builds(Used, names.map(AccountId), moments),
    st.builds(
        Tripped,
        names,
        st.builds(
            Breaker, st.integers(0, 6), st.integers(0, 2), moments, moments, st.sampled_from([502, 529]), st.just("x")
        ),
    ),
    st.builds(Tallied, names.map(AccountId), moments, names, st.integers(0, 3)),
)


def known(store: StateStore, now: float = 0) -> set[Change]:
    return set(store.load(Instant(NOW + now)))


class StateContract:
    @pytest.fixture
    def new(self) -> Callable[[], StateStore]:
        """How to get a new, empty store."""
        raise NotImplementedError

    def test_a_new_store_knows_nothing(self, new: Callable[[], StateStore]) -> None:
        assert list(new().load(NOW)) == []

    def test_what_was_saved_is_loaded_field_by_field(self, new: Callable[[], StateStore]) -> None:
        store = new()
        everything: set[Change] = {
            quota(0.25, -5),
            quota(None, -4, resets=None, bucket=MINUTE),
            limited(60, -3, strikes=2),
            served("s", -2),
            tripped(9, -1),
            tallied(2**40, -300),
        }
        store.save(list(everything))
        assert known(store) == everything

    def test_the_later_reading_holds_whichever_came_first(self, new: Callable[[], StateStore]) -> None:
        later: list[tuple[Change, Change]] = [
            (quota(0.9, -20), quota(0.1, -10)),
            (limited(500, -20), limited(-1, -10)),
            (served("s", -20, account="a"), served("s", -10, account="b")),
            (tripped(500, -20, trips=9), tripped(-1, -10, trips=0)),
            (tallied(7), tallied(8)),
        ]
        for old, young in later:
            for arrival in ([old, young], [young, old], [young, old, young, old]):
                store = new()
                store.save(arrival)
                assert known(store) == {young}

    def test_buckets_of_one_name_and_different_kind_are_two(self, new: Callable[[], StateStore]) -> None:
        store = new()
        both: set[Change] = {quota(0.1, -5), quota(0.9, -5, bucket=Bucket("7d", Kind.RATE))}
        store.save(list(both))
        assert known(store) == both

    def test_any_order_and_twice_gives_the_same(self, new: Callable[[], StateStore]) -> None:
        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(changes, max_size=8), st.randoms(use_true_random=False), st.integers(0, 8))
        def check(said: list[Change], chance: object, cut: int) -> None:
            shuffled = said + said[:cut]
            chance.shuffle(shuffled)  # type: ignore[attr-defined]
            whole, pieces = new(), new()
            whole.save(said)
            pieces.save(shuffled[:cut])
            known(pieces)
            pieces.save(shuffled[cut:])
            assert list(map(repr, sorted(whole.load(NOW), key=repr))) == sorted(map(repr, pieces.load(NOW)))
            whole.close()
            pieces.close()

        check()

    def test_what_is_over_is_forgotten(self, new: Callable[[], StateStore]) -> None:
        store = new()
        store.save(
            [quota(0.5, 0, resets=60), limited(60, 0), served("s", 0), quota(0.5, 0, resets=None, bucket=MINUTE)]
        )
        assert len(known(store, now=30)) == 4
        assert known(store, now=2 * 86_400) == {quota(0.5, 0, resets=None, bucket=MINUTE)}
        assert known(store, now=60 * 86_400) == set()
        assert known(store) == set(), "what was forgotten does not come back with the clock"

    def test_when_an_account_was_last_used_outlives_its_conversations(self, new: Callable[[], StateStore]) -> None:
        store = new()
        late, early = Used(AccountId("a"), Instant(NOW)), Used(AccountId("a"), Instant(NOW - 60))
        store.save([served("s", 0), late, early])
        assert known(store, now=300 * 86_400) == {late}
        assert known(store, now=500 * 86_400) == set()

    def test_a_breaker_is_remembered_for_an_hour_and_counts_for_as_long_as_any_window(
        self, new: Callable[[], StateStore]
    ) -> None:
        store = new()
        store.save([tripped(120, 0), tallied(5)])
        assert known(store, now=3700) == {tripped(120, 0), tallied(5)}
        assert known(store, now=34 * 86_400) == {tallied(5)}
        assert known(store, now=36 * 86_400) == set()

    def test_what_several_processes_count_stays_apart(self, new: Callable[[], StateStore]) -> None:
        store = new()
        both: set[Change] = {tallied(5, writer="one"), tallied(7, writer="two"), tallied(9, 300, writer="one")}
        store.save([*both, tallied(3, writer="one")])
        assert known(store) == both

    def test_a_lift_outlives_the_closing_that_arrives_late(self, new: Callable[[], StateStore]) -> None:
        store = new()
        store.save([limited(-10, -10)])
        assert known(store, now=60) == {limited(-10, -10)}
        store.save([limited(900, -300)])
        assert known(store, now=60) == {limited(-10, -10)}

    def test_a_reading_of_a_clock_far_ahead_does_not_hold_for_ever(self, new: Callable[[], StateStore]) -> None:
        store = new()
        store.save([quota(0.0, 86_400, resets=2 * 86_400), limited(2 * 86_400, 86_400), served("s", 86_400)])
        assert known(store) == set()
        store.save([quota(0.7, -1)])
        assert known(store) == {quota(0.7, -1)}

    def test_conversations_come_least_recently_served_first(self, new: Callable[[], StateStore]) -> None:
        store = new()
        for order in permutations((served("x", -30), served("y", -20), served("z", -10))):
            store.save(list(order))
        assert [change.conversation.session for change in of_conversations(store)] == ["x", "y", "z"]

    def test_ten_thousand_conversations_are_kept_the_newest(self, new: Callable[[], StateStore]) -> None:
        store = new()
        everyone = [served(f"s{number:05}", at=number / 100) for number in range(10_050)]
        store.save(everyone[::-1])
        store.save(everyone[:50])
        left = of_conversations(store)
        assert len(left) == 10_000
        assert left[0].conversation.session == "s00050" and left[-1].conversation.session == "s10049"

    def test_text_of_any_kind_can_be_kept(self, new: Callable[[], StateStore]) -> None:
        store = new()
        store.save([served("\ud800 lone", -1), served("'; DROP TABLE served; --", -2), limited(60, -1, why="é\x00\n")])
        assert len(known(store)) == 3

    def test_it_may_be_used_from_any_thread(self, new: Callable[[], StateStore]) -> None:
        store = new()
        troubles: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(20):
                    store.save([served(f"{number}-{step}", at=step)])
                    store.load(NOW)
            except BaseException as trouble:
                troubles.append(trouble)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not troubles and len(known(store)) == 80

    def test_saving_nothing_and_closing_twice_are_no_trouble(self, new: Callable[[], StateStore]) -> None:
        store = new()
        store.save([])
        store.close()
        store.close()


def of_conversations(store: StateStore) -> Sequence[Served]:
    return [change for change in store.load(NOW) if isinstance(change, Served)]
