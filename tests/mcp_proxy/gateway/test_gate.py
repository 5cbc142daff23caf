"""Those who waited for one reset start one at a time until the first of them succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_proxy.gateway.gate import Gate, Ticket


class Queue:
    """Requests that wait for one gate; each notes when its turn has come."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.started: list[int] = []
        self.tickets: list[Ticket] = []
        self.tasks: list[asyncio.Task[None]] = []

    def join(self, count: int, woke_at: float) -> None:
        for _ in range(count):
            number, ticket = len(self.tickets), Ticket(self.gate)
            self.tickets.append(ticket)
            self.tasks.append(asyncio.get_running_loop().create_task(self._come(number, ticket, woke_at)))

    async def _come(self, number: int, ticket: Ticket, woke_at: float) -> None:
        await ticket.turn(woke_at)
        self.started.append(number)


@asynccontextmanager
async def queue(count: int, woke_at: float = 100.0) -> AsyncIterator[Queue]:
    made = Queue()
    made.join(count, woke_at)
    await turns()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_only_one_starts() -> None:
    async with queue(5) as line:
        assert line.started == [0]


async def test_each_failure_lets_the_next_one_try() -> None:
    async with queue(3) as line:
        for number in range(3):
            assert line.started == list(range(number + 1))
            line.tickets[number].done()
            await turns()


async def test_the_first_success_opens_the_gate_for_all() -> None:
    async with queue(5) as line:
        line.tickets[0].done()
        await turns()
        line.tickets[1].served(101.0)
        await turns()
        assert line.started == [0, 1, 2, 3, 4]


async def test_a_success_from_before_the_wait_was_over_says_nothing() -> None:
    async with queue(1) as line:
        line.gate.open(99.0)
        line.join(2, 100.0)
        await turns()
        assert line.started == [0]


async def test_somebody_who_never_waited_opens_it_too() -> None:
    async with queue(3) as line:
        Ticket(line.gate).served(101.0)
        line.tickets[0].done()
        await turns()
        assert line.started == [0, 1, 2]


async def test_who_comes_after_the_success_does_not_queue() -> None:
    async with queue(1) as line:
        line.gate.open(105.0)
        line.join(3, 100.0)
        await turns()
        assert line.started == [0, 1, 2, 3]


async def test_the_next_reset_is_another_wait() -> None:
    async with queue(1) as line:
        line.tickets[0].served(101.0)
        line.join(2, 200.0)
        await turns()
        assert line.started == [0, 1]


async def test_one_who_leaves_while_waiting_passes_its_turn_on() -> None:
    async with queue(4) as line:
        line.tasks[1].cancel()
        await turns()
        line.tickets[0].done()
        await turns()
        assert line.started == [0, 2]


async def test_one_who_leaves_in_the_very_moment_of_its_turn_passes_it_on() -> None:
    async with queue(3) as line:
        line.tickets[0].done()
        line.tasks[1].cancel()
        await turns()
        assert line.started == [0, 2]


async def test_a_ticket_is_given_back_once_and_may_be_used_again() -> None:
    gate = Gate()
    ticket = Ticket(gate)
    ticket.done()
    await ticket.turn(1.0)
    await ticket.turn(2.0)
    ticket.done()
    ticket.done()
    await Ticket(gate).turn(3.0)
