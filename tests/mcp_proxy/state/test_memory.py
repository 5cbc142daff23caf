"""The store in memory keeps the contract of all stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcp_proxy.core.change import StateStore
from mcp_proxy.state.memory import MemoryStore
from tests.contracts.state_contract import StateContract


class TestMemoryStore(StateContract):
    @pytest.fixture
    def new(self) -> Callable[[], StateStore]:
        return MemoryStore
