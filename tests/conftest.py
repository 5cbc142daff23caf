"""What every test shares: quiet logs, and programs that are compiled once."""

from __future__ import annotations

import os
import sys

import pytest
import structlog

# The tests start the program some hundred times; where bytecode is not to be written, each would compile it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Only warnings and errors, so that a failing test shows what matters."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=False)
