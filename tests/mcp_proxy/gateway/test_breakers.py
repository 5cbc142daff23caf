"""Breakers, budgets, resets and counters through the gateway, over fake upstreams and with time set by hand."""

from __future__ import annotations

import asyncio

import pytest

from mcp_proxy.core.change import Tallied
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import NetworkTrouble, Trouble
from mcp_proxy.core.ids import AccountId
from mcp_proxy.gateway import waiting
from mcp_proxy.gateway.answer import Answer, CutShort
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.routing.budget import budget
from mcp_proxy.routing.facts import Policy
from mcp_proxy.routing.react import Lesson
from mcp_proxy.state.memory import MemoryStore
from tests.fakes import FakeResponse, FakeTransport
from tests.mcp_proxy.gateway.kit import until
from tests.mcp_proxy.gateway.test_exchange import JSON, Hanging, Room, answered, room, streamed
from tests.mcp_proxy.routing.seats import NOW

DOWN = NetworkTrouble(Trouble.CUT, sent=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.01)


def broken(status: int = 500) -> FakeResponse:
    return FakeResponse(status, JSON, (b"no",))


async def asked(made: Room, *, stream: bool = False) -> tuple[Answer | Failure, Exchange]:
    request = made.exchange(stream=stream)
    result = await request.open()
    if stream and isinstance(result, Answer):
        try:
            async for _ in request.frames():
                pass
        except CutShort:
            pass
    elif isinstance(result, Answer):
        request.outcome = "ok"
    await request.close()
    return result, request


async def test_an_account_alone_is_left_alone_after_five_failures_and_its_requests_wait_for_it() -> None:
    upstream = FakeTransport([*(broken() for _ in range(5)), answered()])
    async with room(upstream) as made:
        for _ in range(5):
            result, _ = await asked(made)
            assert isinstance(result, Failure) and result.status == 502
        waiting = asyncio.create_task(asked(made))
        await asyncio.sleep(0.05)
        assert len(upstream.asked) == 5 and not waiting.done()
        made.clock.at += 10.01
        result, request = await waiting
        assert isinstance(result, Answer) and request.why == "waited" and len(upstream.asked) == 6
        (seat,) = made.gateway.pool.seats
        assert (seat.breaker.failures, seat.address.failures, seat.probing) == (0, 0, frozenset())


async def test_who_cannot_wait_is_told_what_its_upstream_failed_with_and_when_to_come_back() -> None:
    for trouble, status in ((broken(529), 529), (NetworkTrouble(Trouble.READ_TIMEOUT, sent=True), 504), (DOWN, 502)):
        async with room(FakeTransport([trouble] * 5), policy=Policy(max_wait=0)) as made:
            for _ in range(5):
                await asked(made)
            result, request = await asked(made)
            assert isinstance(result, Failure) and not request.attempts
            assert (result.status, dict(result.headers).get("retry-after")) == (status, "10")
            assert "unwell" in result.message and made.gateway.health() == "degraded"


async def test_one_request_counts_once_against_an_address_whichever_of_its_accounts_it_asks() -> None:
    transports = [FakeTransport([broken()]) for _ in range(5)]
    async with room(*transports, bases=["http://one.test"] * 5) as made:
        await asked(made)
        assert [len(each.asked) for each in transports] == [1] * 5
        assert [seat.address.failures for seat in made.gateway.pool.seats] == [1] * 5
        assert [seat.breaker.failures for seat in made.gateway.pool.seats] == [1] * 5


async def test_custom_addresses_are_upstreams_of_their_own() -> None:
    async with room(FakeTransport([broken()]), FakeTransport([answered()])) as made:
        await asked(made)
        assert [seat.address.failures for seat in made.gateway.pool.seats] == [1, 0]
        assert [each["name"] for each in made.gateway.upstreams()] == ["sayso http://a.test", "sayso http://b.test"]


async def test_the_probe_of_a_client_that_leaves_is_given_back() -> None:
    upstream = Hanging([])
    async with room(upstream) as made:
        await trip(made)
        leaving = asyncio.create_task(asked(made))
        await until(lambda: upstream.asked)
        waiting = asyncio.create_task(asked(made))
        await asyncio.sleep(0.02)
        assert len(upstream.asked) == 1, "exactly one"
        leaving.cancel()
        await asyncio.wait({leaving})
        assert made.gateway.pool.seats[0].probing == frozenset()
        await until(lambda: len(upstream.asked) == 2)
        waiting.cancel()
        await asyncio.wait({waiting})
        (seat,) = made.gateway.pool.seats
        assert (seat.breaker.trips, seat.in_flight, seat.probing) == (1, 0, frozenset()), "leaving is no failure"


async def trip(made: Room) -> None:
    """Open the breaker of the first account and let its time pass."""
    for _ in range(5):
        made.gateway.pool.learn(AccountId("a"), Lesson(stumbled=True, sick=True), made.clock.now())
    made.clock.at += 11


async def test_a_client_in_a_hurry_is_no_failure_of_the_upstream() -> None:
    async with room(Hanging([])) as made:
        request = made.exchange(seconds=0.02)
        result = await request.open()
        await request.close()
        assert isinstance(result, Failure) and result.status == 504
        (seat,) = made.gateway.pool.seats
        assert (seat.breaker.failures, seat.address.failures) == (0, 0)


async def test_an_upstream_that_cuts_every_answer_short_is_found_out() -> None:
    async with room(FakeTransport([streamed() for _ in range(5)])) as made:
        for _ in range(5):
            result, request = await asked(made, stream=True)
            assert isinstance(result, Answer) and request.outcome == "cut"
        (seat,) = made.gateway.pool.seats
        assert (seat.breaker.trips, seat.address.trips) == (1, 1)


