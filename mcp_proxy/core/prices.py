"""What tokens cost by list price, in US dollars, and since when. Who has a plan pays none of it, but sees its worth.

A price belongs to a family of names. The first line that covers a name and was in force holds; of a model that no line
covers, no cost is told, since a guess would look like knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcp_proxy.core.patterns import closest, matches
from mcp_proxy.core.time import Instant

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens.

    cache_read        None: as fresh input
    cache_write       the same
    cache_write_hour  for a cache that is kept for an hour; None: as `cache_write`
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_hour: float | None = None

    def of(self, fresh: int, read: int, written: int, hourly: int, output: int) -> float:
        """Dollars. hourly: of `written`, what was written for an hour."""
        cache_read = self.input if self.cache_read is None else self.cache_read
        cache_write = self.input if self.cache_write is None else self.cache_write
        cache_hour = cache_write if self.cache_write_hour is None else self.cache_write_hour
        spent = fresh * self.input + read * cache_read + output * self.output
        return (spent + (written - hourly) * cache_write + hourly * cache_hour) / MILLION


class Line(NamedTuple):
    """What the names under a pattern (`*` matches anything) cost from a moment on."""

    pattern: str
    price: Price
    since: Instant = Instant(0.0)


READ_ON = "2026-08"
"""When the lines below were read."""

SOURCES = ("list prices of Anthropic", "list prices of Z.AI, pay as you go")


def _claude(input: float, output: float) -> Price:
    """Anthropic's caches cost by one rule: read 0.1, written 1.25, for an hour twice the input."""
    return Price(input, output, input * 0.1, input * 1.25, input * 2)


LIST: tuple[Line, ...] = (
    Line("claude-fable-5*", _claude(10, 50)),
    Line("claude-mythos-5*", _claude(10, 50)),
    Line("claude-opus-5*", _claude(5, 25)),
    *(Line(f"claude-opus-4{rest}", _claude(5, 25)) for rest in ("-5*", "-6*", "-7*", "-8*")),
    *(Line(f"claude-opus-4{rest}", _claude(15, 75)) for rest in ("", "-0*", "-1*", "-2*")),
    Line("claude-sonnet-5*", _claude(2, 10)),
    *(Line(f"claude-sonnet-4{rest}", _claude(3, 15)) for rest in ("", "-0*", "-2*", "-5*", "-6*")),
    Line("claude-haiku-4-5*", _claude(1, 5)),
    Line("claude-haiku-3-5*", _claude(0.8, 4)),
    Line("claude-3-5-haiku*", _claude(0.8, 4)),
    # Z.AI charges nothing for writing a cache beside the input itself
    Line("glm-5.3", Price(1.4, 4.4, 0.26)),
    Line("glm-5.2", Price(1.4, 4.4, 0.26)),
)
"""By list, an order from narrow to wide. Of Z.AI's older models the sources disagree: they have no line."""

_MARKS = re.compile(r"\[[^\]]*\]$")


def bare(model: str) -> str:
    """A model's name without its maker's before a slash and without marks such as `[1m]`, in lower case."""
    return _MARKS.sub("", model.lower().rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Prices:
    """The operator's own prices, by name or pattern, before the list: the closest, and for all time."""

    own: Mapping[str, Price]
    listed: Sequence[Line] = LIST

    @property
    def borders(self) -> tuple[Instant, ...]:
        """The moments at which any price changes, in order."""
        return tuple(sorted({line.since for line in self.listed} - {Instant(0.0)}))

    def price(self, model: str, at: Instant) -> Price | None:
        """What a model cost at a moment; None where nobody knows."""
        name = bare(model)
        own = {pattern.lower(): price for pattern, price in self.own.items()}
        covering = filter(None, (closest(written, own) for written in (model.lower(), name)))
        if (best := max(covering, key=lambda pattern: len(pattern.replace("*", "")), default=None)) is not None:
            return own[best]
        held = [line for line in self.listed if line.since <= at and matches(name, line.pattern)]
        narrow = next((line.pattern for line in held), None)
        of_it = [line for line in held if line.pattern == narrow]
        return max(of_it, key=lambda line: line.since).price if of_it else None
