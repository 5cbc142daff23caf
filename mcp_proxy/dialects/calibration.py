"""How many tokens a model makes of a request, learnt from what its answers say.

An estimate by bytes is off by what the model's tokeniser differs from our rates. Each family of models keeps its last
samples; from those come one rate for prose and one for JSON, and how much is put on top so that an estimate is rather
too high: who is told too little compacts too late.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.estimate import Measure
from mcp_proxy.dialects.families import Rates, family, first_rates

FAMILIES = 64
SAMPLES = 48
"""Kept of each family: an hour of work, and old habits are forgotten."""

FADE = 0.97
"""What a sample weighs beside the one after it."""

SMALLEST = 1000
"""Tokens of our own under which a request teaches nothing: what an upstream adds to it is too large a part."""

SANE = (0.4, 3.0)
"""No tokeniser makes less or more of our tokens; what an answer says beyond is an error, or of another request."""

OUTLYING = 0.4
"""A sample that is off by more than this part of the middle one has no say in the rates."""

APART = 0.08
"""How far the shares of JSON have to differ, as a standard deviation, to tell its rate from that of prose."""

AIM = 0.9
"""The part of requests that are not to be underestimated."""

MARGINS = (1.0, 1.2)
UNLEARNT_MARGIN = 1.1
OFTEN_SECONDS, SELDOM_SECONDS = 0.5, 5.0
FEW = 12
"""Samples of a family until which each half second is sampled; from then on each fifth."""


class Sample(NamedTuple):
    """A request as we measured it, and the tokens its upstream counted, without what is fixed."""

    measure: Measure
    counted: float

    @property
    def ours(self) -> float:
        return self.measure.prose + self.measure.json

    @property
    def ratio(self) -> float:
        return self.counted / self.ours

    @property
    def share(self) -> float:
        """How much of it is JSON."""
        return self.measure.json / self.ours


class Fit(NamedTuple):
    """What was learnt. margin: put on top."""

    rates: Rates
    margin: float


@dataclass(slots=True)
class _Family:
    fit: Fit
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    sampled: Instant | None = None


class Calibration:
    """Every family's rates. In memory: a restart begins with what is known of families in general."""

    def __init__(self) -> None:
        self._families: OrderedDict[str, _Family] = OrderedDict()

    def wants(self, model: str, now: Instant) -> bool:
        """Whether a request for `model` is worth measuring now; says so once for a while."""
        known = self._of(family(model))
        pause = OFTEN_SECONDS if len(known.samples) < FEW else SELDOM_SECONDS
        if known.sampled is not None and 0 <= now - known.sampled < pause:
            return False
        known.sampled = now
        return True

    def learn(self, model: str, measure: Measure, usage: Usage) -> None:
        """An answer's own count. Zeros, tiny requests and counts that cannot be are passed over."""
        counted = usage.input + usage.cache_read + usage.cache_write - measure.fixed
        ours = measure.prose + measure.json
        if ours < SMALLEST or not SANE[0] <= counted / ours <= SANE[1]:
            return
        known = self._of(family(model))
        known.samples.append(Sample(measure, counted))
        known.fit = fitted(known.samples, first_rates(family(model)))

    def fit(self, model: str) -> Fit:
        """What holds for a model now."""
        found = self._families.get(family(model))
        return found.fit if found is not None else Fit(first_rates(family(model)), UNLEARNT_MARGIN)

    def tokens(self, model: str, measure: Measure) -> int:
        """What `model` is likely to count, rather too much than too little."""
        fit = self.fit(model)
        return _whole(fit.margin * _counted(measure, fit.rates) + measure.fixed)

    def likely(self, model: str, measure: Measure) -> int:
        """The same without anything on top: nobody is to be refused for our caution."""
        return _whole(_counted(measure, self.fit(model).rates) + measure.fixed)

    def _of(self, name: str) -> _Family:
        known = self._families.pop(name, None) or _Family(Fit(first_rates(name), UNLEARNT_MARGIN))
        self._families[name] = known
        if len(self._families) > FAMILIES:
            self._families.popitem(last=False)
        return known


def fitted(samples: Sequence[Sample], first: Rates) -> Fit:
    """The rates that explain the samples, newest last. Half of them may be nonsense."""
    weights = [FADE ** (len(samples) - 1 - place) for place in range(len(samples))]
    # What was assumed before counts as two samples, so that the first alone does not decide.
    assumed = [(first.prose + first.json) / 2] * 2
    middle = quantile([*(sample.ratio for sample in samples), *assumed], [*weights, 1.0, 1.0], 0.5)
    good = [pair for pair in zip(samples, weights, strict=True) if abs(pair[0].ratio / middle - 1) <= OUTLYING]
    if not good:
        return Fit(Rates(middle, middle), UNLEARNT_MARGIN)
    rates = _both(good) or Rates(middle, middle)
    off = [sample.counted / _counted(sample.measure, rates) for sample, _ in good]
    least, most = MARGINS
    margin = min(most, max(least, quantile(off, [weight for _, weight in good], AIM)))
    # Until there are some samples their spread tells little.
    doubt = (UNLEARNT_MARGIN - 1) * max(0.0, 1 - len(good) / FEW)
    return Fit(rates, margin + doubt)


def _both(good: Sequence[tuple[Sample, float]]) -> Rates | None:
    """Two rates by weighted least squares over the shares; None where the shares differ too little to tell."""
    total = sum(weight for _, weight in good)
    share = sum(sample.share * weight for sample, weight in good) / total
    spread = sum((sample.share - share) ** 2 * weight for sample, weight in good) / total
    if len(good) < FEW or spread < APART**2:
        return None
    ratio = sum(sample.ratio * weight for sample, weight in good) / total
    along = sum((sample.share - share) * (sample.ratio - ratio) * weight for sample, weight in good) / total
    slope = along / spread
    prose = ratio - slope * share
    return Rates(*(min(SANE[1], max(SANE[0], rate)) for rate in (prose, prose + slope)))


def quantile(values: Sequence[float], weights: Sequence[float], part: float) -> float:
    """The smallest value such that this part of the weight is at or under it."""
    wanted = part * sum(weights)
    reached = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        reached += weight
        if reached >= wanted:
            return value
    return max(values)


def _counted(measure: Measure, rates: Rates) -> float:
    return measure.prose * rates.prose + measure.json * rates.json


def _whole(tokens: float) -> int:
    return max(1, int(tokens + 0.999))
