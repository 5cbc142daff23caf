"""`proxy accounts`: the ports of `accounts.cli`, filled with what this program has. Imported when it is used."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from accounts.cli.app import build
from accounts.cli.ports import AccountState, Ports, ProviderInfo
from accounts.cli.terminal import StandardTerminal
from accounts.model import (
    Account,
    AccountId,
    BrowserSignIn,
    CallersOwn,
    ClaudeCodeLogin,
    Credential,
    Entry,
    OAuthClient,
    OAuthGrant,
    SignIn,
    Verdict,
    Works,
    secrets_of,
)
from mcp_proxy.providers import all_providers
from mcp_proxy.settings import PROVIDERS, Settings, from_process

if TYPE_CHECKING:
    from accounts.vault.vault import Vault
    from mcp_proxy.cli.minting import Work
    from mcp_proxy.core.failure import Failure
    from mcp_proxy.core.provider import Access, Provider

VERIFY_SECONDS = 90.0
"""A provider may have to set an account up before it can say whether it works."""
AGAIN_SECONDS = 2.0
"""Between two questions to a provider that is still at it: other clients of Google's wait 2 to 5."""

# What is heavy (the HTTP client, TinyDB, SQLite) is imported by the port that needs it.


@cache
def settings() -> Settings:
    """The settings of this process."""
    return from_process()


def vault() -> Vault:
    """The account store."""
    from mcp_proxy.cli.adapters import open_vault

    return open_vault(settings())


def verify(account: Account, credential: Credential) -> Verdict:
    """Ask the account's provider whether its credential works; blocks."""
    if isinstance(credential, CallersOwn):
        return Verdict(Works.YES, "nothing to ask about: each request brings its caller's own login")
    import asyncio

    return asyncio.run(_verify(account, credential))


async def _verify(account: Account, credential: Credential) -> Verdict:
    from mcp_proxy.cli.minting import at_work

    async with at_work(settings(), account, credential) as work:
        provider = work.catalog.provider(account)
        if provider is None or work.catalog.base_url(account) is None:
            return Verdict(Works.UNREACHABLE, f"{account.provider}: no such provider, or no address")
        verdict = await _asked(work, provider, account, credential)
        held = work.tokens.credential(account.id) or credential
        detail = verdict.detail
        for secret in (*secrets_of(credential), *secrets_of(held)):
            detail = detail.replace(secret.reveal(), "…")
        return replace(verdict, detail=detail, credential=held)


async def _asked(work: Work, provider: Provider, account: Account, credential: Credential) -> Verdict:
    """What the provider says; of a sign-in with a token that is not the one it refused before."""
    from mcp_proxy.core.failure import Failure

    minted = isinstance(credential, OAuthGrant)
    if minted and account.invalid is not None and (failure := await work.tokens.renewed(account)):
        return _failed(failure)  # its token may live on for a while; the sign-in is what was refused
    access = await work.tokens.signed(account)
    if isinstance(access, Failure):
        return _failed(access)
    verdict = await _patiently(work, provider, access)
    if minted and verdict.works is Works.REFUSED:
        # it may be the token alone that was refused, which says nothing of the account
        access = await work.tokens.signed(account, access.token)
        verdict = _failed(access) if isinstance(access, Failure) else await _patiently(work, provider, access)
    return verdict


async def _patiently(work: Work, provider: Provider, access: Access) -> Verdict:
    """Ask, and ask again while the provider is at work on it."""
    import asyncio

    from mcp_proxy.core.http import NetworkTrouble

    verdict, told = Verdict(Works.UNREACHABLE, f"no answer within {VERIFY_SECONDS:g} s"), False
    try:
        async with asyncio.timeout(VERIFY_SECONDS):
            while True:
                verdict = await provider.verify(work.client, access, work.clock.now())
                if not verdict.again:
                    break
                if not told:
                    StandardTerminal().show(f"{provider.title} is still at work on it: up to {VERIFY_SECONDS:g} s …")
                    told = True
                await asyncio.sleep(AGAIN_SECONDS)
    except NetworkTrouble as trouble:
        return Verdict(Works.UNREACHABLE, str(trouble))
    except TimeoutError:
        pass
    return replace(verdict, detail=verdict.detail.replace(access.token.value.reveal(), "…"))


def _failed(failure: Failure) -> Verdict:
    """A sign-in that gives no token."""
    from mcp_proxy.core.failure import Blame

    return Verdict(Works.REFUSED if failure.blame is Blame.ACCOUNT else Works.UNREACHABLE, failure.message)


