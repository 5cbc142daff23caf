"""Tokens for a command: minted on the same way as the server's, so that neither spends the other's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from accounts.model import Account, AccountId, Credential, OAuthGrant
from accounts.vault.errors import VaultError
from mcp_proxy.cli.adapters import make_catalog, open_vault
from mcp_proxy.cli.claude_code import read
from mcp_proxy.cli.clock import SystemClock
from mcp_proxy.cli.ledger import VaultLedger
from mcp_proxy.cli.logs import LEVELS
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.jobs import Jobs
from mcp_proxy.gateway.ledger import Ledger
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.settings import Settings
from mcp_proxy.transport.client import Client, tls


class Unstored:
    """The ledger of an account that is not in the store, or not with this credential: nothing is kept of it."""

    def read(self) -> Sequence[tuple[Account, Credential]]:
        return ()

    def stamp(self) -> object:
        return 0

    def mark_invalid(self, account: AccountId, credential: Credential, why: str) -> None: ...
    def renew(self, account: AccountId, before: OAuthGrant, after: OAuthGrant) -> None: ...
    def learn(self, account: AccountId, credential: Credential, learnt: Mapping[str, str]) -> None: ...

    def alone(self, account: AccountId) -> Callable[[], None]:
        return lambda: None


@dataclass(frozen=True, slots=True)
class Work:
    """What a command asks a provider with."""

    catalog: Catalog
    client: Client
    clock: SystemClock
    tokens: Tokens


@contextlib.asynccontextmanager
async def at_work(settings: Settings, account: Account, credential: Credential) -> AsyncIterator[Work]:
    """The means to ask about one account, and their end. Blocks on the store, as a command may."""
    with _quiet(settings):
        async with _at_work(settings, account, credential) as work:
            yield work


@contextlib.contextmanager
def _quiet(settings: Settings) -> Iterator[None]:
    """What is logged is for who runs a server: a command says it itself, once, in its own words."""
    before = structlog.get_config()["wrapper_class"]
    if settings.log.level != "debug":
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS["silent"]))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)


@contextlib.asynccontextmanager
async def _at_work(settings: Settings, account: Account, credential: Credential) -> AsyncIterator[Work]:
    client, catalog, clock, jobs = Client(tls()), make_catalog(settings), SystemClock(), Jobs()
    ledger, credential = _ledger_of(settings, account, credential)
    rng = random.Random()  # noqa: S311 - jitter, not a secret
    tokens = Tokens(catalog, lambda known, url: client, ledger, jobs, clock, rng)
    tokens.login = read
    tokens.refused = lambda known, refused, why: _mark(ledger, known, refused, why)
    tokens.replace_all({account.id: credential})
    try:
        yield Work(catalog, client, clock, tokens)
    finally:
        await tokens.settle()
        await jobs.stop()
        await client.aclose()


def _mark(ledger: Ledger, account: AccountId, credential: Credential, why: str) -> None:
    with contextlib.suppress(VaultError):  # the command says why it was refused; the server would find out too
        ledger.mark_invalid(account, credential, why)


def _ledger_of(settings: Settings, account: Account, credential: Credential) -> tuple[Ledger, Credential]:
    """The store and what it holds of the account now: a server may have had the sign-in renewed since it was read.

    An account that is not stored yet is asked about with what was given, and nothing is kept of it.
    """
    if not isinstance(credential, OAuthGrant):
        return Unstored(), credential
    ledger = VaultLedger(open_vault(settings))
    held = next((held for known, held in ledger.read() if known.id == account.id), None)
    return (Unstored(), credential) if held is None else (ledger, held)
