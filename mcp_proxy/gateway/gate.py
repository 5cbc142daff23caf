"""Those who waited for one reset start one at a time, until the first of them succeeds."""

from __future__ import annotations

import asyncio


class Gate:
    """One lane for the requests that wait for the same model.

    A reset is a guess until somebody was served after it: a crowd that tries at once would all be refused.
    """

    def __init__(self) -> None:
        self._lane = asyncio.Lock()
        self._opened_at = float("-inf")

    async def enter(self, woke_at: float) -> bool:
        """Wait for one's turn. True where the lane is now held and `leave` must follow.

        woke_at  loop time at which the wait was over; a success since then has opened the gate for all
        """
        if self._opened_at >= woke_at:
            return False
        await self._lane.acquire()
        if self._opened_at >= woke_at:
            self._lane.release()
            return False
        return True

    def leave(self) -> None:
        """Let the next one try."""
        self._lane.release()

    def open(self, now: float) -> None:
        """Somebody was served: all who wait may start."""
        self._opened_at = now


class Ticket:
    """One request's place in the lane of its model; holds the lane from its turn to its outcome."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._holds = False

    async def turn(self, woke_at: float) -> None:
        """Wait for one's turn, giving up the one held before."""
        self.done()
        self._holds = await self._gate.enter(woke_at)

    def served(self, now: float) -> None:
        """The attempt succeeded."""
        self._gate.open(now)
        self.done()

    def done(self) -> None:
        """The request is over, or waits again."""
        if self._holds:
            self._holds = False
            self._gate.leave()
