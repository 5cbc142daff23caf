"""A store that ends with the process: for tests, the demo and who wants nothing on disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mcp_proxy.core.change import Change, Served
from mcp_proxy.core.time import Instant
from mcp_proxy.state.worth import MAX_CONVERSATIONS, order, subject, worth_keeping


class MemoryStore:
    """A `StateStore` in memory; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], Change] = {}
        self._served: dict[tuple[str, ...], Served] = {}

    def load(self, now: Instant) -> Sequence[Change]:
        with self._lock:
            self._kept = {about: change for about, change in self._kept.items() if worth_keeping(change, now)}
            self._served = {about: change for about, change in self._served.items() if worth_keeping(change, now)}
            return (*self._kept.values(), *sorted(self._served.values(), key=_age))

    def save(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for change in changes:
                about = subject(change)
                if isinstance(change, Served):
                    if about not in self._served or order(change) > order(self._served[about]):
                        self._served[about] = change
                elif about not in self._kept or order(change) > order(self._kept[about]):
                    self._kept[about] = change
            if len(self._served) > MAX_CONVERSATIONS:
                newest = sorted(self._served.items(), key=lambda entry: _age(entry[1]))[-MAX_CONVERSATIONS:]
                self._served = dict(newest)

    def close(self) -> None:
        """Nothing to give back."""


def _age(change: Served) -> tuple[float, tuple[str, ...]]:
    return change.at, change.conversation