async def test_reset_lets_accounts_in_at_once_and_names_what_it_did() -> None:
    async with room(FakeTransport([answered()]), FakeTransport([answered()])) as made:
        for _ in range(5):
            made.gateway.pool.learn(AccountId("a"), Lesson(stumbled=True, sick=True), made.clock.now())
        assert await made.gateway.reset("kimi", None) is None
        assert await made.gateway.reset(None, "nobody") is None
        assert await made.gateway.reset("kimi", "a") is None, "both have to match"
        for name in ("b", "sayso/b"):
            told = await made.gateway.reset(None, name)
            assert told is not None and told["reset"] == [
                {"id": "b", "provider": "sayso", "label": "b", "forgotten": []}
            ]
        told = await made.gateway.reset("sayso", None)
        assert told is not None and [each["forgotten"] for each in told["reset"]] == [
            ["breaker", "upstream breaker"],
            [],
        ]
        result, _ = await asked(made)
        assert isinstance(result, Answer) and made.gateway.health() == "ok"


async def test_everything_that_ends_is_counted() -> None:
    async with room(FakeTransport([broken(), answered(), DOWN])) as made:
        for _ in range(3):
            await asked(made)
        counters = made.gateway.counters
        assert counters.requests == {"failed": 2, "ok": 1}
        assert counters.attempts == {("a", "provider"): 1, ("a", "answered"): 1, ("a", "network"): 1}
        assert counters.tokens["a", "output"] == 3
        text = made.gateway.metrics()
        assert 'mcp_proxy_attempts_total{account="sayso/a",outcome="network"} 1\n' in text
        assert 'mcp_proxy_breaker_state{of="account",name="sayso/a",state="closed"} 1\n' in text
        assert 'mcp_proxy_in_flight{account="sayso/a"} 0\n' in text
        for line in text.splitlines():
            assert line.startswith(("# HELP mcp_proxy_", "# TYPE mcp_proxy_", "mcp_proxy_")), line


def spending(tokens: int) -> FakeResponse:
    usage = b'{"input_tokens":%d,"cache_read_input_tokens":90000,"output_tokens":0}' % tokens
    start = b'event: message_start\ndata: {"type":"message_start","message":{"model":"m","usage":%b}}\n\n' % usage
    block = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
    return FakeResponse(200, (("content-type", "text/event-stream"),), (start, block))


OWN = {"sayso/a": (budget("7d", 7 * 86_400.0, 100, shared=False),)}


async def test_a_budget_counts_what_was_cut_too_keeps_the_end_and_closes_also_after_a_restart() -> None:
    store = MemoryStore()
    async with room(
        FakeTransport([spending(60), spending(31)]), FakeTransport([streamed()]), store=store, budgets=OWN
    ) as made:
        for left, soft in ((0.4, False), (0.09, True)):
            _, request = await asked(made, stream=True)
            assert request.outcome == "cut" and request.attempts[-1].candidate.account == "a"
            await made.gateway.reset(None, "a")  # the cut is not what this is about
            told = made.gateway.limits()["accounts"][0]["limits"]["sayso/m"]
            assert (told["windows"], told["soft_limited"]) == (
                [{"name": "own-budget-7d", "remaining_fraction": left, "resets_at": None}],
                soft,
            )
        _, request = await asked(made, stream=True)
        assert request.attempts[-1].candidate.account == "b", "its end is kept for last"
    async with room(FakeTransport([spending(10)]), store=store, budgets=OWN) as made:
        _, request = await asked(made, stream=True)
        assert request.attempts[-1].candidate.rank.soft_limited
        result, request = await asked(made, stream=True)
        assert isinstance(result, Failure) and result.status == 429 and not request.attempts
        assert "RESOURCE_EXHAUSTED" in result.message and "own-budget-7d" in result.message
        assert made.gateway.limits()["accounts"][0]["status"] == "rate_limited"


async def test_an_account_without_a_budget_counts_nothing() -> None:
    store = MemoryStore()
    async with room(FakeTransport([spending(60)]), store=store) as made:
        await asked(made, stream=True)
    assert not [change for change in store.load(NOW) if isinstance(change, Tallied)]


async def test_who_waits_stops_once_the_end_has_moved_further_than_anybody_waits() -> None:
    async with room(FakeTransport([answered()]), policy=Policy(max_wait=30)) as made:
        await trip(made)
        made.clock.at -= 6
        waiting = asyncio.create_task(asked(made))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        made.clock.at += 6
        for _ in range(3):  # others' probes fail meanwhile
            now = made.clock.now()
            made.gateway.pool.learn(AccountId("a"), Lesson(stumbled=True, status=529), now, now)
            made.clock.at = max(made.clock.at, made.gateway.pool.seats[0].breaker.until)
        now = made.clock.now()
        made.gateway.pool.learn(AccountId("a"), Lesson(stumbled=True, status=529), now, now)
        result, _ = await asyncio.wait_for(waiting, 5)
        assert isinstance(result, Failure) and result.status == 529


async def test_a_token_that_cannot_be_had_says_nothing_of_the_address() -> None:
    async with room(FakeTransport([answered()]), bases=["http://one.test"]) as made:
        request = made.exchange()
        seat, failure = made.gateway.pool.seats[0], Failure(Blame.PROVIDER, 502, "api_error", "no token")
        lesson = Lesson(stumbled=True, sick=True)
        assert request._blaming(lesson, seat, 0.0, failure).sick is None
        request._asking.asked = True
        assert request._blaming(lesson, seat, 0.0, failure).sick is True
        await request.close()
