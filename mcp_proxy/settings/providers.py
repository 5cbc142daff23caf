"""`[providers.NAME]` and `MCP_PROXY_PROVIDERS__NAME__KEY`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from mcp_proxy.settings import values
from mcp_proxy.settings.errors import SettingsError, suggestion
from mcp_proxy.settings.model import PROVIDERS, ProviderSettings
from mcp_proxy.settings.sources import Found, Sources, check_keys, table_at

PREFIX = "MCP_PROXY_PROVIDERS__"

_SHARING: tuple[Literal["sticky", "spread"], ...] = ("sticky", "spread")

READERS: Mapping[str, Callable[[object], object]] = {
    "base_url": lambda value: (values.url(value),),
    "base_urls": values.urls,
    "tier": values.whole(0, 1000),
    "accounts": values.one_of(_SHARING),
    "api_key": values.secret,
    "auth": values.auth,
    "models": values.some_words,
    "client_version": values.text,
    "client_id": values.text,
    "client_secret": values.secret,
}
SECRETS = ("api_key", "client_secret")
"""The keys every provider has; any other key that ends in `_url` is an address of its own."""

_URL = re.compile(r"[a-z][a-z0-9_]*_url")


def read_providers(sources: Sources) -> dict[str, ProviderSettings]:
    """Every provider something is set for. Raises `SettingsError`."""
    table = table_at(sources.table, "providers", "", sources.table_name)
    check_keys(table, PROVIDERS, "providers", sources.table_name)
    variables = _variables(sources)
    named = [name for name in PROVIDERS if name in table or name in variables]
    return {name: _provider(name, sources, variables.get(name, {})) for name in named}


def _variables(sources: Sources) -> dict[str, dict[str, Found]]:
    """What variables say of providers, by provider and key."""
    names = {name.replace("-", "_"): name for name in PROVIDERS}
    found: dict[str, dict[str, Found]] = {}
    for variable in sorted(sources.variables):
        if not variable.startswith(PREFIX):
            continue
        origin = sources.variables[variable].origin
        provider, _, key = variable.removeprefix(PREFIX).lower().partition("__")
        if provider not in names:
            raise SettingsError(f"{origin} names no provider{suggestion(provider, names)}")
        key = _known(key.removesuffix("_file") if key.removesuffix("_file") in SECRETS else key, origin)
        name = f"{PREFIX}{variable.removeprefix(PREFIX).partition('__')[0]}__{key.upper()}"
        value = sources.variable(name if key in SECRETS else variable, secret=key in SECRETS)
        if value is not None:
            found.setdefault(names[provider], {})[key] = value
    return found


def _provider(name: str, sources: Sources, variables: Mapping[str, Found]) -> ProviderSettings:
    place = f"providers.{name}"
    table = table_at(
        table_at(sources.table, "providers", "", sources.table_name), name, "providers.", sources.table_name
    )
    for key in table:
        _known(key, f"{place}.{key} ({sources.table_name})")
    for where, named in ((variables, "environment"), (table, sources.table_name)):
        if "base_url" in where and "base_urls" in where:
            raise SettingsError(f"{place}.base_url and .base_urls ({named}) are both set: keep one")
    found = dict(variables)
    for key, value in table.items():
        same = ("base_url", "base_urls") if key in ("base_url", "base_urls") else (key,)
        if not any(one in variables for one in same):
            secret = key in SECRETS
            found[key] = sources.filled(value, f"{place}.{key} ({sources.table_name})", secret=secret)
    read = {key: sources.use(f"{place}.{key}", raw, READERS.get(key, values.url)) for key, raw in found.items()}
    return _made(name, read)


def _made(name: str, read: dict[str, object]) -> ProviderSettings:
    base_urls = read.pop("base_urls", None) or read.pop("base_url", ())
    if name == "custom" and "api_key" in read and not base_urls:
        raise SettingsError("providers.custom has an api_key but no base_url")
    if name == "claude-subscription" and "api_key" in read:
        raise SettingsError("providers.claude-subscription has no api_key: each request brings its caller's own login")
    spread = read.pop("accounts", "sticky") == "spread"
    urls = {key: str(read.pop(key)) for key in sorted(read) if key not in READERS}
    return ProviderSettings(name=name, base_urls=base_urls, spread=spread, urls=urls, **read)  # type: ignore[arg-type]


def _known(key: str, origin: str) -> str:
    if key in READERS or _URL.fullmatch(key):
        return key
    raise SettingsError(f"{origin} is not a setting{suggestion(key, READERS)}")
