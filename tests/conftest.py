"""What every test shares: quiet logs, programs that are compiled once, gauges that find what was left open, and a
search for secrets in what was written."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import traceback
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import structlog

from mcp_proxy.routing import breaker
from tests.faults.gauges import Level, settled, tasks_ended
from tests.faults.watch import pytest_runtest_makereport as pytest_runtest_makereport

# The tests start the program some hundred times; where bytecode is not to be written, each would compile it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _stack(context: int = 0) -> list[inspect.FrameInfo]:
    """As `inspect.stack`, without the sources.

    BlackSheep asks twice for each application that is made: under pytest a tenth of a second, some hundred times.
    """
    frames = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
    return [inspect.FrameInfo(at, at.f_code.co_filename, at.f_lineno, at.f_code.co_name, None, None) for at in frames]


inspect.stack = _stack

# Half of the usual hundred, to stay within two minutes: each run looks at others.
hypothesis.settings.register_profile("every run", max_examples=50)
hypothesis.settings.load_profile("every run")

BEFORE = pytest.StashKey[Level]()


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Only warnings and errors, so that a failing test shows what matters."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[BEFORE] = Level.now()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After every other teardown: no socket and no file may be left over."""
    result = yield
    if nextitem is None or nextitem.parent is item.parent:  # else a fixture of the next module may stand already
        excess = settled(item.stash[BEFORE])
        assert not excess, excess
    return result


def pytest_collection() -> None:
    """What is made while tests are collected stays: to look through it again and again takes a second."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on only what tests make is looked through, which is a tenth of it."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that is a coroutine is gauged for the tasks it leaves behind."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_task_is_left")


@pytest.fixture
def unbroken(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who asks a failing upstream over and over: no breaker opens."""
    monkeypatch.setattr(breaker, "OPEN_AFTER", 1_000_000)


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """What a test begins, it ends."""
    before = asyncio.all_tasks()
    yield
    left = await tasks_ended(before)
    assert not left, left
