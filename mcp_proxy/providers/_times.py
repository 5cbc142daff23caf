"""When an upstream says to come back, in the many ways they say it. Nothing here raises."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from mcp_proxy.core.http import Headers, header
from mcp_proxy.core.time import Instant

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

LONGEST_SECONDS = 8 * DAY
"""No window we know of a week or less resets later: what says so is clamped to it."""

CHINA = timezone(timedelta(hours=8))
"""The zone of times that Chinese vendors write without one."""

_NUMBER = re.compile(r"[ \t]*(\d{1,18}(?:\.\d{0,9})?)[ \t]*")
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PROSE_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2}) (?:at )?(\d{2}):(\d{2})(?::(\d{2}))?")
_YEARLESS_TIME = re.compile(r"reset at (\d{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) UTC")


def retry_after(headers: Headers, now: Instant) -> Instant | None:
    """What `retry-after-ms` or `retry-after` says (RFC 9110, 10.2.3; decimals too); None where neither says sense.

    Never earlier than `now`; over eight days counts as eight days. A date is read against the `date` beside it, where
    there is one: the upstream's clock may be hours off, the time between the two is not.
    """
    milliseconds = _seconds(header(headers, "retry-after-ms"))
    if milliseconds:
        return _within(now + milliseconds / 1000, now)
    said = header(headers, "retry-after")
    seconds = _seconds(said)
    if seconds is not None:
        return _within(now + seconds, now)
    moment, sent = http_date(said or ""), http_date(header(headers, "date") or "")
    if moment is None:
        return None
    return _within(moment if sent is None else now + (moment - sent), now)


def _seconds(said: str | None) -> float | None:
    number = _NUMBER.fullmatch(said or "")
    return float(number[1]) if number else None


def _within(moment: float, now: Instant) -> Instant | None:
    return Instant(min(moment, now + LONGEST_SECONDS)) if moment > now else None


def http_date(text: str) -> Instant | None:
    """An HTTP date in the one form that is still written (RFC 9110, 5.6.7)."""
    said = _HTTP_DATE.fullmatch(text.strip())
    if said is None or said[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(said[group]) for group in (1, 3, 4, 5, 6))
    return _instant(year, _MONTHS.index(said[2]) + 1, day, hour, minute, second, UTC)


def moment(value: object) -> Instant | None:
    """A moment written as unix seconds (text or number), RFC 3339 or an HTTP date; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return Instant(float(value)) if 0 < value < 1e11 else None
    if not isinstance(value, str):
        return None
    if number := _NUMBER.fullmatch(value):
        return moment(float(number[1]))
    try:
        parsed = datetime.fromisoformat(value.strip())
    except ValueError:
        return http_date(value)
    try:
        return moment((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (OverflowError, ValueError):
        return None


def from_milliseconds(value: object) -> Instant | None:
    """A moment written as milliseconds since the epoch."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e14:
        return None
    return Instant(value / 1000)


def prose_time(text: str, zone: tzinfo, now: Instant, within: float) -> Instant | None:
    """The first `YYYY-MM-DD HH:MM[:SS]` in a text, in `zone`; None unless it lies in the next `within` seconds."""
    said = _PROSE_TIME.search(text)
    if said is None:
        return None
    year, month, day, hour, minute = (int(said[group]) for group in range(1, 6))
    found = _instant(year, month, day, hour, minute, int(said[6] or 0), zone)
    return found if found is not None and now < found <= now + within else None


def yearless_time(text: str, now: Instant, within: float) -> Instant | None:
    """The `reset at MM-DD HH:MM:SS UTC` in a text, in the year that makes it the next one, if within `within`."""
    said = _YEARLESS_TIME.search(text)
    if said is None:
        return None
    month, day, hour, minute, second = (int(said[group]) for group in range(1, 6))
    year = _at(now, UTC).year
    for candidate in (year, year + 1):
        found = _instant(candidate, month, day, hour, minute, second, UTC)
        if found is not None and now < found <= now + within:
            return found
    return None


def next_day(now: Instant, zone: tzinfo) -> Instant:
    """The next midnight in `zone`."""
    today = _at(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return Instant((today + timedelta(days=1)).timestamp())


def next_month(now: Instant) -> Instant:
    """The first of the next month, 00:00 UTC."""
    today = _at(now, UTC)
    year, month = (today.year + 1, 1) if today.month == 12 else (today.year, today.month + 1)
    return Instant(datetime(year, month, 1, tzinfo=UTC).timestamp())


def _at(now: Instant, zone: tzinfo) -> datetime:
    """`now` as a date; what no calendar holds counts as the epoch."""
    return datetime.fromtimestamp(now if math.isfinite(now) and 0 <= now < 2e11 else 0, zone)


def _instant(year: int, month: int, day: int, hour: int, minute: int, second: int, zone: tzinfo) -> Instant | None:
    try:
        # 60 is a leap second, which no calendar of computers has
        return Instant(
            datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=zone).timestamp()
        )
    except (ValueError, OverflowError):
        return None
