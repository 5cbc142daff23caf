"""What is left, and which models there are: asked of the providers in the background, never on a request's path."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import structlog

from accounts.model import secrets_of
from mcp_proxy.core.failure import Blame, Failure, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Access
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
LISTED_SECONDS = 5.0
"""How long a request for a model that nobody is known to have waits for the first lists of models."""

REFRESH_SECONDS = 60.0
"""However often a person asks, an upstream is asked at most this often per account."""

T = TypeVar("T")
Flow: TypeAlias = Callable[[Transport, Access, Instant], Awaitable[T | Failure]]

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
        self._all_asked = asyncio.Event()

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
        self._all_asked.set()

    def ask_anew(self, accounts: Iterable[AccountId]) -> None:
        """Ask these as if they had never been asked: they are asked elsewhere now, or with another key."""
        for account in accounts:
            self._schedules.pop(account, None)

    async def listed(self) -> bool:
        """Wait until every account was asked once which models it has, but not for long. False: that is long past."""
        if self._all_asked.is_set():
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTED_SECONDS):
                await self._all_asked.wait()
        return True

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

    async def _ask(self, seat: Seat, flow: Flow[T]) -> T | Failure:
        """What a flow says, asked once more with a fresh token where that is the trouble. Never waits for long."""
        async with self._places:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    access = await self._tokens.access(seat.account)
                    for again in (False, True):
                        if isinstance(access, Failure):
                            return access
                        result = await flow(self._client(seat.id, access.base_url), access, self._clock.now())
                        if not isinstance(result, Failure):
                            return result
                        result = self._scrubbed(seat, access, result)
                        if again or result.blame is not Blame.TOKEN:
                            return result
                        access = await self._tokens.access(seat.account, access.token)
                    return result
            except (NetworkTrouble, TimeoutError) as trouble:
                return Failure(Blame.NETWORK, 502, "api_error", str(trouble) or "no answer in time")

    def _scrubbed(self, seat: Seat, access: Access, failure: Failure) -> Failure:
        credential = self._tokens.credential(seat.id)
        held = secrets_of(credential) if credential is not None else ()
        return scrubbed(failure, *(secret.reveal() for secret in (access.token.value, *held)))

    async def _quotas(self, seat: Seat, schedule: _Schedule) -> None:
        now = self._clock.now()
        schedule.read_at = now
        schedule.quotas_at = after(now, self._jittered(IDLE_SECONDS))
        provider = self._catalog.provider(seat.account)
        if provider is None or provider.quotas is None:
            return
        result = await self._ask(seat, provider.quotas)
        if not isinstance(result, Failure):
            self._pool.apply(on_quotas(seat.id, result))
            schedule.failures = 0
            return
        schedule.failures += 1
        pause = min(BUSY_SECONDS * 2 ** min(schedule.failures, 10), LONGEST_PAUSE_SECONDS)  # 2**1024 is no float
        schedule.quotas_at = after(now, self._jittered(pause))
        log.info("quota not read", account=seat.id, provider=seat.provider, error=result.message[:200])

    async def _models(self, seat: Seat, schedule: _Schedule) -> None:
        now = self._clock.now()
        schedule.models_at = after(now, self._jittered(MODELS_SECONDS))
        provider = self._catalog.provider(seat.account)
        if provider is None or provider.discover is None or seat.account.models:
            return
        result = await self._ask(seat, provider.discover)
        if isinstance(result, Failure):
            if result.blame is Blame.NETWORK or self._tokens.ready(seat.account) is None:
                schedule.models_at = after(now, self._jittered(BUSY_SECONDS))
            log.debug("models not listed", account=seat.id, provider=seat.provider, error=result.message[:200])
        elif result:
            self._roster.discovered(seat.id, result)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)
