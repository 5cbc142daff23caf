"""What the pool learns, on its way to the state store: queued, then written in batches by a thread."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from mcp_proxy.core.change import Change, StateStore
from mcp_proxy.state.worth import unquoted

log = structlog.get_logger("mcp_proxy.state")

FLUSH_SECONDS = 0.5
MAX_QUEUED = 20_000
"""Changes kept while the store cannot be written; the oldest leave first, later readings replace them anyway."""


class Keeper:
    """Keeps changes. The request path only appends to a queue; what is lost by a kill is half a second."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._queue: deque[Change] = deque(maxlen=MAX_QUEUED)
        self._failing = False

    def record(self, change: Change) -> None:
        """Keep this change soon; no upstream's words with it."""
        self._queue.append(unquoted(change))

    async def run(self) -> None:
        """Write what is queued, for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what is queued now. A store that cannot be written is named once, and tried again later."""
        if not self._queue:
            return
        batch = list(self._queue)
        self._queue.clear()
        try:
            await asyncio.to_thread(self._store.save, batch)
        except OSError as exc:
            self._put_back(batch)
            if not self._failing:
                log.error("limits are not saved, serving from memory", error=exc.strerror or str(exc))
            self._failing = True
        except asyncio.CancelledError:
            self._put_back(batch)  # whether the thread had begun or not: a change may arrive twice
            raise
        else:
            if self._failing:
                log.info("limits are saved again")
            self._failing = False

    def _put_back(self, batch: list[Change]) -> None:
        self._queue = deque((*batch, *self._queue), maxlen=MAX_QUEUED)
