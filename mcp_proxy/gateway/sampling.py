"""Some requests are measured, so that what their answers count can be learnt from. Off the way of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_proxy.core.time import Clock
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.dialects.estimate import Measure, measure
from mcp_proxy.gateway.apart import apart
from mcp_proxy.gateway.jobs import Jobs


@dataclass(slots=True)
class Sampled:
    """A request that is being measured; `measure` is None until that is done."""

    model: str
    measure: Measure | None = None


class Sampler:
    """Takes a request now and then, and what was counted of it once its answer has ended."""

    def __init__(self, calibration: Calibration, jobs: Jobs, clock: Clock) -> None:
        self._calibration, self._jobs, self._clock = calibration, jobs, clock

    def take(self, model: str, body: bytes, known: Measure | None) -> Sampled | None:
        """Begin to measure a request whose answer has begun; None: not this one.

        known  what was measured already; the body is let go as soon as that is done
        """
        if not self._calibration.wants(model, self._clock.now()):
            return None
        sampled = Sampled(model, known)
        if known is None:
            self._jobs.start("measure", _fill(sampled, body))
        return sampled

    def counted(self, sampled: Sampled, usage: Usage) -> None:
        """The answer has ended; one that ended before it was measured teaches nothing."""
        if sampled.measure is not None:
            self._calibration.learn(sampled.model, sampled.measure, usage)


async def _fill(sampled: Sampled, body: bytes) -> None:
    sampled.measure = await apart(measure, len(body), body)
