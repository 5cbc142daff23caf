"""One request's life over fake upstreams: what it holds, what it waits for, and that it gives everything back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from mcp_proxy.core.change import StateStore
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamRequest
from mcp_proxy.core.ids import AccountId, RequestId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, Minting, Offer
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.gateway.answer import Answer
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.routing.budget import Budget
from mcp_proxy.routing.facts import Policy
from mcp_proxy.state.memory import MemoryStore
from tests.fakes import FakeResponse, FakeTransport
from tests.mcp_proxy.gateway.kit import SIGN_IN, FakeLedger, HandClock, entry, grant, sayso, until
from tests.mcp_proxy.gateway.test_pool import limited
from tests.mcp_proxy.routing.seats import NOW

MESSAGE = (
    b'{"type":"message","id":"msg_1","model":"m","content":[],"stop_reason":"end_turn","usage":{"output_tokens":3}}'
)
JSON = (("content-type", "application/json"),)
CUT = NetworkTrouble(Trouble.CUT, sent=True)
A = AccountId("a")


def ask(stream: bool = False, **headers: str) -> Ask:
    body = b'{"model":"m","stream":%b,"messages":[{"role":"user","content":"hi"}]}' % (b"true" if stream else b"false")
    made = read_ask(Endpoint.MESSAGES, body, tuple(headers.items()))
    assert isinstance(made, Ask)
    return made


def streamed() -> FakeResponse:
    start = b'event: message_start\ndata: {"type":"message_start","message":{"model":"m"}}\n\n'
    block = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
    return FakeResponse(200, (("content-type", "text/event-stream"),), (start, block))


def answered() -> FakeResponse:
    return FakeResponse(200, JSON, (MESSAGE,))


class Hanging(FakeTransport):
    """Takes the request and says nothing."""

    async def send(self, request: object) -> FakeResponse:
        self.asked.append(request)  # type: ignore[arg-type]
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class FakeClients:
    """The transport of each account."""

    transports: dict[str, FakeTransport]
    retired: list[str] = field(default_factory=list)

    def get(self, account: AccountId, base_url: str) -> FakeTransport:
        return self.transports[account]

    def keep_only(self, accounts: Sequence[AccountId]) -> None:
        self.retired = [name for name in self.transports if name not in accounts]

    async def aclose(self) -> None: ...


@dataclass
class Room:
    gateway: Gateway
    clock: HandClock
    clients: FakeClients

    def exchange(self, seconds: float = 30.0, stream: bool = False, **headers: str) -> Exchange:
        exchange = self.gateway.exchange(ask(stream, **headers), RequestId("req_1"))
        exchange.budget = seconds
        return exchange

    @property
    def in_flight(self) -> list[int]:
        return [seat.in_flight for seat in self.gateway.pool.seats]


@asynccontextmanager
async def room(
    *transports: FakeTransport,
    policy: Policy | None = None,
    bases: Sequence[str] = (),
    store: StateStore | None = None,
    budgets: Mapping[str, tuple[Budget, ...]] | None = None,
    **how: object,
) -> AsyncIterator[Room]:
    names = [chr(97 + index) for index in range(len(transports))]
    places = bases or [f"http://{name}.test" for name in names]
    entries = [
        entry(name, base_url=base, tier=index) for index, (name, base) in enumerate(zip(names, places, strict=True))
    ]
    clients, clock, provider = FakeClients(dict(zip(names, transports, strict=True))), HandClock(), sayso(**how)
    gateway = Gateway(
        ledger=FakeLedger(entries),
        fixed=(),
        store=store or MemoryStore(),
        catalog=Catalog({provider.name: provider}, {}, budgets),
        clients=clients,
        policy=policy or Policy(),
        clock=clock,
        rng=random.Random(1),
    )
    await gateway.start()
    yield Room(gateway, clock, clients)
    await gateway.stop()


async def test_an_answer_is_counted_in_flight_until_it_is_closed_and_its_upstream_with_it() -> None:
    response = streamed()
    async with room(FakeTransport([response])) as made:
        exchange = made.exchange(stream=True)
        assert isinstance(await exchange.open(), Answer)
        assert (made.in_flight, response.closed) == ([1], False)
        await exchange.close()
        assert (made.in_flight, response.closed) == ([0], True)


async def test_a_failure_leaves_nothing_in_flight() -> None:
    async with room(FakeTransport([CUT]), FakeTransport([FakeResponse(500, JSON, (b"no",))])) as made:
        exchange = made.exchange()
        result = await exchange.open()
        await exchange.close()
        assert isinstance(result, Failure) and result.status == 502
        assert made.in_flight == [0, 0]
        assert [attempt.failure is not None for attempt in exchange.attempts] == [True, True]


async def test_the_upstreams_id_is_of_the_account_that_was_asked_last() -> None:
    named = FakeResponse(500, (*JSON, ("request-id", "of-a")), (b"no",))
    for last, told in ((CUT, None), (FakeResponse(500, (*JSON, ("x-request-id", "of-b")), (b"no",)), "of-b")):
        async with room(FakeTransport([named]), FakeTransport([last])) as made:
            exchange = made.exchange()
            await exchange.open()
            await exchange.close()
            assert (len(exchange.attempts), exchange.upstream_id) == (2, told)


async def test_a_client_that_leaves_while_an_upstream_is_silent_leaves_nothing_behind() -> None:
    async with room(Hanging([]), FakeTransport([answered()])) as made:
        exchange = made.exchange()
        task = asyncio.get_running_loop().create_task(exchange.open())
        await until(lambda: made.in_flight == [1, 0])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await exchange.close()
        assert made.in_flight == [0, 0]
        assert made.clients.transports["b"].asked == [], "nobody else is asked for a client that left"
        assert made.gateway.pool.seats[0].breaker.failures == 0, "leaving is no account's failure"
        assert exchange.outcome == "client_gone"


async def test_a_silent_upstream_costs_no_more_than_the_budget() -> None:
    async with room(Hanging([])) as made:
        result = await made.exchange(0.05).open()
        assert isinstance(result, Failure) and (result.status, result.type) == (504, "timeout_error")


async def test_who_is_not_reached_speaks_for_every_account_at_that_address() -> None:
    dead = NetworkTrouble(Trouble.REFUSED, sent=False)
    transports = [FakeTransport([dead]) for _ in range(6)] + [FakeTransport([answered()])]
    async with room(*transports, bases=["http://dead.test"] * 6 + ["http://alive.test"]) as made:
        exchange = made.exchange()
        assert isinstance(await exchange.open(), Answer)
        assert [len(transport.asked) for transport in transports] == [1, 0, 0, 0, 0, 0, 1]
        await exchange.close()


async def test_six_dead_addresses_then_the_seventh_answers() -> None:
    dead = NetworkTrouble(Trouble.REFUSED, sent=False)
    transports = [FakeTransport([dead]) for _ in range(6)] + [FakeTransport([answered()])]
    async with room(*transports) as made:
        exchange = made.exchange()
        assert isinstance(await exchange.open(), Answer)
        assert exchange.why == "failover"
        await exchange.close()


async def test_a_short_limit_is_waited_for() -> None:
    async with room(FakeTransport([answered()])) as made:
        made.gateway.pool.apply([limited(5, 0)])
        exchange = made.exchange()
        task = asyncio.get_running_loop().create_task(exchange.open())
        await asyncio.sleep(0.01)
        assert not task.done()
        made.gateway.pool.apply([limited(0, 1)])  # lifted early
        made.clock.at = NOW + 6
        async with asyncio.timeout(3):
            assert isinstance(await task, Answer)
        assert exchange.why == "waited"
        await exchange.close()


@pytest.mark.parametrize(("until_", "max_wait", "budget"), [(121, 120.0, 300.0), (10, 5.0, 300.0), (60, 120.0, 55.0)])
async def test_a_wait_that_would_take_too_long_is_not_begun(until_: float, max_wait: float, budget: float) -> None:
    async with room(FakeTransport([answered()]), policy=Policy(max_wait=max_wait)) as made:
        made.gateway.pool.apply([limited(until_, 0)])
        async with asyncio.timeout(1):
            result = await made.exchange(budget).open()
        assert isinstance(result, Failure) and result.status == 429
        assert dict(result.headers)["retry-after"] == str(int(until_))


async def test_those_who_wait_are_told_at_once_that_the_server_goes_down() -> None:
    async with room(FakeTransport([answered()])) as made:
        made.gateway.pool.apply([limited(100, 0)])
        task = asyncio.get_running_loop().create_task(made.exchange(300.0).open())
        await asyncio.sleep(0.01)
        made.gateway.drain()
        async with asyncio.timeout(1):
            result = await task
        assert isinstance(result, Failure) and result.status == 529


async def test_waiting_for_ones_turn_ends_with_the_budget() -> None:
    async with room(Hanging([])) as made:
        made.gateway.pool.apply([limited(0.05, 0)])
        first, second = made.exchange(30.0), made.exchange(0.3)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(exchange.open()) for exchange in (first, second)]
        await asyncio.sleep(0.01)
        made.clock.at = NOW + 1  # the limit is over: the first goes, and hears nothing
        async with asyncio.timeout(3):
            result = await tasks[1]
        assert isinstance(result, Failure)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_conversation_stays_where_it_is_warm_and_says_so() -> None:
    async with room(FakeTransport([CUT, answered(), answered()]), FakeTransport([answered(), answered()])) as made:
        whys = []
        for _ in range(2):
            exchange = made.exchange(**{"x-session-id": "s"})
            await exchange.open()
            await exchange.close()
            whys.append((exchange.attempts[-1].candidate.account, exchange.why.value))
        assert whys == [("b", "failover"), ("b", "sticky")]


def refusing(**how: object) -> Callable[..., Failure]:
    """A provider's reading of every refusal."""

    def read(refusal: Refusal, offer: Offer, now: Instant) -> Failure:
        return Failure(**({"blame": Blame.REQUEST, "status": refusal.status, "type": "t", "message": "no"} | how))  # type: ignore[arg-type]

    return read


