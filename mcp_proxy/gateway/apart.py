"""Work on a large request, apart from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LARGE = 400_000
"""Bytes of a body from which reading it takes longer than handing it to a thread."""


async def apart(work: Callable[P, R], size: int, *args: P.args, **more: P.kwargs) -> R:
    """The result of `work`, which reads `size` bytes: of a large body in a thread, else at once."""
    return await asyncio.to_thread(work, *args, **more) if size > LARGE else work(*args, **more)
