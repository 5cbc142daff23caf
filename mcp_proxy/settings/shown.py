"""Settings as a person reads them: every one by its key, secrets masked, and where it came from."""

from __future__ import annotations

import json
from typing import NamedTuple

from accounts.model import Secret
from mcp_proxy.settings.model import Settings, TierSettings

HIDDEN = "…"


class Shown(NamedTuple):
    """One setting; `value` is what JSON can hold."""

    key: str
    value: object
    origin: str

    def text(self) -> str:
        """The value as it would be written in the config file; a secret, as much of it as may be seen."""
        if self.value is None:
            return "not set"
        return json.dumps(self.value, ensure_ascii=False)


def shown(settings: Settings) -> list[Shown]:
    """Every setting in force, by key."""
    return [
        Shown(key, HIDDEN if key in settings.hidden and not isinstance(value, Secret) else plain(value), origin)
        for key, value in sorted(settings.values.items())
        for origin in (settings.origin_of(key),)
    ]


def plain(value: object) -> object:
    """A value without its type, and a secret without its text."""
    if isinstance(value, Secret):
        return value.masked()
    if isinstance(value, TierSettings):
        return "/".join(part for part in (value.provider, value.model) if part is not None)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1 else value
