"""Time as a value."""

from __future__ import annotations

from typing import NewType, Protocol

Instant = NewType("Instant", float)
"""A moment: seconds since the Unix epoch, UTC."""

Seconds = NewType("Seconds", float)
"""A length of time."""


class Clock(Protocol):
    """Where `now` comes from. Only the edge holds one; decisions get the value."""

    def now(self) -> Instant: ...


def after(now: Instant, seconds: float) -> Instant:
    """The moment `seconds` after `now`."""
    return Instant(now + seconds)
