"""What every test shares: quiet logs."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Only warnings and errors, so that a failing test shows what matters."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=False)
