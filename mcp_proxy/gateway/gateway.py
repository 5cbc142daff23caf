"""The front of the gateway: what the server asks of it, and the parts it is made of."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from accounts.model import Account, Credential, OAuthGrant
from mcp_proxy.core.change import StateStore
from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Transport, header
from mcp_proxy.core.ids import AccountId, ProviderName, RequestId
from mcp_proxy.core.journal import By, Journal, Question
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.prices import Price, Prices
from mcp_proxy.core.time import Clock, Instant
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.gateway import explain, metrics, report, usage
from mcp_proxy.gateway.callers import Callers
from mcp_proxy.gateway.catalog import Catalog, Options
from mcp_proxy.gateway.counting import Counter
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.gateway.gate import Gate
from mcp_proxy.gateway.jobs import Jobs
from mcp_proxy.gateway.keeping import Keeper
from mcp_proxy.gateway.ledger import Ledger
from mcp_proxy.gateway.logins import ReadLogin, no_login
from mcp_proxy.gateway.metrics import Counters
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.quotas import Readings
from mcp_proxy.gateway.recording import RETENTION_DAYS, Recorder
from mcp_proxy.gateway.roster import Roster
from mcp_proxy.gateway.sampling import Sampler
from mcp_proxy.gateway.surroundings import Surroundings
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.routing.budget import Budget
from mcp_proxy.routing.facts import Policy

BUDGET_SECONDS = 300.0
CLIENT_MARGIN_SECONDS = 5.0
"""Attempts, holding and waiting end this long before the client's own timeout."""

REFRESH_SECONDS = 15.0
RECENTLY_SECONDS = 1800.0
"""An account that was used within this time has its token renewed before anybody waits for it."""

RECENT = 256
BUDGETS_SECONDS = 15.0


class Clients(Protocol):
    """The HTTP clients, one per account and host."""

    def get(self, account: AccountId, base_url: str) -> Transport: ...
    def keep_only(self, accounts: Sequence[AccountId]) -> None: ...
    async def aclose(self) -> None: ...


