"""The clocks of the real world: the only place that reads them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from mcp_proxy.core.time import Instant

PACE = 0.9
"""How fast time goes on while the wall clock is behind what was told already: it catches up, and no wait doubles."""


class SystemClock:
    """The machine's wall clock, which may be set back under us; what is told here never goes back.

    What is closed for a minute would else be closed for the hour more that the clock was set back by, and what is
    learnt in that hour would be older than what is known. Set forward, or awake after a sleep, it is followed at once.
    Implements `core.time.Clock`.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - this is the clock
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._told, self._seen = wall(), steady()

    def now(self) -> Instant:
        seen = self._steady()
        passed, self._seen = seen - self._seen, seen
        self._told = max(self._wall(), self._told + passed * PACE)
        return Instant(self._told)


def local_now() -> datetime:
    """Now, in the machine's own time zone, for what people read."""
    return datetime.now().astimezone()  # noqa: TID251 - this is the clock
