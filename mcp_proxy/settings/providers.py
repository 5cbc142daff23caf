"""`[providers.NAME]` and `MCP_PROXY_PROVIDERS__NAME__KEY`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from mcp_proxy.settings import values
from mcp_proxy.settings.budgets import read_budgets
from mcp_proxy.settings.errors import SettingsError, suggestion
from mcp_proxy.settings.model import PROVIDERS, ProviderSettings
from mcp_proxy.settings.routing import mapping
from mcp_proxy.settings.sources import Found, Sources

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

TABLES = ("aliases", "budget")
"""The keys that are tables, and stand in the config file alone."""

_URL = re.compile(r"[a-z][a-z0-9_]*_url")


def read_providers(sources: Sources) -> dict[str, ProviderSettings]:
    """Every provider something is set for; what cannot be used is noted."""
    table = sources.table_at("providers")
    sources.check_keys(table, PROVIDERS, "providers")
    variables = _variables(sources)
    found: dict[str, ProviderSettings] = {}
    for name in PROVIDERS:
        if name in table or name in variables:
            with sources.noting():
                found[name] = _provider(name, sources, variables.get(name, {}))
    return found


def _variables(sources: Sources) -> dict[str, dict[str, Found]]:
    """What variables say of providers, by provider and key."""
    names = {name.replace("-", "_"): name for name in PROVIDERS}
    found: dict[str, dict[str, Found]] = {}
    for variable in sorted(sources.variables):
        if not variable.startswith(PREFIX):
            continue
        with sources.noting():
            provider, key, value = _variable(variable, sources, names)
            if value is not None:
                found.setdefault(provider, {})[key] = value
    return found


def _variable(variable: str, sources: Sources, names: Mapping[str, str]) -> tuple[str, str, Found | None]:
    """A variable's provider, key and value."""
    origin = sources.variables[variable].origin
    provider, _, key = variable.removeprefix(PREFIX).lower().partition("__")
    if provider not in names:
        raise SettingsError(f"{origin} names no provider{suggestion(provider, names)}")
    key = _known(key.removesuffix("_file") if key.removesuffix("_file") in SECRETS else key, origin)
    name = f"{PREFIX}{variable.removeprefix(PREFIX).partition('__')[0]}__{key.upper()}"
    return names[provider], key, sources.variable(name if key in SECRETS else variable, secret=key in SECRETS)


def _provider(name: str, sources: Sources, variables: Mapping[str, Found]) -> ProviderSettings:
    place = f"providers.{name}"
    table = sources.table_at("providers", name)
    for key in table:
        with sources.noting():
            _known(key, f"{place}.{key} ({sources.table_name})", TABLES)
    for where, named in ((variables, "environment"), (table, sources.table_name)):
        if "base_url" in where and "base_urls" in where:
            raise SettingsError(f"{place}.base_url and .base_urls ({named}) are both set: keep one")
    found = dict(variables)
    for key, value in table.items():
        same = ("base_url", "base_urls") if key in ("base_url", "base_urls") else (key,)
        if key not in TABLES and not any(one in variables for one in same):
            with sources.noting():
                origin = f"{place}.{key} ({sources.table_name})"
                found[key] = sources.filled(value, origin, secret=key in SECRETS)
    read: dict[str, object] = {}
    for key, raw in found.items():
        with sources.noting():
            if key in READERS or _URL.fullmatch(key):
                read[key] = sources.use(f"{place}.{key}", raw, READERS.get(key, values.url))
    if name == "custom" and "api_key" in found and not {"base_url", "base_urls"} & set(found):
        raise SettingsError("providers.custom has an api_key but no base_url")
    if name == "claude-subscription" and "api_key" in found:
        raise SettingsError("providers.claude-subscription has no api_key: each request brings its caller's own login")
    read["aliases"] = mapping(sources, ("providers", name, "aliases"), values.text)
    if "budget" in table:
        read["budgets"] = read_budgets(sources, f"{place}.budget", table["budget"])
    return _made(name, read)


def _made(name: str, read: dict[str, object]) -> ProviderSettings:
    base_urls = read.pop("base_urls", None) or read.pop("base_url", ())
    spread = read.pop("accounts", "sticky") == "spread"
    urls = {key: str(read.pop(key)) for key in sorted(read) if _URL.fullmatch(key) and key not in READERS}
    return ProviderSettings(name=name, base_urls=base_urls, spread=spread, urls=urls, **read)  # type: ignore[arg-type]


def _known(key: str, origin: str, besides: tuple[str, ...] = ()) -> str:
    if key in READERS or key in besides or _URL.fullmatch(key):
        return key
    raise SettingsError(f"{origin} is not a setting{suggestion(key, (*READERS, *besides))}")