def refresh(account: Account, credential: Credential) -> str | None:
    """Renew the account's token, and keep it; blocks. None: it is renewed; else why not."""
    import asyncio

    return asyncio.run(_refresh(account, credential))


async def _refresh(account: Account, credential: Credential) -> str | None:
    from mcp_proxy.cli.minting import at_work

    async with at_work(settings(), account, credential) as work:
        failure = await work.tokens.renewed(account)
        return failure.message if failure is not None else None


def claude_login() -> ClaudeCodeLogin | None:
    """Where Claude Code keeps its user's login on this machine."""
    from mcp_proxy.cli.claude_code import find

    return find()


def recipe(provider: ProviderInfo) -> SignIn:
    """How a provider is signed in to, at the addresses that the operator set."""
    made = provider.sign_in
    if not isinstance(made, BrowserSignIn):
        return made
    urls = settings().provider(provider.name).urls
    return replace(
        made,
        authorize_url=urls.get("authorize_url", made.authorize_url),
        token_url=urls.get("token_url", made.token_url),
        userinfo_url=urls.get("userinfo_url", made.userinfo_url),
    )


def oauth_client(provider: str) -> OAuthClient | None:
    """The OAuth client that the settings hold for a provider; None where its id or its secret is not set."""
    from mcp_proxy.cli import adapters

    form = next((form for name, form in all_providers().items() if name == provider), None)
    client = adapters.oauth_client(settings(), form) if form is not None else None
    return client if client is not None and client.secret is not None else None


def address(account: Account) -> str | None:
    """Where the account is asked, with what the operator set."""
    from mcp_proxy.cli.adapters import make_catalog

    return make_catalog(settings()).base_url(account)


def limits() -> Mapping[AccountId, AccountState]:
    """What a server last kept of each account; empty where none ever ran."""
    from mcp_proxy.cli.adapters import configured_accounts, make_catalog, make_policy
    from mcp_proxy.cli.clock import SystemClock
    from mcp_proxy.gateway import report
    from mcp_proxy.gateway.pool import Pool
    from mcp_proxy.state.sqlite import SqliteStore

    catalog, policy, now = make_catalog(settings()), make_policy(settings()), SystemClock().now()
    stored = [(entry.account, entry.credential) for entry in vault().entries()]
    pool = Pool()
    seats = (
        catalog.seat(account, None, credential) for account, credential in (*stored, *configured_accounts(settings()))
    )
    pool.replace_all(seat for seat in seats if seat is not None)
    store = SqliteStore(settings().paths.state_file, read_only=True)
    try:
        pool.restore(store.load(now))
    finally:
        store.close()
    accounts = report.limits(pool.seats, policy, now, pool.callers)["accounts"]
    return {AccountId(account["id"]): _state(account) for account in accounts}


def _state(document: Mapping[str, Any]) -> AccountState:
    lines = dict.fromkeys(
        f"{limit['limited_by']} until {limit['limited_until']}"
        for limit in document["limits"].values()
        if limit["limited_until"] is not None
    )
    return AccountState(document["status"], tuple(lines), document["last_used"])


def extra_entries() -> tuple[Entry, ...]:
    """The accounts of the configuration."""
    from mcp_proxy.cli.adapters import configured_accounts

    return tuple(Entry(account, credential) for account, credential in configured_accounts(settings()))


def server_running() -> bool:
    """Whether a server uses the store."""
    from mcp_proxy.cli.adapters import server_running

    return server_running(settings().paths.accounts_file)


def _providers() -> dict[str, ProviderInfo]:
    """In the order in which settings name them, which is how often they are wanted."""
    known = all_providers()
    return {
        name: ProviderInfo(
            name=name,
            title=provider.title,
            sign_in=provider.sign_in,
            needs_base_url=provider.base_url is None,
            base_url=provider.base_url,
        )
        for name in sorted(known, key=PROVIDERS.index)
        for provider in (known[name],)
    }


app = build(
    Ports(
        open_vault=vault,
        providers=_providers(),
        verify=verify,
        limits=limits,
        server_running=server_running,
        extra_entries=extra_entries,
        now=lambda: time.time(),  # noqa: TID251 - the root hands out the clock
        export_passphrase=lambda: settings().vault.export_passphrase,
        recipe=recipe,
        oauth_client=oauth_client,
        refresh=refresh,
        address=address,
        claude_login=claude_login,
    )
)
