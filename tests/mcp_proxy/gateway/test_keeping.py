"""What the pool learns reaches the store, also one that fails for a while."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from mcp_proxy.core.change import Change
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import keeping
from mcp_proxy.gateway.keeping import Keeper
from tests.mcp_proxy.gateway.test_pool import read


class FullDisk:
    """A store that cannot write until told otherwise."""

    def __init__(self) -> None:
        self.full = True
        self.saved: list[Change] = []
        self.threads: set[int] = set()

    def load(self, now: Instant) -> Sequence[Change]:
        return self.saved

    def save(self, changes: Sequence[Change]) -> None:
        self.threads.add(threading.get_ident())
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.saved.extend(changes)

    def close(self) -> None: ...


async def test_changes_are_written_in_their_order_and_off_the_loop() -> None:
    store = FullDisk()
    store.full = False
    keeper = Keeper(store)
    for number in range(5):
        keeper.record(read(0.5, number))
    assert store.saved == []
    await keeper.flush()
    assert store.saved == [read(0.5, number) for number in range(5)]
    assert threading.get_ident() not in store.threads


async def test_what_cannot_be_written_is_kept_said_once_and_written_later() -> None:
    store = FullDisk()
    keeper = Keeper(store)
    with capture_logs() as said:
        for number in range(3):
            keeper.record(read(0.5, number))
            await keeper.flush()
        assert [line["event"] for line in said] == ["limits are not saved, serving from memory"]
        assert said[0]["error"] == "No space left on device"
        store.full = False
        await keeper.flush()
        await keeper.flush()
        assert store.saved == [read(0.5, number) for number in range(3)]
        store.full = True
        keeper.record(read(0.5, 9))
        await keeper.flush()
    assert [line["log_level"] for line in said] == ["error", "error"], "another failure is said again"


async def test_a_queue_that_is_too_long_loses_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_QUEUED", 3)
    store = FullDisk()
    keeper = Keeper(store)
    for number in range(3):
        keeper.record(read(0.5, number))

    save = store.save

    def slow_save(changes: Sequence[Change]) -> None:
        keeper.record(read(0.5, 99))  # learnt while the disk is being tried
        save(changes)

    store.save = slow_save  # type: ignore[method-assign]
    await keeper.flush()
    store.save, store.full = save, False  # type: ignore[method-assign]
    await keeper.flush()
    assert store.saved == [read(0.5, number) for number in (1, 2, 99)]


async def test_nothing_new_touches_no_disk() -> None:
    store = FullDisk()
    await Keeper(store).flush()
    assert store.threads == set()
