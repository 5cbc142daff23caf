"""Readings in the background: who is asked, how often, and what a failure costs. Time is set by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from accounts.model import Account, Credential, Secret, Token
from mcp_proxy.core.change import Used
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import NetworkTrouble, Transport, Trouble
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Minted, Minting
from mcp_proxy.core.quota import Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.quotas import BUSY_SECONDS, IDLE_SECONDS, JITTER, LONGEST_PAUSE_SECONDS, MODELS_SECONDS, Readings
from tests.fakes import FakeResponse, FakeTransport
from tests.mcp_proxy.gateway.kit import SIGN_IN, FakeLedger, HandClock, House, entry, listing, saying, sayso, signed_in
from tests.mcp_proxy.routing.seats import FIVE_HOURS, NOW, at

HALF = (Quota(FIVE_HOURS, 0.5, None, NOW),)
REFUSAL = Failure(Blame.PROVIDER, 500, "api_error", "down")


@dataclass
class Asker:
    """Readings over a fake transport; every request to it is remembered with the second it came."""

    house: House
    readings: Readings
    clock: HandClock
    transport: FakeTransport
    asked: list[tuple[int, str]]

    async def run(self, seconds: int) -> None:
        """So many rounds, one a second."""
        for _ in range(seconds):
            seen = len(self.transport.asked)
            await self.readings._round()
            self.asked += [
                (int(self.clock.at - NOW), request.url.removeprefix("http://say.so/"))
                for request in self.transport.asked[seen:]
            ]
            self.clock.at += 1

    def times(self, what: str = "quota") -> list[int]:
        return [second for second, path in self.asked if path == what]


async def asker(*names: str, seed: int = 1, entries: Sequence[tuple[Account, Credential]] = (), **how: object) -> Asker:
    house = House(FakeLedger([*entries] or [entry(name) for name in names or ("a",)]), sayso(**how))
    await house.roster.load()
    clock, transport = house.clock, FakeTransport([FakeResponse()])
    rng = random.Random(seed)
    readings = Readings(
        house.pool, house.catalog, house.tokens, house.roster, lambda account, base: transport, clock, rng
    )
    return Asker(house, readings, clock, transport, [])


async def test_an_account_is_read_soon_after_the_start_and_then_every_ten_minutes() -> None:
    made = await asker(quotas=saying(HALF))
    await made.run(4 * int(IDLE_SECONDS))
    first, *later = made.times()
    assert first <= 1
    gaps = [after - before for before, after in zip([first, *later], later, strict=False)]
    assert len(gaps) >= 3
    assert all(IDLE_SECONDS * (1 - JITTER) <= gap <= IDLE_SECONDS * (1 + JITTER) + 1 for gap in gaps), gaps
    assert len(set(gaps)) > 1, "not all at the same distance"
    assert made.house.pool.seats[0].quotas[FIVE_HOURS].left == 0.5


async def test_the_jitter_is_the_given_one() -> None:
    async def times(seed: int) -> list[int]:
        made = await asker("a", "b", seed=seed, quotas=saying(HALF))
        await made.run(1500)
        return made.times()

    assert await times(7) == await times(7)
    assert await times(7) != await times(8)


async def test_an_account_in_use_is_read_every_minute() -> None:
    made = await asker(quotas=saying(HALF))
    for second in range(300):
        made.house.pool.apply([Used(made.house.pool.seats[0].id, at(second))])
        await made.run(1)
    gaps = [after - before for before, after in zip(made.times(), made.times()[1:], strict=False)]
    assert len(gaps) >= 3 and all(BUSY_SECONDS <= gap <= BUSY_SECONDS + 2 for gap in gaps), gaps


@pytest.mark.parametrize("trouble", [REFUSAL, NetworkTrouble(Trouble.CUT, sent=True)], ids=["refused", "cut"])
async def test_after_each_failure_it_waits_longer(trouble: Failure | NetworkTrouble) -> None:
    made = await asker(quotas=saying(trouble))
    for second in range(8000):
        if second % 50 == 0:
            made.house.pool.apply([Used(made.house.pool.seats[0].id, at(second))])  # in use or not
        await made.run(1)
    gaps = [after - before for before, after in zip(made.times(), made.times()[1:], strict=False)]
    for gap, pause in zip(gaps, (120, 240, 480, 960, 1800), strict=False):
        assert pause * (1 - JITTER) <= gap <= pause * (1 + JITTER) + 1, gaps
    assert made.house.pool.seats[0].quotas == {}
    assert made.house.pool.seats[0].account.invalid is None


async def test_it_goes_on_after_a_month_of_failures() -> None:
    made = await asker(quotas=saying(REFUSAL))
    for _ in range(1500):
        await made.run(1)
        made.clock.at += LONGEST_PAUSE_SECONDS * (1 + JITTER)
    assert len(made.times()) >= 1499


async def test_a_success_ends_the_row_of_failures() -> None:
    made = await asker(quotas=saying(REFUSAL, REFUSAL, HALF, REFUSAL))
    await made.run(2000)
    gaps = [after - before for before, after in zip(made.times(), made.times()[1:], strict=False)]
    assert gaps[3] <= 120 * (1 + JITTER) + 1, gaps


async def test_a_person_who_asks_is_answered_at_most_once_a_minute_per_account() -> None:
    made = await asker("a", "b", quotas=saying(HALF))
    for second in (0, 1, 59, 60, 61, 119.5, 120):
        made.clock.at = NOW + second
        before = len(made.transport.asked)
        await made.readings.refresh()
        made.asked.append((int(second), str(len(made.transport.asked) - before)))
    assert made.asked == [(0, "2"), (1, "0"), (59, "0"), (60, "2"), (61, "0"), (119, "0"), (120, "2")]


@pytest.mark.parametrize("state", [{"enabled": False}, {"invalid": "revoked"}], ids=["off", "refused"])
async def test_an_account_that_is_not_used_is_not_asked(state: dict[str, object]) -> None:
    made = await asker(quotas=saying(HALF), discover=listing("x"))
    made.house.ledger.write(entry("a", **state))
    await made.house.roster.load()
    await made.run(700)
    await made.readings.refresh()
    assert made.transport.asked == []


async def test_a_provider_that_cannot_be_asked_is_not() -> None:
    made = await asker()
    await made.run(700)
    await made.readings.refresh()
    assert made.transport.asked == []


async def test_models_are_listed_at_the_start_and_every_few_hours() -> None:
    made = await asker(discover=listing("new"))
    await made.run(1)
    held = made.house.pool.seat(AccountId("a"))
    assert held is not None and "new" in held.offers
    made.clock.at += MODELS_SECONDS * (1 - JITTER) - 2
    await made.run(1)
    made.clock.at += MODELS_SECONDS * 2 * JITTER + 2
    await made.run(1)
    assert len(made.times("models")) == 2


async def test_an_account_whose_owner_named_its_models_is_not_asked_for_a_list() -> None:
    made = await asker(discover=listing("new"))
    made.house.ledger.write(entry("a", models=("mine",)))
    await made.house.roster.load()
    await made.run(3)
    assert made.transport.asked == []


async def test_a_reading_of_an_account_that_left_meanwhile_is_dropped() -> None:
    made = await asker("a", "b", quotas=saying(HALF))
    made.house.ledger.write(entry("b"))
    await made.house.roster.load()
    await made.run(3)
    assert set(made.readings._schedules) == {"b"}
    assert Instant(made.clock.at) > NOW


def minting(asked: list[float], refuses: bool = False) -> Callable[..., object]:
    """A provider's way to renew a token, which notes when; each lives an hour."""

    async def mint(transport: Transport, minting: Minting, now: Instant) -> Minted | Failure:
        asked.append(now)
        return REFUSAL if refuses else Minted(Token(Secret(f"sk-fake-minted-{len(asked)}"), now + 3600))

    return mint


