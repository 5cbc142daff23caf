"""What is left of an upstream's limits, and what is closed until when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.time import Instant

LONGEST_WINDOW_SECONDS = 35 * 86_400.0
"""Counts of our own are kept this long, so no window that we count ourselves is longer."""


class Kind(StrEnum):
    """What running out means.

    ALLOWANCE  a window of an hour or more, worth saving the end of: the soft limit looks at it
    RATE       minutes or less; it closes, and is soon open again
    ABSENCE    no limit at all: the account does not have the model, for as long as we believe it
    """

    ALLOWANCE = "allowance"
    RATE = "rate"
    ABSENCE = "absence"

    __hash__ = str.__hash__
    """A bucket is looked up for every account of every decision, and an enum's own hash is no C function."""


class Bucket(NamedTuple):
    """One limit of one account, under a name its provider chooses: "5h", "7d", "rpm"."""

    name: str
    kind: Kind = Kind.ALLOWANCE


ACCOUNT = Bucket("account", Kind.RATE)
"""Closes the whole account, whatever the model. Every offer draws on it."""


BILLING = Bucket("billing", Kind.RATE)
"""Closes an account that has nothing left to pay with: waiting does not help, its owner has to act."""


def model_bucket(model: ModelId) -> Bucket:
    """Closes one model of one account. Every offer draws on its own."""
    return Bucket(f"model:{model}", Kind.RATE)


def absence(model: ModelId) -> Bucket:
    """Closed while an account is known not to have a model it was thought to offer. Every offer draws on its own."""
    return Bucket(f"absent:{model}", Kind.ABSENCE)


@dataclass(frozen=True, slots=True)
class Quota:
    """What an upstream says is left of one of its limits.

    left     fraction still free, 0.0 to 1.0; None where the upstream does not say
    resets   when the window starts over; None where the upstream does not say. Past it, `left` is unknown
    read_at  when we learnt it; of two readings the later wins, so order of arrival is free
    """

    bucket: Bucket
    left: float | None
    resets: Instant | None
    read_at: Instant


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A closed bucket.

    until    when it opens again
    why      for people, one short phrase
    read_at  when we learnt it; the later reading wins, so a limit can be lifted early
    """

    bucket: Bucket
    until: Instant
    why: str
    read_at: Instant
