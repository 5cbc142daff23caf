"""`[routing.tiers]`, and the variables that give a size class a model or an account of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mcp_proxy.settings import fields, values
from mcp_proxy.settings.errors import SettingsError, UnusableError, suggestion
from mcp_proxy.settings.model import PROVIDERS, TierSettings
from mcp_proxy.settings.sources import Field, Sources, T

NOBODY = TierSettings()

_MARK = re.compile(r"\[\d+[km]\]$")
"""What Claude Code writes behind a model for a long context. It cuts it off before it asks, so nobody knows it here."""


def read_tiers(sources: Sources) -> dict[str, TierSettings]:
    """Every size class something is set for; what cannot be used is noted."""
    table = sources.table_at("routing", "tiers")
    for size in table:
        with sources.noting():
            if size not in fields.SIZES:
                near = suggestion(size, fields.SIZES)
                one_of = ", ".join(fields.SIZES)
                raise SettingsError(f"routing.tiers.{size} ({sources.table_name}) is none of {one_of}{near}")
    found: dict[str, TierSettings] = {}
    for size in fields.SIZES:
        with sources.noting():
            filed = _filed(sources, size, table[size]) if size in table else NOBODY
            found[size] = _with_variables(sources, fields.TIERS[size], filed)
            if found[size].base_url is not None:
                for key in (f"routing.tiers.{size}", f"routing.tiers.{size}.provider"):
                    sources.values.pop(key, None)  # not in force
    return {size: tier for size, tier in found.items() if tier != NOBODY}


def _filed(sources: Sources, size: str, value: object) -> TierSettings:
    """What the config file says: a provider, `provider/model`, or a table of the two."""
    place = f"routing.tiers.{size}"
    if not isinstance(value, Mapping):
        return sources.use(place, sources.filled(value, f"{place} ({sources.table_name})"), _line)
    sources.check_keys(value, ("provider", "model"), place)
    if not value:
        raise SettingsError(f"{place} ({sources.table_name}) names neither a provider nor a model")

    def part(key: str, read: Callable[[object], str]) -> str | None:
        if key not in value:
            return None
        raw = sources.filled(value[key], f"{place}.{key} ({sources.table_name})")
        return sources.use(f"{place}.{key}", raw, read)

    return TierSettings(part("provider", values.one_of(PROVIDERS)), part("model", values.text))


def _line(value: object) -> TierSettings:
    provider, slash, model = values.text(value).partition("/")
    if slash and not model.strip():
        raise UnusableError("names no model behind the slash")
    return TierSettings(values.one_of(PROVIDERS)(provider), model.strip() or None)


def _with_variables(sources: Sources, names: fields.TierFields, filed: TierSettings) -> TierSettings:
    """An account of its own takes the place of the file's whole line; a model alone, of the line's model."""
    base_url, api_key = _given(sources, names.base_url), _given(sources, names.api_key)
    model = _given(sources, names.model)
    model = None if model is None else _MARK.sub("", model)
    if (base_url is None) != (api_key is None):
        there, missing = (names.api_key, names.base_url) if base_url is None else (names.base_url, names.api_key)
        raise SettingsError(f"{sources.origin[there.key]} is of no use alone: set {missing.env} too")
    if base_url is not None:
        return TierSettings(None, model, base_url, api_key)
    return filed if model is None else _asked_by(model, filed.provider)


def _given(sources: Sources, wanted: Field[T | None]) -> T | None:
    """What a variable says; an empty one says nothing."""
    found = sources.find(wanted)
    if found is None or not str(found.value).strip():
        return None
    return sources.use(wanted.key, found, wanted.read)


def _asked_by(model: str, provider: str | None) -> TierSettings:
    """A model as a client's variable names it: it may hold its provider, as the lists of models have it."""
    if provider is not None:
        return TierSettings(provider, model.removeprefix(f"{provider}/"))
    for spelled in (model.removeprefix("anthropic/"), model):
        head, slash, rest = spelled.partition("/")
        if slash and rest and head in PROVIDERS:
            return TierSettings(head, rest)
    return TierSettings(None, model)
