"""A new token: minted by one process alone, and durable before anybody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import quote_plus

import structlog

from accounts.model import Account, BrowserSignIn, OAuthClient, OAuthGrant, secrets_of
from mcp_proxy.core.failure import Blame, Failure, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Minted, Minting, Provider
from mcp_proxy.core.time import Clock
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.held import Held, told
from mcp_proxy.gateway.jobs import FIRST_PAUSE, LONGEST_PAUSE, Jobs
from mcp_proxy.gateway.ledger import Ledger

log = structlog.get_logger("mcp_proxy.tokens")

MINT_SECONDS = 30.0
ALONE_SECONDS = 45.0
"""How long another process may take to renew the same token: its question, and its save."""

LOOK_SECONDS = 0.05
KEPT_SECONDS = 60.0
"""A new token is used this long at least, so that a wrong expiry or clock has nobody mint in a loop."""


class Minter:
    """Renews the token of one account at a time per issuer.

    writing  held while the ledger is written: threads that wait for its lock only get in each other's way
    """

    def __init__(
        self,
        catalog: Catalog,
        client: Callable[[AccountId, str], Transport],
        ledger: Ledger,
        jobs: Jobs,
        clock: Clock,
        current: Callable[[AccountId], Held | None],
    ) -> None:
        self._catalog, self._client, self._ledger = catalog, client, ledger
        self._jobs, self._clock, self._current = jobs, clock, current
        self._issuers: dict[str, asyncio.Lock] = {}
        self._unlocked = False
        self.writing = asyncio.Lock()

    async def renew(
        self, account: Account, provider: Provider, held: Held, wanted: Callable[[], bool]
    ) -> Failure | None:
        """Mint, unless another process has done so by the time it is our turn.

        wanted  whether what is held then has still to be renewed
        """
        issuer = self._issuer(account, provider)
        async with self._issuers.setdefault(issuer, asyncio.Lock()):
            release = await self._alone(account)
            if isinstance(release, Failure):
                return release
            try:
                await self._read_again(account, held)
                return await self._mint(account, provider, held, issuer) if wanted() else None
            finally:
                release()

    def client_of(self, account: Account, grant: OAuthGrant) -> OAuthClient | None:
        """The client to mint with: a refresh token is good with its own alone, whose secret may be configured anew."""
        configured = self._catalog.options(account).client
        own = grant.client
        return configured if own is None or (configured is not None and configured.id == own.id) else own

    def _issuer(self, account: Account, provider: Provider) -> str:
        options, sign_in = self._catalog.options(account), provider.sign_in
        own = sign_in.token_url if isinstance(sign_in, BrowserSignIn) else f"//{provider.name}"
        return options.urls.get("token_url", own)

    async def _alone(self, account: Account) -> Callable[[], None] | Failure:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ALONE_SECONDS
        while True:
            try:
                release = await asyncio.to_thread(self._ledger.alone, account.id)
            except Exception as exc:  # a folder nobody can write to: then no other process can save a token either
                if not self._unlocked:
                    log.warning("tokens are renewed without a lock", error=str(exc))
                self._unlocked = True
                return _nothing
            if release is not None:
                return release
            if loop.time() > deadline:
                return _failure(Blame.PROVIDER, 503, "another process is renewing the token and does not finish")
            await asyncio.sleep(LOOK_SECONDS)

    async def _read_again(self, account: Account, held: Held) -> None:
        try:
            entries = await asyncio.to_thread(self._ledger.read)
        except Exception as exc:  # what is in memory serves, as everywhere; who follows the store names its trouble
            log.debug("store not read before renewing", account=account.id, error=str(exc))
            return
        for known, credential in entries:
            if known.id == account.id:
                held.take(credential)

    async def _mint(self, account: Account, provider: Provider, held: Held, issuer: str) -> Failure | None:
        grant, mint = held.credential, provider.mint
        if mint is None or not isinstance(grant, OAuthGrant):
            return _failure(Blame.CONFIG, 500, f"{provider.name}: there is no way to renew its tokens")
        client = self.client_of(account, grant)
        if client is None:
            return _failure(Blame.CONFIG, 500, _missing(provider))
        minting = Minting(grant, client, self._catalog.options(account).urls)
        result = await self._ask(mint(self._client(account.id, issuer), minting, self._clock.now()))
        if isinstance(result, Failure):
            return _scrubbed(told(result), grant, client)
        renewed = replace(grant, refresh_token=result.refresh_token or grant.refresh_token, token=result.token)
        await self._keep(account.id, held, renewed)
        held.kept = asyncio.get_running_loop().time() + KEPT_SECONDS
        held.dropped = None
        log.info("token renewed", account=account.id, provider=account.provider)
        return None

    async def _ask(self, asking: Awaitable[Minted | Failure]) -> Minted | Failure:
        try:
            async with asyncio.timeout(MINT_SECONDS):
                return await asking
        except TimeoutError:
            return _failure(Blame.NETWORK, 504, f"the token endpoint gave no answer within {MINT_SECONDS:g} s")
        except NetworkTrouble as trouble:
            return _failure(Blame.NETWORK, 502, f"the token endpoint: {trouble}")
        except Exception as exc:  # a form that breaks is no reason to ask with every request
            log.error("renewing a token broke", error=type(exc).__name__)
            return _failure(Blame.PROVIDER, 502, "the token endpoint's answer cannot be read")

    async def _keep(self, account: AccountId, held: Held, renewed: OAuthGrant) -> None:
        """Save what was minted, then use it; where it cannot be saved it is used from memory, and saved later."""
        async with self.writing:
            grant, retrying = held.credential, held.stored is not None
            before = held.stored or (grant if isinstance(grant, OAuthGrant) else renewed)
            try:
                # a client that leaves, or a shutdown, does not stop what must not be lost
                await asyncio.shield(asyncio.to_thread(self._ledger.renew, account, before, renewed))
            except Exception as exc:
                held.stored = before
                if not retrying:
                    log.error("renewed token not saved, used from memory", account=account, error=str(exc))
                    self._jobs.start("save token", self._keep_later(account, held))
            else:
                held.stored = None
            held.credential, held.token = renewed, renewed.token

    async def _keep_later(self, account: AccountId, held: Held) -> None:
        """Save again and again, until it works or the account has another credential."""
        pause = FIRST_PAUSE
        while held.stored is not None and self._current(account) is held:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            await self.save_now(account, held)

    async def save_now(self, account: AccountId, held: Held) -> None:
        """Save what could not be saved yet, if that works by now."""
        async with self.writing:
            if held.stored is None or not isinstance(held.credential, OAuthGrant):
                return
            try:
                await asyncio.shield(asyncio.to_thread(self._ledger.renew, account, held.stored, held.credential))
            except Exception as exc:
                log.debug("renewed token still not saved", account=account, error=str(exc))
            else:
                held.stored = None
                log.info("renewed token saved", account=account)


def _nothing() -> None:
    """What ends a lock that could not be taken."""


def _failure(blame: Blame, status: int, message: str) -> Failure:
    return Failure(blame, status, "timeout_error" if status == 504 else "api_error", message)


def _missing(provider: Provider) -> str:
    sign_in = provider.sign_in
    names = sign_in.client_names if isinstance(sign_in, BrowserSignIn) else None
    return f"{provider.name}: no OAuth client is configured" + (f"; set {' and '.join(names)}" if names else "")


def _scrubbed(failure: Failure, grant: OAuthGrant, client: OAuthClient) -> Failure:
    secrets = [secret.reveal() for secret in (*secrets_of(grant), *((client.secret,) if client.secret else ()))]
    # an endpoint that quotes the form it was sent quotes the secrets in it as a form has them
    return scrubbed(failure, *secrets, *map(quote_plus, secrets))
