from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.time import Instant
from mcp_proxy.providers import _times as times
from mcp_proxy.providers._times import CHINA, DAY, HOUR, moment, prose_time, retry_after, yearless_time


def at(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text).timestamp())


NOW = at("2026-08-31T12:00:00Z")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12),
        (" 12.5 ", 12.5),
        ("Mon, 31 Aug 2026 12:00:30 GMT", 30),
        ("0", None),
        ("-3", None),
        ("nan", None),
        ("1e3", None),
        ("9e99", None),
        ("9" * 40, None),
        ("999999999", 8 * DAY),
        ("Mon, 31 Aug 2026 11:00:30 GMT", None),
        ("Mon, 31 Aug 2036 11:00:30 GMT", 8 * DAY),
        ("Mon, 41 Aug 2026 11:00:30 GMT", None),
        ("Mon, 31 Foo 2026 11:00:30 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_or_absent(value: str, seconds: float | None) -> None:
    assert retry_after((("retry-after", value),), NOW) == (None if seconds is None else NOW + seconds)


def test_milliseconds_are_more_exact() -> None:
    assert retry_after((("retry-after", "2"), ("retry-after-ms", "1500")), NOW) == NOW + 1.5
    assert retry_after((("retry-after", "2"), ("retry-after-ms", "x")), NOW) == NOW + 2
    assert retry_after((), NOW) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1788177600", NOW),
        (1788177600, NOW),
        (1788177600.0, NOW),
        ("2026-08-31T12:00:00Z", NOW),
        ("2026-08-31T14:00:00.000+02:00", NOW),
        ("2026-08-31T12:00:00", NOW),
        ("Mon, 31 Aug 2026 12:00:00 GMT", NOW),
        (None, None),
        (True, None),
        (-5, None),
        (1e300, None),
        (float("nan"), None),
        ("tomorrow", None),
        ("0001-01-01T00:00:00+23:00", None),
        ([], None),
    ],
)
def test_a_moment_is_read_in_every_form(value: object, expected: Instant | None) -> None:
    assert moment(value) == expected


def test_prose_times_must_lie_where_they_can() -> None:
    text = "It resets at 2026-08-31 22:19:41, then."
    assert prose_time(text, CHINA, NOW, 5 * HOUR) == at("2026-08-31T14:19:41Z")
    assert prose_time(text, UTC, NOW, 5 * HOUR) is None
    assert prose_time("access on 2026-09-01 at 00:00 UTC", UTC, NOW, DAY) == at("2026-09-01T00:00:00Z")
    assert prose_time("2026-13-01 00:00:00", UTC, NOW, DAY) is None
    assert prose_time("nothing", UTC, NOW, DAY) is None


def test_a_time_without_a_year_is_the_next_one() -> None:
    assert yearless_time("reset at 09-03 10:07:00 UTC", NOW, 8 * DAY) == at("2026-09-03T10:07:00Z")
    assert yearless_time("reset at 01-02 10:00:00 UTC", at("2026-12-30T00:00:00Z"), 8 * DAY) == at(
        "2027-01-02T10:00:00Z"
    )
    assert yearless_time("reset at 08-30 10:07:00 UTC", NOW, 8 * DAY) is None
    assert yearless_time("reset at 02-30 10:07:00 UTC", NOW, 8 * DAY) is None


def test_days_and_months_end() -> None:
    assert times.next_day(NOW, CHINA) == at("2026-08-31T16:00:00Z")
    assert times.next_month(NOW) == at("2026-09-01T00:00:00Z")
    assert times.next_month(at("2026-12-31T23:59:59Z")) == at("2027-01-01T00:00:00Z")
    assert times.next_month(Instant(float("inf"))) == at("1970-02-01T00:00:00Z")


@given(st.text(), st.floats(allow_nan=True))
def test_nothing_raises(text: str, number: float) -> None:
    for value in (text, number):
        moment(value)
        times.from_milliseconds(value)
    retry_after((("retry-after", text),), NOW)
    prose_time(text, UTC, NOW, DAY)
    yearless_time(text, NOW, DAY)
