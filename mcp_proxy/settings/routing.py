"""`[routing]` and its three tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mcp_proxy.settings import fields, values
from mcp_proxy.settings.errors import SettingsError, suggestion
from mcp_proxy.settings.model import PROVIDERS, RoutingSettings
from mcp_proxy.settings.sources import Sources, table_at

T = TypeVar("T")

SIZES = ("haiku", "sonnet", "opus", "fable")


def read_routing(sources: Sources) -> RoutingSettings:
    """Raises `SettingsError`."""
    tiers = _mapping(sources, "tiers", values.one_of(PROVIDERS))
    for size in tiers:
        if size not in SIZES:
            near = suggestion(size, SIZES)
            raise SettingsError(f"routing.tiers.{size} ({sources.table_name}) is none of {', '.join(SIZES)}{near}")
    return RoutingSettings(
        fallback=sources.take(fields.FALLBACK),
        soft_limit=sources.take(fields.SOFT_LIMIT),
        max_attempts=sources.take(fields.MAX_ATTEMPTS),
        max_wait=sources.take(fields.MAX_WAIT),
        fallbacks=_mapping(sources, "fallbacks", values.words),
        aliases=_mapping(sources, "aliases", values.text),
        tiers=tiers,
    )


def _mapping(sources: Sources, name: str, read: Callable[[object], T]) -> dict[str, T]:
    """A table of free names; order is kept."""
    routing = table_at(sources.table, "routing", "", sources.table_name)
    found: dict[str, T] = {}
    for key, value in table_at(routing, name, "routing.", sources.table_name).items():
        place = f'routing.{name}."{key}"'
        found[key] = sources.use(place, sources.filled(value, f"{place} ({sources.table_name})"), read)
    return found
