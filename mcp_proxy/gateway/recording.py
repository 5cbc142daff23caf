"""What became of each request, on its way to the journal: queued, then made into rows and written by a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import structlog

from mcp_proxy.core.journal import Journal, Question, Row, Used
from mcp_proxy.core.time import Clock, Instant

log = structlog.get_logger("mcp_proxy.journal")

FLUSH_SECONDS = 0.2
"""What is lost by a kill, and a little for the writing itself."""

BATCH = 50
"""Rows of one transaction: three or four milliseconds of a processor that the streams may have to share."""

MAX_QUEUED = 10_000
"""Rows kept while the journal cannot be written; some 30 MB where there are a hundred accounts."""

TRIM_SECONDS = 600.0
TRIMMED_AT_ONCE = 500
RETENTION_DAYS = 90

Making: TypeAlias = Callable[[], Row]
"""Makes a row. Called once, by the thread: what costs time there costs no stream any."""


class Recorder:
    """Keeps rows. The request path only appends to a queue; what is lost by a kill is less than half a second.

    retention_days  what began longer ago is forgotten, in the background; None: nothing is
    """

    def __init__(self, journal: Journal | None, clock: Clock, retention_days: float | None = RETENTION_DAYS) -> None:
        self._journal, self._clock, self._retention_days = journal, clock, retention_days
        self._queue: deque[Making | Row] = deque()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()  # one at a time: a long sum leaves the other threads to others
        self._failing = False
        self._dropped = 0

    def keep_for(self, days: float | None) -> None:
        """From now on, what began longer ago is forgotten; None: nothing is."""
        self._retention_days = days

    def record(self, making: Making) -> None:
        """Keep this row soon."""
        if self._journal is None:
            return
        self._queue.append(making)
        if len(self._queue) > MAX_QUEUED:
            self._queue.popleft()
            if not self._dropped:
                log.error("journal rows are dropped, the oldest first", kept=MAX_QUEUED)
            self._dropped += 1

    async def run(self) -> None:
        """Write what is queued, and forget what is old, for ever."""
        loop = asyncio.get_running_loop()
        trimmed = loop.time() - TRIM_SECONDS  # what a server that is started each morning would never come to
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if loop.time() - trimmed >= TRIM_SECONDS and not self._failing and not await self._trim():
                trimmed = loop.time()

    async def flush(self) -> None:
        """Write what is queued now. A journal that cannot be written is named once, and tried again later."""
        async with self._writing:
            while self._queue and await self._write():
                pass

    async def find(self, request: str | None) -> Row | None:
        """A request that has ended, by either id; None: the newest. Raises `OSError`."""
        if self._journal is None:
            return None
        await self.flush()
        async with self._reading:
            return await asyncio.to_thread(self._journal.find, request)

    async def used(self, question: Question) -> Used:
        """What was used, what has just ended too. Raises `OSError`."""
        if self._journal is None:
            return Used(question.now, (), {})
        await self.flush()
        async with self._reading:
            return await asyncio.to_thread(self._journal.used, question)

    async def close(self) -> None:
        """Write what is left, and close the journal."""
        await self.flush()
        if self._journal is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.close)
        self._thread.shutdown(wait=False)

    async def _write(self) -> bool:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._keep, batch)
        except OSError as exc:
            self._put_back(batch)
            if not self._failing:
                log.error("the journal is not written, its rows wait in memory", error=exc.strerror or str(exc))
            self._failing = True
            return False
        except asyncio.CancelledError:
            self._put_back(batch)  # whether the thread had begun or not: one that is there already stays as it is
            raise
        if self._failing:
            log.info("the journal is written again")
        if self._dropped:
            log.warning("journal rows were dropped", rows=self._dropped)
        self._failing, self._dropped = False, 0
        return True

    def _keep(self, batch: list[Making | Row]) -> None:
        """Make rows of what is none yet, and write them all; what was made once is not made again."""
        rows = [row for each in batch if (row := each if isinstance(each, Row) else _row(each)) is not None]
        batch[:] = rows
        if self._journal is not None:
            self._journal.write(rows)

    def _put_back(self, batch: list[Making | Row]) -> None:
        self._queue.extendleft(reversed(batch))

    async def _trim(self) -> bool:
        """Forget some of what is old; whether there may be more."""
        if self._journal is None or self._retention_days is None:
            return False
        before = Instant(self._clock.now() - self._retention_days * 86_400.0)
        try:
            gone = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._journal.trim, before, TRIMMED_AT_ONCE
            )
        except OSError:
            return False  # whoever writes next says what is wrong
        return gone == TRIMMED_AT_ONCE


def _row(making: Making) -> Row | None:
    """A row; None, and a line in the log, for one that cannot be made: the others are kept all the same."""
    try:
        return making()
    except Exception as exc:
        log.error("a journal row is lost", error=type(exc).__name__)
        return None
