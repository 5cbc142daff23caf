"""What is left, and which models there are: asked of the providers in the background, never on a request's path."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from mcp_proxy.core.failure import Failure, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Access, Provider
from mcp_proxy.core.time import Clock, Instant, after
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.roster import Roster
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.routing.facts import Seat
from mcp_proxy.routing.react import on_quotas

log = structlog.get_logger("mcp_proxy.quotas")

BUSY_SECONDS = 60.0
"""How old a reading of an account in use may get."""

IDLE_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 1800.0
MODELS_SECONDS = 6 * 3600.0
JITTER = 0.2
ASK_SECONDS = 20.0
AT_ONCE = 4
REFRESH_SECONDS = 60.0
"""However often a person asks, an upstream is asked at most this often per account."""


NEVER = Instant(float("-inf"))


@dataclass(slots=True)
class _Schedule:
    """When an account is asked next, and how often in a row that failed."""

    quotas_at: Instant
    models_at: Instant
    read_at: Instant = NEVER
    failures: int = 0


class Readings:
    """Asks each account's provider what is left and what it serves."""

    def __init__(
        self,
        pool: Pool,
        catalog: Catalog,
        tokens: Tokens,
        roster: Roster,
        client: Callable[[AccountId, str], Transport],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._pool, self._catalog, self._tokens, self._roster = pool, catalog, tokens, roster
        self._client, self._clock, self._rng = client, clock, rng
        self._schedules: dict[AccountId, _Schedule] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Ask whoever is due, for ever."""
        while True:
            await self._round()
            await asyncio.sleep(1.0)

    async def _round(self) -> None:
        now = self._clock.now()
        seats = {seat.id: seat for seat in self._pool.seats if seat.account.enabled and seat.account.invalid is None}
        self._schedules = {
            account: self._schedules.get(account) or _Schedule(after(now, self._rng.uniform(0.0, 1.0)), now)
            for account in seats
        }
        due = []
        for account, schedule in self._schedules.items():
            seat = seats[account]
            if schedule.models_at <= now:
                due.append(self._models(seat, schedule))
            if self._due(seat, schedule, now):
                due.append(self._quotas(seat, schedule))
        if due:
            await asyncio.gather(*due)

    def _due(self, seat: Seat, schedule: _Schedule, now: Instant) -> bool:
        if schedule.quotas_at <= now:
            return True
        used = seat.last_used is not None and seat.last_used > schedule.read_at
        return used and schedule.failures == 0 and now - schedule.read_at > BUSY_SECONDS

    async def refresh(self) -> None:
        """Ask every provider that can be asked now, each account at most once a minute."""
        now = self._clock.now()
        seats = [seat for seat in self._pool.seats if seat.account.enabled and seat.account.invalid is None]
        schedules = [(seat, self._schedules.setdefault(seat.id, _Schedule(now, now))) for seat in seats]
        await asyncio.gather(
            *(self._quotas(seat, plan) for seat, plan in schedules if now - plan.read_at >= REFRESH_SECONDS)
        )

    def _asked(self, seat: Seat) -> tuple[Provider, Access, Transport] | None:
        provider, token = self._catalog.provider(seat.account), self._tokens.token(seat.id)
        access = self._catalog.access(seat.account, token) if token else None
        if provider is None or access is None:
            return None
        return provider, access, self._client(seat.id, access.base_url)

    async def _quotas(self, seat: Seat, schedule: _Schedule) -> None:
        now = self._clock.now()
        schedule.read_at = now
        schedule.quotas_at = after(now, self._jittered(IDLE_SECONDS))
        asked = self._asked(seat)
        if asked is None or asked[0].quotas is None:
            return
        provider, access, transport = asked
        read = provider.quotas
        failure: str | None = None
        async with self._places:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    result = await read(transport, access, now) if read else ()
            except (NetworkTrouble, TimeoutError) as trouble:
                failure = str(trouble) or "no answer in time"
            else:
                failure = scrubbed(result, access.token.value.reveal()).message if isinstance(result, Failure) else None
                if not isinstance(result, Failure):
                    self._pool.apply(on_quotas(seat.id, result))
        if failure is None:
            schedule.failures = 0
            return
        schedule.failures += 1
        pause = min(BUSY_SECONDS * 2 ** min(schedule.failures, 10), LONGEST_PAUSE_SECONDS)  # 2**1024 is no float
        schedule.quotas_at = after(now, self._jittered(pause))
        log.info("quota not read", account=seat.id, provider=seat.provider, error=failure[:200])

    async def _models(self, seat: Seat, schedule: _Schedule) -> None:
        now = self._clock.now()
        schedule.models_at = after(now, self._jittered(MODELS_SECONDS))
        asked = self._asked(seat)
        if asked is None or asked[0].discover is None or seat.account.models:
            return
        provider, access, transport = asked
        discover = provider.discover
        async with self._places:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    result = await discover(transport, access, now) if discover else ()
            except (NetworkTrouble, TimeoutError):
                schedule.models_at = after(now, self._jittered(BUSY_SECONDS))
                return
        if isinstance(result, Failure):
            error = scrubbed(result, access.token.value.reveal()).message[:200]
            log.debug("models not listed", account=seat.id, provider=seat.provider, error=error)
        elif result:
            self._roster.discovered(seat.id, result)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)
