"""How long a request may take, by what its client says of its own patience."""

from __future__ import annotations

import pytest

from mcp_proxy.core.messages import Ask, Endpoint, Span
from mcp_proxy.gateway.gateway import budget


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 300),
        ({"x-stainless-timeout": "600"}, 300),
        ({"x-stainless-timeout": "60"}, 55),
        ({"x-stainless-read-timeout": "30"}, 25),
        ({"x-stainless-timeout": "600", "x-stainless-read-timeout": "45.5"}, 40.5),
        ({"x-stainless-timeout": "40", "x-stainless-read-timeout": "90"}, 35),
        ({"x-stainless-timeout": "3"}, 1),
        ({"x-stainless-timeout": "0"}, 300),
        ({"x-stainless-timeout": "-9"}, 300),
        ({"x-stainless-timeout": "nan"}, 300),
        ({"x-stainless-timeout": "inf"}, 300),
        ({"x-stainless-timeout": "1e400"}, 300),
        ({"x-stainless-timeout": "NOT_GIVEN"}, 300),
        ({"x-stainless-timeout": ""}, 300),
    ],
)
def test_the_budget(headers: dict[str, str], seconds: float) -> None:
    ask = Ask(Endpoint.MESSAGES, b"", "m", Span(0, 0), False, tuple(headers.items()))
    assert budget(ask) == seconds
