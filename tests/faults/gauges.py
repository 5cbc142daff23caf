"""The leak gauges: what a test opened must be closed within three seconds of its end."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Level:
    """What this process holds: sockets, and files that tests made. Where the system does not tell, nothing."""

    sockets: int
    files: int

    @classmethod
    def now(cls) -> Level:
        links = list(_descriptors())
        made = tempfile.gettempdir()
        return cls(sum(link.startswith("socket:") for link in links), sum(link.startswith(made) for link in links))

    def above(self, before: Level) -> str:
        """What there is more of than before; empty where there is not."""
        if self.sockets <= before.sockets and self.files <= before.files:
            return ""
        return f"{self.sockets - before.sockets} sockets and {self.files - before.files} files are still open"


def _descriptors() -> Iterator[str]:
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return
    for number in numbers:
        try:
            yield os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue


def settled(before: Level, seconds: float = SETTLE_SECONDS) -> str:
    """What is still too much after some seconds; empty where all is well."""
    deadline = time.monotonic() + seconds
    while (excess := Level.now().above(before)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    return excess


async def tasks_ended(before: set[asyncio.Task[object]], seconds: float = SETTLE_SECONDS) -> list[str]:
    """The tasks that were begun since and have not ended after some seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left or loop.time() > deadline:
            return [repr(task.get_coro()) for task in left]
        await asyncio.sleep(0.01)


def unswept(folder: Path) -> list[str]:
    """Temporary files that were left in a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]
