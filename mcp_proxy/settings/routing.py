"""`[routing]` and its tables of free names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mcp_proxy.settings import fields, values
from mcp_proxy.settings.model import RoutingSettings
from mcp_proxy.settings.sources import Sources
from mcp_proxy.settings.tiers import read_tiers

T = TypeVar("T")


def read_routing(sources: Sources) -> RoutingSettings:
    """How accounts are chosen; what cannot be used is noted."""
    return RoutingSettings(
        fallback=sources.take(fields.FALLBACK),
        soft_limit=sources.take(fields.SOFT_LIMIT),
        max_attempts=sources.take(fields.MAX_ATTEMPTS),
        max_wait=sources.take(fields.MAX_WAIT),
        failover_on=sources.take(fields.FAILOVER_ON),
        reserve=mapping(sources, ("routing", "reserve"), values.fraction),
        fallbacks=mapping(sources, ("routing", "fallbacks"), values.words),
        aliases=mapping(sources, ("routing", "aliases"), values.text),
        tiers=read_tiers(sources),
    )


def mapping(sources: Sources, path: tuple[str, ...], read: Callable[[object], T]) -> dict[str, T]:
    """A table of free names; order is kept."""
    found: dict[str, T] = {}
    for key, value in sources.table_at(*path).items():
        place = f'{".".join(path)}."{key}"'
        with sources.noting():
            found[key] = sources.use(place, sources.filled(value, f"{place} ({sources.table_name})"), read)
    return found
