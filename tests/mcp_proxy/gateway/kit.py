"""What the gateway's tests share: a clock that is set by hand, providers that say what they are told, a ledger."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from accounts.model import (
    Account,
    ApiKey,
    ApiKeySignIn,
    BrowserSignIn,
    Credential,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
    Verdict,
    Works,
    same_credential,
)
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import Transport, UpstreamRequest
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access, Listed, Offer, Provider, Serves
from mcp_proxy.core.quota import Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.catalog import Catalog, Options
from mcp_proxy.gateway.jobs import Jobs
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.roster import Roster
from mcp_proxy.gateway.tokens import Tokens
from tests.fakes import FakeResponse, FakeTransport
from tests.mcp_proxy.routing.seats import MODEL, NOW

SIGN_IN = BrowserSignIn(
    authorize_url="http://say.so/authorize",
    token_url="http://say.so/token",
    userinfo_url="http://say.so/me",
    scopes=("all",),
    client_names=("SAYSO_CLIENT_ID", "SAYSO_CLIENT_SECRET"),
)
CLIENT = OAuthClient("client-of-a-test", Secret("sk-fake-client-secret"))


@dataclass(slots=True)
class HandClock:
    """Says what it is set to."""

    at: float = NOW

    def now(self) -> Instant:
        return Instant(self.at)


@dataclass(slots=True)
class FakeLedger:
    """A ledger in memory. `write` is what another process does; `trouble` is raised by every read."""

    entries: list[tuple[Account, Credential]]
    trouble: Exception | None = None
    version: int = 0
    reads: int = 0
    looks: int = 0
    marked: list[tuple[str, str]] = field(default_factory=list)
    renewed: list[tuple[str, OAuthGrant]] = field(default_factory=list)
    alone_with: set[str] = field(default_factory=set)
    saving: Callable[[], object] = lambda: None

    def read(self) -> Sequence[tuple[Account, Credential]]:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return list(self.entries)

    def stamp(self) -> object:
        self.looks += 1
        return self.version

    def mark_invalid(self, account: AccountId, credential: Credential, why: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.marked.append((account, why))

    def renew(self, account: AccountId, before: OAuthGrant, after: OAuthGrant) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.saving()
        self.renewed.append((account, after))
        self._put(account, before, lambda known: (known, after))

    def learn(self, account: AccountId, credential: Credential, learnt: Mapping[str, str]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self._put(
            account, credential, lambda known: (replace(known, extra={**known.extra, **learnt}), self.held(account))
        )

    def alone(self, account: AccountId) -> Callable[[], None] | None:
        if account in self.alone_with:
            return None
        self.alone_with.add(account)
        return lambda: self.alone_with.discard(account)

    def held(self, account: str) -> Credential:
        return next(credential for known, credential in self.entries if known.id == account)

    def _put(
        self, account: AccountId, before: Credential, change: Callable[[Account], tuple[Account, Credential]]
    ) -> None:
        self.write(
            *(
                change(known) if known.id == account and same_credential(credential, before) else (known, credential)
                for known, credential in self.entries
            )
        )

    def write(self, *entries: tuple[Account, Credential]) -> None:
        self.entries = list(entries)
        self.version += 1


def entry(name: str, provider: str = "sayso", **fields: object) -> tuple[Account, Credential]:
    return Account(AccountId(name), provider, name, **fields), ApiKey(Secret(f"sk-fake-key-of-{name}"))  # type: ignore[arg-type]


def grant(name: str, left: float | None = -1.0, client: OAuthClient | None = CLIENT) -> OAuthGrant:
    """A grant whose token has `left` seconds to live; None: it has no token yet."""
    token = None if left is None else Token(Secret(f"sk-fake-stored-token-of-{name}"), NOW + left)
    return OAuthGrant(Secret(f"sk-fake-refresh-of-{name}"), client, token)


def signed_in(name: str, left: float | None = -1.0, **fields: object) -> tuple[Account, OAuthGrant]:
    account, _ = entry(name, **fields)  # type: ignore[arg-type]
    return account, grant(name, left)


async def _verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    return Verdict(Works.YES)


def _request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest:
    headers = (("x-api-key", access.token.value.reveal()),)
    return UpstreamRequest(
        "POST", f"{access.base_url}{ask.endpoint}", headers, ask.body.replace(b"MODEL", offer.model.encode())
    )


def _failure(refusal: Refusal, offer: Offer, now: Instant) -> Failure:
    return Failure(Blame.PROVIDER, refusal.status, "api_error", refusal.body.decode())


def sayso(**how: object) -> Provider:
    """A provider that serves `m`; its flows are given."""
    filled: dict[str, object] = {
        "name": ProviderName("sayso"),
        "title": "Say-so",
        "base_url": "http://say.so",
        "auth": "x-api-key",
        "sign_in": ApiKeySignIn(),
        "serves": Serves((Offer(MODEL),)),
        "request": _request,
        "read_failure": _failure,
        "verify": _verify,
    }
    return Provider(**(filled | how))  # type: ignore[arg-type]


def saying(*results: tuple[Quota, ...] | Failure | Exception) -> Callable[..., object]:
    """A quota flow that says these in turn, the last for ever."""
    said = list(results)

    async def read(transport: Transport, access: Access, now: Instant) -> tuple[Quota, ...] | Failure:
        await transport.send(UpstreamRequest("GET", access.at("quota_url", "/quota"), ()))
        result = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(result, Exception):
            raise result
        return result

    return read


def listing(*models: str) -> Callable[..., object]:
    async def discover(transport: Transport, access: Access, now: Instant) -> tuple[Listed, ...]:
        await transport.send(UpstreamRequest("GET", access.at("models_url", "/models"), ()))
        return tuple(Listed(ModelId(model)) for model in models)

    return discover


@dataclass
class House:
    """The parts around a roster, wired as the gateway wires them."""

    ledger: FakeLedger
    provider: Provider
    fixed: Sequence[tuple[Account, Credential]] = ()
    used: list[list[str]] = field(default_factory=list)
    options: Mapping[ProviderName, Options] = field(default_factory=dict)
    transport: Transport = field(default_factory=lambda: FakeTransport([FakeResponse()]))

    def __post_init__(self) -> None:
        self.catalog = Catalog({self.provider.name: self.provider}, self.options)
        self.pool, self.jobs, self.clock = Pool(), Jobs(), HandClock()
        self.tokens = Tokens(
            self.catalog, lambda account, url: self.transport, self.ledger, self.jobs, self.clock, random.Random(1)
        )
        self.roster = Roster(
            self.ledger,
            self.fixed,
            self.catalog,
            self.pool,
            self.tokens,
            self.jobs,
            lambda ids: self.used.append([*ids]),
        )
        self.tokens.refused = self.roster.refused

    @property
    def names(self) -> list[str]:
        return [seat.id for seat in self.pool.seats]


async def until(holds: Callable[[], object], seconds: float = 3.0) -> None:
    """Wait until something is so. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.002)
