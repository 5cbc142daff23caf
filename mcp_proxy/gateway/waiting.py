"""How one request waits: for a reset, if that comes in time, and then for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.gate import Ticket
from mcp_proxy.gateway.surroundings import Surroundings
from mcp_proxy.routing.facts import Decision, Tried

LOOK_AGAIN_SECONDS = 1.0
"""A waiting request looks this often whether a seat has opened early."""


@dataclass(slots=True)
class Waiting:
    """The time that one request has.

    until   loop time at which its attempts, its holding and its waiting end, together
    waited  seconds that it has waited
    """

    around: Surroundings
    until: float = 0.0
    waited: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.until - asyncio.get_running_loop().time()

    async def wait(self, retry_at: Instant, decided: Callable[[frozenset[Tried]], Decision], ticket: Ticket) -> bool:
        """Wait for a reset, if that ends in time; then for one's turn. False: nobody waits."""
        around, loop = self.around, asyncio.get_running_loop()
        seconds = retry_at - around.clock.now()
        if around.draining.is_set() or seconds > min(around.policy.max_wait - self.waited, self.left):
            return False
        begun = loop.time()
        try:
            while (seconds := retry_at - around.clock.now()) > 0:
                # the wall clock says when it opens, the loop's how long was waited: the first may be set meanwhile
                if self.left <= 0 or await self._drained(min(seconds, LOOK_AGAIN_SECONDS, self.left)):
                    return False
                decision = decided(frozenset())
                if decision.candidates and decision.hold is None:
                    break
                retry_at = decision.hold or decision.retry_at or retry_at
                if retry_at - around.clock.now() > around.policy.max_wait - self.waited - (loop.time() - begun):
                    return False
            if not await self._turn(ticket):
                return False
        finally:
            self.waited += loop.time() - begun
        return self.left > 0

    async def _turn(self, ticket: Ticket) -> bool:
        """Wait for one's turn; False where the time is over before, or the server goes down."""
        loop = asyncio.get_running_loop()
        turn = loop.create_task(ticket.turn(loop.time()))
        drain = loop.create_task(self.around.draining.wait())
        try:
            await asyncio.wait({turn, drain}, timeout=max(self.left, 0.001), return_when=asyncio.FIRST_COMPLETED)
            return turn.done() and not self.around.draining.is_set()
        finally:
            drain.cancel()
            if not turn.done():
                turn.cancel()
                await asyncio.wait({turn})

    async def _drained(self, seconds: float) -> bool:
        """Sleep, or less if the server begins to drain meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self.around.draining.wait()
        except TimeoutError:
            return False
        return True