class Gateway:
    """Many accounts behind one Messages API.

    recent    the last exchanges, newest last, for whoever wants to tell what happened
    recorder  what became of every request, long ago too; without a journal it keeps nothing
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        fixed: Sequence[tuple[Account, Credential]],
        store: StateStore,
        catalog: Catalog,
        clients: Clients,
        policy: Policy,
        clock: Clock,
        rng: random.Random,
        login: ReadLogin = no_login,
        callers: Callers | None = None,
        journal: Journal | None = None,
        retention_days: float | None = RETENTION_DAYS,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        callers = callers or Callers(secrets.token_bytes(32))
        self.policy, self._clock, self._store, self._clients = policy, clock, store, clients
        self.draining = asyncio.Event()
        self._jobs = Jobs()
        self._keeper = Keeper(store)
        self._prices = Prices(prices or {})
        self.recorder = Recorder(journal, clock, retention_days)
        self.pool = Pool(self._keeper.record, rng.random, f"{rng.getrandbits(64):016x}")
        self.counters = Counters()
        self._tokens = Tokens(catalog, clients.get, ledger, self._jobs, clock, rng)
        self._tokens.login = login
        self._catalog = catalog
        self._gates: dict[str, Gate] = {}
        self.recent: deque[Exchange] = deque(maxlen=RECENT)
        self.roster = Roster(ledger, fixed, catalog, self.pool, self._tokens, self._jobs, clients.keep_only)
        self._tokens.refused = self.roster.refused
        self._readings = Readings(self.pool, catalog, self._tokens, self.roster, clients.get, clock, rng)
        self.calibration = Calibration()
        self._counter = Counter(self.pool, catalog, self._tokens, clients.get, policy, clock, self.calibration, callers)
        self._around = Surroundings(
            pool=self.pool,
            catalog=catalog,
            tokens=self._tokens,
            client=clients.get,
            policy=policy,
            clock=clock,
            draining=self.draining,
            gate=self._gate,
            refused=self.roster.refused,
            listed=self._readings.listed,
            calibration=self.calibration,
            sampler=Sampler(self.calibration, self._jobs, clock),
            callers=callers,
            record=self.recorder.record,
            counters=self.counters,
        )

    async def start(self) -> None:
        """Read accounts and what is remembered of them, then begin the background work."""
        await self.roster.load()
        self.pool.restore(await asyncio.to_thread(self._store.load, self._clock.now()))
        self.pool.read_budgets(self._clock.now())
        jobs: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("accounts", self.roster.follow),
            ("quotas", self._readings.run),
            ("state", self._keeper.run),
            ("journal", self.recorder.run),
            ("budgets", self._read_budgets),
            ("tokens", lambda: self._tokens.keep_fresh(self._in_use)),
        )
        for name, job in jobs:
            self._jobs.run_forever(name, job)

    def reconfigure(
        self,
        *,
        policy: Policy,
        options: Mapping[ProviderName, Options],
        fixed: Sequence[tuple[Account, Credential]],
        budgets: Mapping[str, tuple[Budget, ...]] | None = None,
        retention_days: float | None = RETENTION_DAYS,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        """Go on with other settings. A request under way keeps the policy that it began with.

        What is known of accounts that stay is kept.
        """
        self._prices = Prices(prices or {})
        self.recorder.keep_for(retention_days)
        self.policy = self._counter.policy = policy
        self._around = replace(self._around, policy=policy)
        self._readings.ask_anew(self.roster.refit(fixed, options, budgets or {}))
        self.pool.read_budgets(self._clock.now())

    def background(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Work that lasts as long as the gateway does: begun again when it ends or fails."""
        self._jobs.run_forever(name, job)

    async def stop(self) -> None:
        """End the background work, keep what was learnt, close the connections."""
        await self._tokens.settle()
        await self._jobs.stop()
        await self._keeper.flush()
        await asyncio.to_thread(self._store.close)
        await self.recorder.close()
        await self._clients.aclose()

    def drain(self) -> None:
        """Take no more waiting: those who wait are answered at once."""
        self.draining.set()

    def exchange(self, ask: Ask, request: RequestId) -> Exchange:
        """A client's request, not yet begun."""
        known = msgspec.structs.replace(ask, id=request, at=self._clock.now())
        exchange = Exchange(known, request, self._around, budget(ask))
        self.recent.append(exchange)
        return exchange

    async def count_tokens(self, ask: Ask, request: RequestId) -> int | Failure:
        """Input tokens of a request."""
        return await self._counter.count(ask, request)

    async def refresh_quotas(self) -> None:
        """Ask the providers now, as far as they may be asked; what is slow comes later by itself."""
        asking = self._jobs.start("refresh", self._readings.refresh())
        await asyncio.wait({asking}, timeout=REFRESH_SECONDS)

    async def refresh_tokens(self) -> dict[AccountId, str | None]:
        """Renew the tokens of all accounts that have such: None, or why that failed."""
        enabled = [seat.account for seat in self.pool.seats if seat.account.enabled]
        told = await self._tokens.renew_all(account for account in enabled if account.invalid is None)
        return told | {
            account.id: account.invalid
            for account in enabled
            if account.invalid is not None and isinstance(self._tokens.credential(account.id), OAuthGrant)
        }

    async def _read_budgets(self) -> None:
        """Say what is left of the budgets, again and again: what was used up long ago is free again."""
        while True:
            await asyncio.sleep(BUDGETS_SECONDS)
            self.pool.read_budgets(self._clock.now())

    async def reset(self, provider: str | None, account: str | None) -> dict[str, Any] | list[str] | None:
        """Close breakers and forget limits of the accounts that are named, by default of all.

        account  an id, a label, or `provider/label`

        None: there is no such account. Names: `account` is the label of all of these, and nothing was done.
        """
        matching = [
            seat
            for seat in self.pool.seats
            if provider in (None, seat.provider)
            and account in (None, seat.id, seat.account.label, f"{seat.provider}/{seat.account.label}")
        ]
        if not matching and (provider, account) != (None, None):
            return None
        if account is not None and len(matching) > 1:
            return sorted(seat.account.name for seat in matching)
        forgotten = self.pool.reset([seat.id for seat in matching], self._clock.now())
        await self._keeper.flush()
        return report.resets(matching, forgotten)

    def metrics(self) -> str:
        """The `/metrics` document."""
        return metrics.exposition(self.counters, self.pool.seats, self._clock.now(), self.pool.callers)

    def _in_use(self) -> list[Account]:
        """The accounts that may be asked again soon."""
        since = self._clock.now() - RECENTLY_SECONDS
        return [
            seat.account
            for seat in self.pool.seats
            if seat.account.enabled and seat.account.invalid is None and (seat.last_used or since) > since
        ]

    def now(self) -> Instant:
        """The time that decisions are made by."""
        return self._clock.now()

    @property
    def ready(self) -> bool:
        """Able to serve: the store was read, and we are not going down."""
        return self.roster.open and not self.draining.is_set()

    def limits(self) -> dict[str, Any]:
        """The `/account-limits` document."""
        return report.limits(self.pool.seats, self.policy, self._clock.now(), self.pool.callers)

    async def why(self, request: str | None) -> dict[str, Any] | None:
        """The `/why` document of a request, by either id; None asks for the newest, and tells that there is none.

        Raises `OSError` where the journal cannot be read.
        """
        row = await self.recorder.find(request)
        return None if row is None else explain.document(row, self.pool.seats)

    async def usage(self, days: int, by: By, provider: str | None) -> dict[str, Any]:
        """The `/usage` document. Raises `OSError` where the journal cannot be read."""
        question = Question(self._clock.now(), days, by, provider, self._prices.borders)
        return usage.report(question, await self.recorder.used(question), self._prices, self.pool.seats)

    def upstreams(self) -> list[dict[str, Any]]:
        """The breakers of the upstreams, for `/health`."""
        return report.upstreams(self.pool.seats, self._clock.now())

    def health(self) -> str:
        """ok, degraded or down."""
        draining, callers = self.draining.is_set(), self.pool.callers
        return report.health(self.pool.seats, self.policy, self._clock.now(), draining=draining, callers=callers)

    def models(self, *, for_claude: bool) -> list[dict[str, Any]]:
        """The entries of `/v1/models`."""
        policy = self.policy
        plain = not (policy.aliases or policy.own_aliases or policy.tiers)
        return report.models(
            self.pool.seats,
            policy,
            self._clock.now(),
            for_claude=for_claude,
            resolved=None if plain else lambda name: self._catalog.resolve(name, self.pool, policy),
        )

    def serves(self, name: str) -> bool:
        """Whether somebody serves a model name."""
        return bool(self._catalog.resolve(name, self.pool, self.policy).serving)

    def picture_model(self) -> str | None:
        """The first model that makes pictures; None where no account has one."""
        offers = (offer for seat in self.pool.seats if seat.account.enabled for offer in seat.offers.values())
        return next((offer.model for offer in offers if offer.pictures), None)

    def _gate(self, model: str) -> Gate:
        if len(self._gates) > RECENT:
            self._gates.clear()
        return self._gates.setdefault(model, Gate())


def budget(ask: Ask) -> float:
    """Seconds a request may take until its first content: 300, or less where the client says it waits less."""
    allowed = BUDGET_SECONDS
    for name in ("x-stainless-timeout", "x-stainless-read-timeout"):
        try:
            seconds = float(header(ask.headers, name) or "nan")
        except ValueError:
            continue
        if 0.0 < seconds < float("inf"):
            allowed = min(allowed, max(seconds - CLIENT_MARGIN_SECONDS, 1.0))
    return allowed