def noting(asks: list[Ask]) -> Callable[..., UpstreamRequest]:
    """A provider's way to ask, which notes what it was handed."""

    def request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest:
        asks.append(ask)
        return UpstreamRequest("POST", f"{access.base_url}/", (), ask.body)

    return request


async def test_what_would_do_without_signatures_is_asked_so_once_more_on_the_same_account() -> None:
    asks: list[Ask] = []
    wrong = FakeResponse(400, JSON, (b"signature",))
    how = {"request": noting(asks), "read_failure": refusing(unsigned=True)}
    async with room(FakeTransport([wrong, answered()]), FakeTransport([answered()]), **how) as made:
        exchange = made.exchange()
        assert isinstance(await exchange.open(), Answer)
        await exchange.close()
        assert [ask.unsigned for ask in asks] == [False, True]
        assert [attempt.candidate.account for attempt in exchange.attempts] == ["a"]


async def test_one_that_is_refused_even_so_goes_back_to_the_client() -> None:
    asks: list[Ask] = []
    how = {"request": noting(asks), "read_failure": refusing(unsigned=True)}
    async with room(FakeTransport([FakeResponse(400, JSON, (b"signature",))]), **how) as made:
        result = await made.exchange().open()
        assert isinstance(result, Failure) and result.blame is Blame.REQUEST
        assert [ask.unsigned for ask in asks] == [False, True]


