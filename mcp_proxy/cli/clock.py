"""The clocks of the real world: the only place that reads them."""

from __future__ import annotations

import time
from datetime import datetime

from mcp_proxy.core.time import Instant


class SystemClock:
    """The machine's wall clock. Implements `core.time.Clock`."""

    def now(self) -> Instant:
        return Instant(time.time())  # noqa: TID251 - this is the clock


def local_now() -> datetime:
    """Now, in the machine's own time zone, for what people read."""
    return datetime.now().astimezone()  # noqa: TID251 - this is the clock