async def ended(made: Asker) -> None:
    await made.house.tokens.settle()
    await made.house.jobs.stop()


async def test_readings_of_an_idle_account_cost_no_more_tokens_than_their_life_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_proxy.gateway.minting.KEPT_SECONDS", 0.0)  # of the loop's time, which does not pass here
    minted: list[float] = []
    made = await asker(entries=[signed_in("a")], quotas=saying(HALF), mint=minting(minted), sign_in=SIGN_IN)
    await made.run(3 * 3600)
    assert len(made.times()) >= 15
    assert 3 <= len(minted) <= 4
    await ended(made)


async def test_a_reading_whose_token_is_refused_is_asked_once_more_with_a_new_one() -> None:
    minted: list[float] = []
    refused = Failure(Blame.TOKEN, 401, "authentication_error", "expired")
    flow = {"mint": minting(minted), "sign_in": SIGN_IN}
    made = await asker(entries=[signed_in("a", left=3600.0)], quotas=saying(refused, HALF), **flow)
    await made.run(3)
    assert (len(made.times()), len(minted)) == (2, 1)
    assert made.house.pool.seats[0].quotas[FIVE_HOURS].left == 0.5
    await ended(made)


async def test_models_that_could_not_be_listed_for_want_of_a_token_are_asked_for_again_soon() -> None:
    minted: list[float] = []
    flow = {"discover": listing("m2"), "mint": minting(minted, refuses=True), "sign_in": SIGN_IN}
    made = await asker(entries=[signed_in("a")], **flow)
    await made.run(10)
    assert made.times("models") == []
    assert made.readings._schedules[AccountId("a")].models_at < made.clock.at + 2 * BUSY_SECONDS
    await ended(made)
