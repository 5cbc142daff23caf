"""Settings become accounts, providers and policy: what both the server and the commands stand on. Light to import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from accounts.model import Account, AccountId, ApiKey, ApiKeySignIn, BrowserSignIn, Credential, OAuthClient
from accounts.vault.files import SYSTEM, make_folder
from accounts.vault.keys import KeySources
from accounts.vault.vault import Vault
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.prices import Price
from mcp_proxy.core.provider import Provider, Size
from mcp_proxy.gateway.catalog import Catalog, Options
from mcp_proxy.providers import all_providers
from mcp_proxy.routing.budget import Budget, budget
from mcp_proxy.routing.facts import Policy, Route
from mcp_proxy.routing.fallbacks import under
from mcp_proxy.settings import PROVIDERS, Settings
from mcp_proxy.settings.model import BudgetSettings


def open_vault(settings: Settings) -> Vault:
    """The account store of these settings."""
    vault = settings.vault
    return Vault(
        settings.paths.accounts_file,
        KeySources(key=vault.key, passphrase=vault.passphrase, key_file=settings.paths.vault_key_file),
    )


def configured_accounts(settings: Settings) -> list[tuple[Account, Credential]]:
    """The accounts that the configuration itself describes: a provider with a key, and what a size class has for
    itself."""
    own = [
        (
            Account(
                id=AccountId(f"config-{name}"),
                provider=name,
                label="config",
                auth=provider.auth,
                models=provider.models,
            ),
            ApiKey(provider.api_key),
        )
        for name, provider in settings.providers.items()
        if provider.api_key is not None
    ]
    return [*own, *(entry for size in settings.routing.tiers if (entry := _tier_account(settings, size)) is not None)]


def _tier_account(settings: Settings, size: str) -> tuple[Account, Credential] | None:
    """The account that a size class has for itself; `Policy.tiers` binds it."""
    tier = settings.routing.tiers[size]
    if tier.base_url is None or tier.api_key is None:
        return None
    provider = provider_at(tier.base_url, settings)
    account = Account(
        id=AccountId(f"config-{size}"),
        provider=provider,
        label=size,
        base_url=tier.base_url,
        # the variables are those of Claude Code's users, whose ANTHROPIC_AUTH_TOKEN is a bearer's
        auth="bearer" if provider == "custom" else None,
        models=(tier.model,) if tier.model is not None else (),
    )
    return account, ApiKey(tier.api_key)


def provider_at(base_url: str, settings: Settings) -> ProviderName:
    """Whose an address is: a provider's that is set to it, or that is at home on the host; else `custom`."""
    for name, provider in settings.providers.items():
        if base_url in provider.base_urls:
            return ProviderName(name)
    forms, host = all_providers(), urlsplit(base_url).hostname
    for name in map(ProviderName, PROVIDERS):
        home = forms[name].base_url if name in forms and isinstance(forms[name].sign_in, ApiKeySignIn) else None
        if home is not None and urlsplit(home).hostname == host:
            return name
    return ProviderName("custom")


def make_catalog(settings: Settings) -> Catalog:
    """Every provider's form, with what the operator set for it."""
    return Catalog(all_providers(), make_options(settings), make_budgets(settings))


def make_budgets(settings: Settings) -> dict[str, tuple[Budget, ...]]:
    """The budgets of single accounts, by the names they are set for."""
    return {name: _budgets(budgets, shared=False) for name, budgets in settings.accounts.items()}


def _budgets(budgets: Sequence[BudgetSettings], *, shared: bool) -> tuple[Budget, ...]:
    return tuple(
        budget(each.window_name, float(each.window), each.limit, each.threshold, shared=shared) for each in budgets
    )


def make_options(settings: Settings) -> dict[ProviderName, Options]:
    """What the operator set, provider by provider."""
    return {name: _options(settings, form) for name, form in all_providers().items()}


def _options(settings: Settings, form: Provider) -> Options:
    """What the operator set for a provider, and the client that its accounts sign in with where they need one."""
    own = settings.provider(form.name)
    return Options(
        own.base_url,
        own.urls,
        own.tier,
        sticky=not own.spread,
        client=oauth_client(settings, form),
        client_version=own.client_version,
        budgets=_budgets(own.budgets, shared=True),
    )


def oauth_client(settings: Settings, form: Provider) -> OAuthClient | None:
    """The OAuth client that the settings hold for a provider whose accounts need one: the provider's own, or Google's.

    A variable counts more than the config file; None where nobody named a client.
    """
    if not isinstance(form.sign_in, BrowserSignIn) or form.sign_in.client_names is None:
        return None
    own, google = settings.provider(form.name), settings.google
    client = google.client_id or own.client_id
    return OAuthClient(client, google.client_secret or own.client_secret) if client is not None else None


def make_policy(settings: Settings) -> Policy:
    """The operator's routing."""
    routing = settings.routing
    return Policy(
        soft_limit=routing.soft_limit,
        reserve=routing.reserve,
        max_attempts=routing.max_attempts,
        max_wait=float(routing.max_wait),
        failover_on=routing.failover_on,
        substitutes=routing.fallback,
        aliases=routing.aliases,
        own_aliases={ProviderName(name): own.aliases for name, own in settings.providers.items() if own.aliases},
        fallbacks=under(routing.fallbacks) if routing.fallback else {},
        own_rows=frozenset(routing.fallbacks),
        tiers={Size(size): _route(settings, size) for size in routing.tiers},
        providers=frozenset(all_providers()),
    )


def _route(settings: Settings, size: str) -> Route:
    tier = settings.routing.tiers[size]
    if (own := _tier_account(settings, size)) is not None:
        return Route(ProviderName(own[0].provider), own[0].id, tier.model)
    return Route(ProviderName(tier.provider) if tier.provider is not None else None, None, tier.model)


def make_prices(settings: Settings) -> dict[str, Price]:
    """What the operator says that models cost."""
    return {
        name: Price(price.input, price.output, price.cache_read, price.cache_write)
        for name, price in settings.prices.items()
    }


def _mark(accounts_file: Path, port: int | str) -> str:
    """The file's name that a server on this port locks while it uses the store; "*" for any port."""
    return f".{accounts_file.name}.server-{port}.lock"


@contextlib.contextmanager
def announced(accounts_file: Path, port: int) -> Iterator[None]:
    """While this lasts, other processes can see that a server uses the store. A killed one leaves no trace."""
    try:
        make_folder(SYSTEM, accounts_file.parent)
        mark = FileLock(accounts_file.parent / _mark(accounts_file, port), mode=0o600)
        mark.acquire(timeout=0)
    except (OSError, Timeout):
        yield  # a folder we cannot write to holds nothing that could be changed under us either
        return
    try:
        yield
    finally:
        mark.release()


def server_running(accounts_file: Path) -> bool:
    """Whether a server uses this store now."""
    for path in accounts_file.parent.glob(_mark(accounts_file, "*")):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
    return False
