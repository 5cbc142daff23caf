"""How much is said, which may change while the server runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from mcp_proxy.cli import logs

METHODS = ("debug", "info", "warning", "error", "exception", "critical")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    logs.set_level("info")


def said(method: str) -> bool:
    try:
        return logs._wanted(None, method, {"event": "x"}) == {"event": "x"}
    except structlog.DropEvent:
        return False


@pytest.mark.parametrize(
    ("level", "first"), [("debug", 0), ("info", 1), ("warn", 2), ("error", 3), ("silent", len(METHODS))]
)
def test_a_level_lets_through_what_is_at_least_as_grave(level: str, first: int) -> None:
    logs.set_level(level)
    assert [method for method in METHODS if said(method)] == list(METHODS[first:])
