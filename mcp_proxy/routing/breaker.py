"""Circuit breakers: who fails again and again is left alone for a while, and let in again by one request.

There is one for each account and one for each upstream, which is a provider at an address. From closed to degraded,
open, half-open and closed again: each is a reading of one `Breaker` at a moment, and time alone makes an open one
half-open.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf, nextafter

from mcp_proxy.core.breaker import SOUND, Breaker
from mcp_proxy.core.time import Instant, after

DEGRADED_AFTER = 3
"""Failures in a row from which it is tried last."""

OPEN_AFTER = 5
"""Failures in a row from which it is not asked at all."""

OPEN_SECONDS, LONGEST_OPEN_SECONDS = 10.0, 120.0
"""How long it is left alone at first, twice as long each time its probe fails, and at most: as long as `max_wait`.

So who has a single account is never told more than that its request has to wait.
"""

JITTER = 0.2
"""The part of that time which the draw may take off: proxies that saw one outage shall not all come back at once."""

STUMBLED_SECONDS = 30.0
"""A first or second failure: so long others are tried before, so that not every request walks the dead."""

DEGRADED_SECONDS = 60.0
"""So long after its last failure others are tried before a degraded one. Then its turn comes again, or it would never
recover while others serve."""

SPARED_SECONDS = 30.0
"""So long a half-open one is kept for requests that nobody else can serve; then one request tries it in any case."""

FORGOTTEN_SECONDS = 3600.0
"""After this long without another failure, the next one is a first. The state stores keep it as long."""

PROBE_SECONDS = 1.0
"""How soon it is worth looking what became of the probe under way."""

SKEW_SECONDS = 1.0
"""A change dated this far ahead of now is of now: changes within one tick of the clock are told apart by a hair."""


class State(StrEnum):
    """Where a breaker stands at a moment."""

    CLOSED = "closed"
    DEGRADED = "degraded"
    OPEN = "open"
    HALF_OPEN = "half_open"


def state(breaker: Breaker, now: Instant) -> State:
    """Where it stands now."""
    if _forgotten(breaker, now):
        return State.CLOSED
    if breaker.trips:
        # one that would be open for longer than we ever say was written by a clock that was set back since
        return State.OPEN if now < breaker.until <= now + LONGEST_OPEN_SECONDS else State.HALF_OPEN
    return State.DEGRADED if breaker.failures >= DEGRADED_AFTER else State.CLOSED


def failed(breaker: Breaker, asked_at: Instant, now: Instant, draw: float, status: int, why: str) -> Breaker:
    """After a failure.

    asked_at  when the attempt began: what was asked before it opened says nothing about the time since
    draw      0.0 to 1.0, by chance
    """
    if _forgotten(breaker, now):
        breaker = SOUND._replace(at=breaker.at)
    if breaker.trips and (_earlier(asked_at, breaker, now) or state(breaker, now) is State.OPEN):
        return breaker
    failures, trips, until = breaker.failures + 1, breaker.trips, breaker.until
    if trips or failures >= OPEN_AFTER:
        trips += 1
        seconds = min(OPEN_SECONDS * 2.0 ** min(trips - 1, 16), LONGEST_OPEN_SECONDS)
        until = after(now, seconds * (1.0 - JITTER * draw))
    return Breaker(failures, trips, until, _next(breaker, now), status, why)


def answered(breaker: Breaker, asked_at: Instant, now: Instant) -> Breaker:
    """After an answer began: its probe has let the others in. What was asked before it opened is no probe.

    Until one comes whole a single failure opens it again: an upstream that cuts all its answers begins them, too.
    """
    if not breaker.trips or _earlier(asked_at, breaker, now):
        return breaker
    if _forgotten(breaker, now):
        return Breaker(at=_next(breaker, now))
    return Breaker(OPEN_AFTER - 1, 0, breaker.until, _next(breaker, now), breaker.status, breaker.why)


def succeeded(breaker: Breaker, asked_at: Instant, now: Instant) -> Breaker:
    """After an answer that came whole: nothing is in a row any more.

    One that begins and is cut short is no success, or an upstream that cuts every answer would never be found out.
    """
    if breaker.trips and _earlier(asked_at, breaker, now):
        return breaker
    return Breaker(at=_next(breaker, now)) if breaker.failures else breaker


def closed(breaker: Breaker, now: Instant) -> Breaker:
    """By hand."""
    return Breaker(at=_next(breaker, now))


def level(breaker: Breaker, now: Instant) -> int:
    """How far it is put back: 0 not at all, 1 it failed a moment ago, 2 degraded, 3 half-open. Not for an open one."""
    if not breaker.failures:
        return 0
    if breaker.trips:
        return 3 if state(breaker, now) is State.HALF_OPEN and now - breaker.until < SPARED_SECONDS else 0
    ago = now - breaker.at
    if ago < -SKEW_SECONDS:
        return 0
    if breaker.failures >= DEGRADED_AFTER:
        return 2 if ago < DEGRADED_SECONDS else 0
    return 1 if ago < STUMBLED_SECONDS else 0


def _earlier(asked_at: Instant, breaker: Breaker, now: Instant) -> bool:
    """Whether an attempt began before the last change. One that is still to come, the clock was set back since: of what
    it was before nobody is left to tell, or no probe would close it until that moment comes again."""
    return asked_at < breaker.at <= now + SKEW_SECONDS


def _forgotten(breaker: Breaker, now: Instant) -> bool:
    return now - max(breaker.at, breaker.until if breaker.trips else breaker.at) >= FORGOTTEN_SECONDS


def _next(breaker: Breaker, now: Instant) -> Instant:
    """A moment later than its last change, also where the clock has not moved on, or was set back."""
    return max(now, Instant(nextafter(breaker.at, inf)))
