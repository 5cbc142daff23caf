"""Token budgets, of a provider's accounts and of single ones, and what tokens cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcp_proxy.settings import values
from mcp_proxy.settings.errors import SettingsError
from mcp_proxy.settings.model import BudgetSettings, PriceSettings
from mcp_proxy.settings.sources import Sources, T

KEYS = ("window", "limit", "threshold")
THRESHOLD = 0.9
PRICES = ("input", "output", "cache_read", "cache_write")

_limit = values.whole(1, 10**15)


def read_budgets(sources: Sources, place: str, value: object) -> tuple[BudgetSettings, ...]:
    """One table, or an array of them; no two of the same length. What cannot be used is noted.

    place  the key that holds it, "providers.zai.budget"
    """
    tables = value if isinstance(value, list) else [value]
    found: list[BudgetSettings] = []
    for number, table in enumerate(tables):
        with sources.noting():
            made = _budget(sources, f"{place}[{number}]" if isinstance(value, list) else place, table)
            if any(each.window == made.window for each in found):
                raise SettingsError(f"{place} ({sources.table_name}) has two budgets for {made.window_name}: keep one")
            found.append(made)
    return tuple(found)


def _budget(sources: Sources, place: str, table: object) -> BudgetSettings:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{place} ({sources.table_name}) must be a table: [{place}]")
    sources.check_keys(table, KEYS, place)
    for key, read in (("window", values.duration), ("limit", _limit), ("threshold", values.fraction)):
        if key in table:
            with sources.noting():  # each of them, and not the first alone
                _use(sources, place, table, key, read)
    window = _use(sources, place, table, "window", values.duration)
    threshold = _use(sources, place, table, "threshold", values.fraction) if "threshold" in table else THRESHOLD
    return BudgetSettings(
        window=window,
        window_name=_use(sources, place, table, "window", values.text),
        limit=_use(sources, place, table, "limit", _limit),
        threshold=threshold,
    )


def read_account_budgets(sources: Sources) -> dict[str, tuple[BudgetSettings, ...]]:
    """`[accounts."provider/label".budget]`, also by an account's id; whether there is such an account is not known."""
    found: dict[str, tuple[BudgetSettings, ...]] = {}
    for name in sources.table_at("accounts"):
        table = sources.table_at("accounts", name)
        sources.check_keys(table, ("budget",), f'accounts."{name}"')
        if "budget" in table:
            found[name] = read_budgets(sources, f'accounts."{name}".budget', table["budget"])
    return {name: budgets for name, budgets in found.items() if budgets}


def read_prices(sources: Sources) -> dict[str, PriceSettings]:
    """`[prices]`: a model's own, in US dollars a million tokens."""
    found: dict[str, PriceSettings] = {}
    for model, table in sources.table_at("prices").items():
        place = f'prices."{model}"'
        with sources.noting():
            if not isinstance(table, Mapping):
                raise SettingsError(f"{place} ({sources.table_name}) must be a table: {{ input = …, output = … }}")
            sources.check_keys(table, PRICES, place)
            caches = {
                key: _use(sources, place, table, key, values.price)
                for key in ("cache_read", "cache_write")
                if key in table
            }
            found[model] = PriceSettings(
                _use(sources, place, table, "input", values.price),
                _use(sources, place, table, "output", values.price),
                **caches,
            )
    return found


def _use(sources: Sources, place: str, table: Mapping[str, object], key: str, read: Callable[[object], T]) -> T:
    """A key that has to be there."""
    if key not in table:
        raise SettingsError(f"{place} ({sources.table_name}) has no {key}")
    raw = sources.filled(table[key], f"{place}.{key} ({sources.table_name})")
    return sources.use(f"{place}.{key}", raw, read)
