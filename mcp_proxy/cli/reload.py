"""Settings that change while the server runs: read anew when a file does or a signal says so, and taken over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from mcp_proxy.cli import logs
from mcp_proxy.cli.adapters import configured_accounts, make_budgets, make_options, make_policy, make_prices
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.settings import Settings, SettingsError, Stamp, stamp_of

log = structlog.get_logger("mcp_proxy.settings")

LOOK_SECONDS = 1.0

FIXED = ("server.", "vault.", "log.format", "home", "accounts", "config", "journal.enabled")
"""What begins so is read once, at the start. `accounts` itself is the store's file; its budgets are none of it."""


def reconfigure(gateway: Gateway, settings: Settings) -> None:
    """Let a running gateway go on with other settings, as far as it can."""
    gateway.reconfigure(
        policy=make_policy(settings),
        options=make_options(settings),
        budgets=make_budgets(settings),
        fixed=configured_accounts(settings),
        retention_days=settings.journal.retention_days,
        prices=make_prices(settings),
    )
    logs.set_level(settings.log.level)


class Reload:
    """Follows the files that the settings were read from.

    A file is read once it has come to rest, so that no half of it is. What cannot be used, or is gone, is said once,
    and everything stays as it was; a file that is gone counts as such for as long as nobody asks by a signal.

    apply  takes the new settings over
    look   called with each look, once a second
    """

    def __init__(
        self, settings: Settings, apply: Callable[[Settings], None], look: Callable[[], None] = lambda: None
    ) -> None:
        self.settings = self._begun = settings
        self._apply, self._look = apply, look
        self._seen: Mapping[Path, Stamp] = settings.files
        self._last: Mapping[Path, Stamp] = {}
        self._complaint = ""
        self._missing = False
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the settings now, whether or not a file has changed."""
        self._asked.set()

    async def follow(self) -> None:
        """Take over what changes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            self._look()
            await self._looked(asked)

    async def _looked(self, asked: bool) -> None:
        now = await asyncio.to_thread(_stamps, tuple(self._seen))
        rests, self._last = now == self._last, now
        if asked:
            await self._read()
        elif now == self._seen:
            self._found_again()
        elif rests and (gone := [path for path, was in self._seen.items() if was is not None and now[path] is None]):
            self._missing = True
            self._complain(f"{gone[0]} is gone")
        elif rests:
            await self._read()

    async def _read(self) -> None:
        self._missing = False
        try:
            new = await asyncio.to_thread(self.settings.again)
        except SettingsError as error:
            self._seen = {**self._last, **error.files}
            self._complain(" · ".join(" ".join(each.split()) for each in error.problems))
            return
        self._seen, self._complaint = new.files, ""
        old, self.settings = self.settings, new
        self._apply(new)
        keys = changed(old, new)
        waiting = needs_restart(self._begun, new, keys)
        tell = log.warning if waiting else log.info
        tell("settings reloaded", changed=", ".join(keys) or "nothing", needs_restart=", ".join(waiting) or None)

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            log.error("settings cannot be used, the old ones stay in force", error=why)
        self._complaint = why

    def _found_again(self) -> None:
        """All is as at the last reading: a file that was gone is back."""
        if self._missing:
            log.info("settings are there again, and as they were")
            self._missing, self._complaint = False, ""


def changed(old: Settings, new: Settings) -> list[str]:
    """The keys of the settings that are not what they were."""
    return sorted(
        key
        for key in {*old.values, *new.values}
        if key not in old.values or key not in new.values or old.values[key] != new.values[key]
    )


def needs_restart(begun: Settings, new: Settings, keys: list[str]) -> list[str]:
    """Those of the keys that a running server cannot take over, and that are not what it began with."""
    own = [key for key in keys if key in FIXED or key.startswith(tuple(each for each in FIXED if each[-1] == "."))]
    return [key for key in own if begun.values.get(key) != new.values.get(key)]


def _stamps(paths: tuple[Path, ...]) -> dict[Path, Stamp]:
    return {path: stamp_of(path) for path in paths}
