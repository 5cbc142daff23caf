"""A seat's quotas and limits, read at a moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.quota import ACCOUNT, absence
from mcp_proxy.routing.facts import Policy
from mcp_proxy.routing.windows import closed_by, is_soft, kept_of, left, lowest, windows
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MINUTE, MODEL, NOW, OFFER, WEEK, at, closed, quota, seat


@pytest.mark.parametrize(
    ("fraction", "resets", "seen"),
    [(0.4, 10, 0.4), (0.4, None, 0.4), (0.4, 0, None), (0.4, -1, None), (None, 10, None), (0.0, 10, 0.0)],
)
def test_what_is_left_is_unknown_once_the_window_has_started_over(
    fraction: float | None, resets: float | None, seen: float | None
) -> None:
    assert left(quota(fraction, resets=resets)[FIVE_HOURS], NOW) == seen


def test_what_was_never_read_is_unknown() -> None:
    assert left(None, NOW) is None


LIFTS: list[tuple[str, dict[Any, Any], dict[Any, Any], float | None]] = [
    # what it is about · the limit · the reading · closed until (None: open)
    ("no limit, no reading", {}, {}, None),
    ("a limit alone", closed(100, bucket=FIVE_HOURS), {}, 100),
    ("a later reading with plenty lifts it", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.9, read=-5), None),
    ("five per cent is enough", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.05, read=-5), None),
    ("less is a meter that rounds", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.04, read=-5), 100),
    ("an earlier reading says nothing", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.9, read=-20), 100),
    ("one of the same moment neither", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.9, read=-10), 100),
    ("an unknown fraction neither", closed(100, bucket=FIVE_HOURS, read=-10), quota(None, read=-5), 100),
    ("nor a window since over", closed(100, bucket=FIVE_HOURS, read=-10), quota(0.9, read=-5, resets=-1), 100),
    ("nor another window", closed(100, bucket=WEEK, read=-10), quota(0.9, read=-5), 100),
    ("a rate is lifted by no reading", closed(9, bucket=MINUTE), quota(1.0, bucket=MINUTE, read=-1), 9),
    ("the account by none either", closed(9, bucket=ACCOUNT), quota(1.0, bucket=ACCOUNT, read=-1), 9),
    ("an allowance read as empty closes until its reset", {}, quota(0.0, resets=600), 600),
    ("not where no reset is known", {}, quota(0.0, resets=None), None),
    ("not where its reset is past", {}, quota(0.0, resets=-1), None),
    ("a rate read as empty does not close", {}, quota(0.0, bucket=MINUTE, resets=60), None),
    ("a limit that is over leaves the reading", closed(-1, bucket=FIVE_HOURS), quota(0.0, resets=600), 600),
    ("of limit and reading the longer counts", closed(60, bucket=FIVE_HOURS, read=-1), quota(0.0, resets=600), 600),
    ("whichever that is", closed(900, bucket=FIVE_HOURS, read=-10), quota(0.0, resets=600, read=-5), 900),
]


@pytest.mark.parametrize(("about", "limits", "quotas", "until"), LIFTS, ids=[row[0] for row in LIFTS])
def test_when_a_model_is_closed(about: str, limits: Any, quotas: Any, until: float | None) -> None:
    limit = closed_by(seat("a", closed=limits, quotas=quotas), OFFER, NOW)
    assert (limit and limit.until) == (None if until is None else at(until))


def test_a_model_that_is_not_there_is_that_first_however_long_a_limit_lasts() -> None:
    held = seat("a", closed=closed(10, bucket=absence(MODEL)) | closed(1000))
    limit = closed_by(held, OFFER, NOW)
    assert limit is not None and limit.bucket == absence(MODEL)


def test_the_lowest_allowance_is_what_counts() -> None:
    held = seat("a", quotas=quota(0.5) | quota(0.3, bucket=WEEK) | quota(0.1, bucket=MINUTE))
    low = lowest(held, OFFER, NOW)
    assert low is not None and low.bucket == WEEK, "a rate is no allowance"
    assert lowest(seat("a", quotas=quota(None)), OFFER, NOW) is None


def test_each_allowance_is_told_read_or_not() -> None:
    held = seat("a", quotas=quota(0.5))
    assert windows(held, OFFER) == ((FIVE_HOURS, held.quotas[FIVE_HOURS]), (WEEK, None))


RESERVED: list[tuple[str, dict[str, float], float | None, dict[Any, Any], bool]] = [
    # what it is about · reserve · soft limit · what is read · kept for last
    ("the week's own reserve", {"7d": 0.3}, 0.2, quota(0.3, bucket=WEEK), True),
    ("above it", {"7d": 0.3}, 0.2, quota(0.31, bucket=WEEK), False),
    ("the other window has the soft limit", {"7d": 0.3}, 0.2, quota(0.2), True),
    ("and no more than that", {"7d": 0.3}, 0.2, quota(0.25), False),
    ("less may be kept of one than of the others", {"5h": 0.05}, 0.2, quota(0.1), False),
    ("both count, whichever is lower", {"7d": 0.3}, 0.2, quota(0.9) | quota(0.3, bucket=WEEK), True),
    ("without a soft limit it counts alone", {"7d": 0.3}, None, quota(0.0, resets=None), False),
    ("and still counts", {"7d": 0.3}, None, quota(0.2, bucket=WEEK), True),
    ("nothing is kept of a window", {"5h": 0.0}, 0.2, quota(0.001), False),
    ("unknown is not low", {"7d": 1.0, "5h": 1.0}, 0.2, quota(None) | quota(0.1, bucket=WEEK, resets=-1), False),
    ("nor what was never read", {"7d": 1.0, "5h": 1.0}, 0.2, {}, False),
]


@pytest.mark.parametrize(("about", "reserve", "soft", "quotas", "kept"), RESERVED, ids=[row[0] for row in RESERVED])
def test_what_is_kept_of_each_window(
    about: str, reserve: dict[str, float], soft: float | None, quotas: dict[Any, Any], kept: bool
) -> None:
    assert is_soft(seat("a", quotas=quotas), OFFER, Policy(soft_limit=soft, reserve=reserve), NOW) is kept


def test_a_window_of_a_family_has_the_reserve_of_its_length_unless_it_has_its_own() -> None:
    policy = Policy(soft_limit=0.2, reserve={"5h": 0.3, "gemini-5h": 0.4})
    assert [kept_of(name, policy) for name in ("claude-5h", "gemini-5h", "gemini-7d")] == [0.3, 0.4, 0.2]


fractions = st.none() | st.floats(0.0, 1.0)
resets = st.none() | st.sampled_from([-1.0, 0.0, 60.0])
readings = st.builds(
    lambda five, week, five_resets, week_resets: (
        quota(five, resets=five_resets) | quota(week, bucket=WEEK, resets=week_resets)
    ),
    fractions, fractions, resets, resets,
)  # fmt: skip
policies = st.builds(
    lambda soft, reserve: Policy(soft_limit=soft, reserve=reserve),
    fractions, st.dictionaries(st.sampled_from(["5h", "7d", "30d"]), st.floats(0.0, 1.0)),
)  # fmt: skip


@given(readings, policies)
def test_a_seat_is_kept_for_last_by_its_windows_as_plainly_said(quotas: Any, policy: Policy) -> None:
    low = False
    for name, bucket in (("5h", FIVE_HOURS), ("7d", WEEK)):
        read = quotas[bucket]
        known = read.left is not None and (read.resets is None or read.resets > NOW)
        kept = policy.reserve.get(name, policy.soft_limit)
        low = low or (known and kept is not None and read.left <= kept)
    assert is_soft(seat("a", quotas=quotas), OFFER, policy, NOW) is low


@given(readings, policies)
def test_more_left_never_puts_a_seat_back_and_unknown_is_not_low(quotas: Any, policy: Policy) -> None:
    before = is_soft(seat("a", quotas=quotas), OFFER, policy, NOW)
    for bucket in quotas:
        fuller = quotas | quota(1.0, bucket=bucket)
        unknown = quotas | quota(None, bucket=bucket)
        if not before:
            kept = kept_of(bucket.name, policy)
            assert not is_soft(seat("a", quotas=fuller), OFFER, policy, NOW) or (kept is not None and kept >= 1.0)
            assert not is_soft(seat("a", quotas=unknown), OFFER, policy, NOW)


@given(readings)
def test_only_an_empty_window_with_a_reset_ahead_closes(quotas: Any) -> None:
    limit = closed_by(seat("a", quotas=quotas), OFFER, NOW)
    empty = [each for each in quotas.values() if each.left == 0.0 and each.resets is not None and each.resets > NOW]
    assert (limit is not None) is bool(empty)
