"""The proxy with a thousand rows a second more in its journal than it has requests: `-m benchmarks.journal PORT RATE`.

The rows are those of its last request, made anew each time and written as any other, under ids of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

import msgspec

from mcp_proxy.cli.compose import _new_loop, _spare_the_collector, serving
from mcp_proxy.cli.logs import configure
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.settings import load

STEP_SECONDS = 0.01


async def feed(gateway: Gateway, rate: int) -> None:
    """Record `rate` rows a second, evenly."""
    loop, numbers = asyncio.get_running_loop(), itertools.count()
    begun, made = loop.time(), 0
    while True:
        await asyncio.sleep(STEP_SECONDS)
        if not gateway.recent:
            begun = loop.time()
            continue
        making = gateway.recent[-1].making()
        due = int((loop.time() - begun) * rate)
        for number in itertools.islice(numbers, due - made):
            gateway.recorder.record(
                lambda making=making, number=number: msgspec.structs.replace(making(), request=f"bench_{number}")
            )
        made = due


async def serve(port: int, rate: int) -> None:
    settings = load({"no_soft_limit": True}, dict(os.environ))
    configure(settings.log.level, settings.log.format)
    async with serving(settings, port=port) as (_, gateway, _server):
        _spare_the_collector()
        if rate:
            await feed(gateway, rate)
        await asyncio.Event().wait()


def main() -> None:
    port, rate = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(serve(port, rate))


if __name__ == "__main__":
    main()
