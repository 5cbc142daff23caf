"""When Google says to come back, from the many places where it says so. Nothing here raises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_proxy.core.failure import Refusal
from mcp_proxy.core.time import Instant, after
from mcp_proxy.providers._times import LONGEST_SECONDS, moment, retry_after
from mcp_proxy.providers.antigravity.durations import duration, told_in
from mcp_proxy.providers.antigravity.told import Told

SHORTEST_SECONDS = 0.5
"""What "now" means in an answer that refuses."""


def wait(told: Told, answer: Refusal, now: Instant) -> float | None:
    """Seconds until the upstream says to come back, from where it says so best; None where it does not say."""
    seconds = _in_details(told.details, now)
    if seconds is None:
        seconds = _in_headers(answer, now)
    if seconds is None:
        seconds = told_in(told.message)
    if seconds is None:
        seconds = _in_milliseconds(told.top)
    if seconds is None:
        return None
    return min(seconds if seconds >= 0.001 else SHORTEST_SECONDS, LONGEST_SECONDS)


def _in_details(details: Sequence[Mapping[str, Any]], now: Instant) -> float | None:
    for detail in details:
        if (delay := duration(detail.get("retryDelay"))) is not None:
            return delay
    told = [metadata for detail in details if isinstance(metadata := detail.get("metadata"), dict)]
    for metadata in told:
        if (delay := duration(metadata.get("quotaResetDelay"))) is not None:
            return delay
    for metadata in told:
        if (resets := moment(metadata.get("quotaResetTimeStamp"))) is not None:
            return resets - now
    return None


def _in_headers(answer: Refusal, now: Instant) -> float | None:
    if (until := retry_after(answer.headers, now)) is not None:
        return until - now
    if (resets := moment(answer.header("x-ratelimit-reset"))) is not None and resets > now:
        return resets - now
    delay = answer.header("x-ratelimit-reset-after") or ""
    return float(delay) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", delay) else None


def _in_milliseconds(top: Mapping[str, Any]) -> float | None:
    error = top.get("error")
    for place in (top, error if isinstance(error, dict) else {}):
        for name in ("retry-after-ms", "retryDelay"):
            value = place.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
                return value / 1000
    return None


def in_seconds(now: Instant, seconds: float | None) -> Instant | None:
    """The moment so far ahead; None for none."""
    return None if seconds is None else after(now, seconds)
