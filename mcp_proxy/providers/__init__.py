"""The providers: one form each. A file dropped into this folder is a provider; nothing else changes."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.provider import Provider


def all_providers() -> dict[ProviderName, Provider]:
    """Every provider in this folder by its name: what its modules call `PROVIDER` or `PROVIDERS`."""
    found: dict[ProviderName, Provider] = {}
    for module in iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        loaded = import_module(f"{__name__}.{module.name}")
        single = getattr(loaded, "PROVIDER", None)
        for provider in (*getattr(loaded, "PROVIDERS", ()), *((single,) if single is not None else ())):
            if provider.name in found:
                raise ValueError(f"two providers are called {provider.name!r}")
            found[provider.name] = provider
    return found