async def test_without_signatures_it_stays_for_the_accounts_that_follow() -> None:
    asks: list[Ask] = []
    how = {"request": noting(asks), "read_failure": refusing(unsigned=True, blame=Blame.PROVIDER)}
    wrong = FakeResponse(400, JSON, (b"signature",))
    async with room(FakeTransport([wrong]), FakeTransport([answered()]), **how) as made:
        exchange = made.exchange()
        assert isinstance(await exchange.open(), Answer)
        await exchange.close()
        assert [ask.unsigned for ask in asks] == [False, True, True]


async def test_a_key_that_is_refused_is_not_tried_again() -> None:
    refused = FakeTransport([FakeResponse(401, JSON, (b"no",))])
    async with room(refused, read_failure=refusing(blame=Blame.TOKEN)) as made:
        await made.exchange().open()
        assert len(refused.asked) == 1
        assert made.gateway.pool.seats[0].account.invalid is not None


async def test_the_time_for_a_token_is_part_of_the_budget() -> None:
    async def never(transport: object, minting: Minting, now: Instant) -> Failure:
        await asyncio.sleep(30)
        raise AssertionError

    async with room(FakeTransport([answered()]), mint=never, sign_in=SIGN_IN) as made:
        account, _ = entry("a", base_url="http://a.test")
        cast(FakeLedger, made.gateway.roster._ledger).write((account, grant("a")))
        await made.gateway.roster.load()
        async with asyncio.timeout(3):
            result = await made.exchange(0.1).open()
        assert isinstance(result, Failure) and (result.status, result.type) == (504, "timeout_error")
