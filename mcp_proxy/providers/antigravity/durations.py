"""Durations as Google writes them, in fields and in sentences. Nothing here raises."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = r"\d{1,12}(?:\.\d{1,12})?(?:ms|us|µs|μs|ns|h|m|s)"
_PARTS = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|μs|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART}){{1,8}}")
_IN_TEXT = re.compile(
    rf"\b(?:resets?|retry)\s+(?:after|in)\s+(?:((?:{_PART}){{1,8}})(?!\w)|(\d{{1,9}})\s+(second|minute|hour)s?\b)",
    re.IGNORECASE,
)
_WORDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


def duration(value: object) -> float | None:
    """Seconds in a duration as Go or protobuf writes it: `71h15m27.7s`, `0.4s`, `479.4ms`; None for anything else."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value.strip()):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(value))


def told_in(text: str) -> float | None:
    """Seconds that a message names behind `resets in`, `retry after` and the like. A bare `5s` says nothing."""
    said = _IN_TEXT.search(text)
    if said is None:
        return None
    return duration(said[1].lower()) if said[1] else float(said[2]) * _WORDS[said[3].lower()]
