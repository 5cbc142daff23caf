"""Work in the background: each job catches at its top, is logged, and starts again; all end together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger("mcp_proxy.jobs")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
STOP_SECONDS = 3.0


class Jobs:
    """The one owner of background tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def run_forever(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run `job`, and again after a growing pause whenever it ends or fails."""
        self.start(name, _again_and_again(name, job))

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` once. Its failure is logged here, unless somebody awaits the task."""
        task = asyncio.get_running_loop().create_task(_logged(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one cancelled before it began would warn that it never did
        return task

    async def stop(self) -> None:
        """Cancel all, and wait for them at most three seconds."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)


async def _logged(name: str, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except Exception as exc:
        log.error("job failed", job=name, error=type(exc).__name__)
        raise


async def _again_and_again(name: str, job: Callable[[], Awaitable[None]]) -> None:
    pause = FIRST_PAUSE
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            await job()
        except Exception as exc:  # a job's top: whatever it is, the others and the server go on
            log.error("job failed, starting again", job=name, error=type(exc).__name__, in_seconds=pause)
        if loop.time() - begun > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
