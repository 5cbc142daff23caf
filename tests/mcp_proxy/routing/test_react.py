"""What an outcome teaches, and how far it reaches."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mcp_proxy.core.change import Limited, QuotaRead, Served, Used
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import AccountId, Conversation
from mcp_proxy.core.quota import ACCOUNT, BILLING, Bucket, absence, model_bucket
from mcp_proxy.core.time import Instant, after
from mcp_proxy.routing.facts import Seat
from mcp_proxy.routing.react import (
    BACKOFF_SECONDS,
    LONGEST_LIMIT_SECONDS,
    LONGEST_RATE_SECONDS,
    WARM_HOUR_SECONDS,
    WARM_SECONDS,
    Lesson,
    moves_on,
    on_answer,
    on_failure,
    on_quotas,
)
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MINUTE, MODEL, NOW, OFFER, WEEK, at, closed, facts, quota, seat

PLAIN = seat("a")


def refusal(limit: Bucket | None, until: float | None = None, blame: Blame = Blame.ACCOUNT) -> Failure:
    return Failure(blame, 429, "rate_limit_error", "too much", limit, None if until is None else at(until))


def closing(failure: Failure, held: Seat = PLAIN, now: Instant = NOW) -> Limited:
    lesson = on_failure(failure, held, now)
    assert (lesson.invalid, lesson.stumbled, len(lesson.changes)) == (None, False, 1)
    (change,) = lesson.changes
    assert isinstance(change, Limited)
    return change


@pytest.mark.parametrize("blame", [Blame.ACCOUNT, Blame.MODEL, Blame.PROVIDER, Blame.TOKEN])
@pytest.mark.parametrize("bucket", [ACCOUNT, FIVE_HOURS, MINUTE, model_bucket(MODEL), absence(MODEL)])
def test_a_limit_closes_the_one_bucket_the_upstream_named_and_no_other(blame: Blame, bucket: Bucket) -> None:
    change = closing(refusal(bucket, 30, blame))
    assert (change.account, change.limit.bucket, change.limit.until, change.strikes) == ("a", bucket, at(30), 0)
    assert (change.limit.why, change.limit.read_at) == ("too much", NOW)


WITHOUT_LIMIT: list[tuple[Blame, Lesson]] = [
    (Blame.REQUEST, Lesson()),
    (Blame.CONFIG, Lesson(stumbled=True, status=429, why="too much")),
    (Blame.MODEL, Lesson()),
    (Blame.PROVIDER, Lesson(stumbled=True, status=429, why="HTTP 429")),
    (Blame.NETWORK, Lesson(stumbled=True, sick=True, status=429, why="too much")),
    (Blame.ACCOUNT, Lesson(invalid="too much", stumbled=False, sick=False)),
    (Blame.TOKEN, Lesson(invalid="too much", stumbled=False, sick=False)),
]


@pytest.mark.parametrize(("blame", "lesson"), WITHOUT_LIMIT, ids=[blame for blame, _ in WITHOUT_LIMIT])
def test_what_a_failure_without_a_limit_teaches(blame: Blame, lesson: Lesson) -> None:
    assert on_failure(refusal(None, blame=blame), PLAIN, NOW) == lesson


@pytest.mark.parametrize(
    ("blame", "status", "stumbled", "sick"),
    [
        (Blame.PROVIDER, 500, True, True),
        (Blame.PROVIDER, 502, True, True),
        (Blame.PROVIDER, 504, True, True),
        (Blame.PROVIDER, 503, True, None),
        (Blame.PROVIDER, 529, True, None),
        (Blame.PROVIDER, 429, True, None),
        (Blame.NETWORK, 502, True, True),
        (Blame.NETWORK, 504, True, True),
        (Blame.NETWORK, 529, None, None),
        (Blame.CONFIG, 502, True, None),
        (Blame.MODEL, 404, None, None),
        (Blame.REQUEST, 400, None, None),
    ],
)
def test_what_a_failure_says_of_the_address_for_all_its_accounts(
    blame: Blame, status: int, stumbled: bool | None, sick: bool | None
) -> None:
    lesson = on_failure(Failure(blame, status, "api_error", "x"), PLAIN, NOW)
    assert (lesson.stumbled, lesson.sick) == (stumbled, sick)


@pytest.mark.parametrize(
    ("bucket", "said", "until"),
    [
        (ACCOUNT, 0.5, 0.5),
        (MINUTE, 1e9, LONGEST_RATE_SECONDS),
        (model_bucket(MODEL), 1e9, LONGEST_RATE_SECONDS),
        (ACCOUNT, 1e9, LONGEST_LIMIT_SECONDS),
        (FIVE_HOURS, 1e9, LONGEST_LIMIT_SECONDS),
        (FIVE_HOURS, float("inf"), LONGEST_LIMIT_SECONDS),
        (absence(MODEL), 1e9, LONGEST_LIMIT_SECONDS),
    ],
)
def test_when_to_come_back_is_believed_within_reason(bucket: Bucket, said: float, until: float) -> None:
    assert closing(refusal(bucket, said)).limit.until == at(until)


@pytest.mark.parametrize("said", [None, 0, -1, -1e9])
def test_an_upstream_that_names_no_moment_to_come_is_left_alone_for_a_while(said: float | None) -> None:
    change = closing(refusal(ACCOUNT, said))
    assert (change.limit.until, change.strikes) == (at(BACKOFF_SECONDS[0]), 1)


def test_the_pause_grows_with_each_refusal_in_a_row() -> None:
    held, now, pauses = PLAIN, NOW, []
    for _ in range(7):
        change = closing(refusal(ACCOUNT), held, now)
        pauses.append(change.limit.until - now)
        held = _with(held, change)
        now = change.limit.until
    assert pauses == [5, 15, 60, 300, 900, 900, 900]


def test_refusals_of_one_crowd_are_one_strike() -> None:
    held = PLAIN
    for tenth in range(10):  # all were asked before the first refusal closed the account
        change = closing(refusal(ACCOUNT), held, at(tenth / 10))
        held = _with(held, change)
        assert (change.strikes, change.limit.until) == (1, at(tenth / 10 + BACKOFF_SECONDS[0]))


def test_our_guess_never_shortens_what_an_upstream_said() -> None:
    held = seat("a", closed=closed(900, bucket=ACCOUNT))
    assert closing(refusal(ACCOUNT), held).limit.until == at(900)


def test_what_an_upstream_says_replaces_our_guess() -> None:
    held = seat("a", closed=closed(900, bucket=ACCOUNT, strikes=5))
    change = closing(refusal(ACCOUNT, 20), held)
    assert (change.limit.until, change.strikes) == (at(20), 0)


def test_an_upstream_whose_short_moments_are_wrong_is_asked_less_and_less() -> None:
    held, now, pauses = PLAIN, NOW, []
    for _ in range(9):
        change = closing(_soon(now, 0.5), held, now)
        pauses.append(change.limit.until - now)
        held, now = _with(held, change), change.limit.until
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    answered = msgspec.structs.replace(held, last_used=now)
    for seat_then, later in ((answered, now), (held, after(now, 11))):
        assert closing(_soon(later, 0.5), seat_then, later).limit.until == after(later, 0.5)
    assert closing(_soon(now, 900), held, now).limit.until == after(now, 900)


def _soon(now: Instant, seconds: float) -> Failure:
    return Failure(Blame.ACCOUNT, 429, "rate_limit_error", "too much", ACCOUNT, after(now, seconds))


def test_strikes_on_one_bucket_say_nothing_of_another() -> None:
    held = seat("a", closed=closed(-1, bucket=MINUTE, strikes=4))
    assert closing(refusal(ACCOUNT), held).strikes == 1


@pytest.mark.parametrize(("hour_cache", "seconds"), [(False, WARM_SECONDS), (True, WARM_HOUR_SECONDS)])
def test_an_answer_leaves_the_conversation_warm_where_it_was_served(hour_cache: bool, seconds: float) -> None:
    asked = facts(PLAIN, session="s", agent="sub", hour_cache=hour_cache)
    lesson = on_answer(asked, PLAIN, OFFER, at(-2), NOW)
    assert lesson.changes == (
        Used(AccountId("a"), NOW),
        Served(Conversation("s", "sub", MODEL), AccountId("a"), NOW, at(seconds)),
    )
    assert (lesson.stumbled, lesson.invalid) == (False, None)
    assert (WARM_SECONDS, WARM_HOUR_SECONDS) == (300, 3600)


OPENED: list[tuple[str, dict[Any, Any], list[Bucket]]] = [
    ("a guess from before", closed(60, strikes=1, read=-20), [ACCOUNT]),
    ("a guess that is over, so that the next one starts small", closed(-5, strikes=3, read=-20), [ACCOUNT]),
    ("what the upstream said", closed(60, strikes=0, read=-20), []),
    ("a guess read since the attempt began", closed(60, strikes=1, read=-5), []),
    ("a guess of that very moment", closed(60, strikes=1, read=-10), []),
    ("another bucket", closed(60, strikes=1, read=-20, bucket=Bucket("other")), []),
    (
        "each for itself",
        closed(60, strikes=1, read=-20, bucket=WEEK) | closed(60, strikes=1, read=-5, bucket=MINUTE),
        [WEEK],
    ),
]


@pytest.mark.parametrize(("about", "limits", "opened"), OPENED, ids=[row[0] for row in OPENED])
def test_an_answer_opens_guessed_limits_older_than_the_attempt(
    about: str, limits: dict[Any, Any], opened: list[Bucket]
) -> None:
    held = seat("a", closed=limits)
    *changes, used, served = on_answer(facts(held), held, OFFER, at(-10), NOW).changes
    assert isinstance(used, Used) and isinstance(served, Served)
    assert [change.limit.bucket for change in changes if isinstance(change, Limited)] == opened
    for change in changes:
        assert isinstance(change, Limited)
        assert change.strikes == 0 and change.limit.until <= NOW and change.limit.read_at == at(-10)


def test_readings_become_changes_one_by_one() -> None:
    read = [*quota(0.5).values(), *quota(0.1, bucket=WEEK).values()]
    assert on_quotas(AccountId("a"), read) == tuple(QuotaRead(AccountId("a"), each) for each in read)


def _with(held: Seat, change: Limited) -> Seat:
    return seat(
        held.id, closed=closed(change.limit.until - NOW, strikes=change.strikes, read=change.limit.read_at - NOW)
    )


MOVES: list[tuple[str, Failure, set[int], bool]] = [
    # what it is · the failure · the statuses after which the next is tried · whether it is
    ("an overload that is listed", Failure(Blame.PROVIDER, 529, "t", "m"), {529}, True),
    ("one that is not", Failure(Blame.PROVIDER, 529, "t", "m"), {502}, False),
    ("a fault of the upstream's", Failure(Blame.PROVIDER, 500, "t", "m"), {502}, False),
    ("a rate that is listed", Failure(Blame.ACCOUNT, 429, "t", "m", MINUTE), {429}, True),
    ("a rate that is not", Failure(Blame.ACCOUNT, 429, "t", "m", MINUTE), {529}, False),
    ("a quota", Failure(Blame.ACCOUNT, 429, "t", "m", FIVE_HOURS), set(), True),
    ("a whole account", Failure(Blame.ACCOUNT, 429, "t", "m", ACCOUNT), set(), True),
    ("an empty purse", Failure(Blame.ACCOUNT, 402, "t", "m", BILLING), set(), True),
    ("a refused credential", Failure(Blame.ACCOUNT, 401, "t", "m"), set(), True),
    ("a token", Failure(Blame.TOKEN, 401, "t", "m"), set(), True),
    ("a model that is not there", Failure(Blame.MODEL, 404, "t", "m", absence(MODEL)), set(), True),
    ("trouble on the way", Failure(Blame.NETWORK, 502, "t", "m"), set(), True),
    ("a wrong address", Failure(Blame.CONFIG, 502, "t", "m"), set(), True),
    ("the client's mistake", Failure(Blame.REQUEST, 400, "t", "m"), set(), False),
    ("which another may take", Failure(Blame.REQUEST, 400, "t", "m"), {400}, True),
    ("what was not booked", Failure(Blame.REQUEST, 429, "t", "m"), {429}, False),
]


@pytest.mark.parametrize(("what", "failure", "listed", "moves"), MOVES, ids=[row[0] for row in MOVES])
def test_which_failures_end_it(what: str, failure: Failure, listed: set[int], moves: bool) -> None:
    assert moves_on(failure, listed) is moves


def test_a_callers_own_login_is_its_own_to_renew_whatever_the_operators_list_says() -> None:
    listed = {400, 401, 429}
    for status, on in ((400, True), (401, False), (429, False), (403, False)):
        assert moves_on(Failure(Blame.REQUEST, status, "x", "no"), listed) is on
