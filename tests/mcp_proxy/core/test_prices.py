"""Which price a model has, and what tokens come to by it."""

from __future__ import annotations

import pytest

from mcp_proxy.core.prices import LIST, Line, Price, Prices
from mcp_proxy.core.time import Instant

NOW = Instant(1_800_000_000.0)


@pytest.mark.parametrize(
    ("model", "input", "output"),
    [
        ("claude-opus-5", 5, 25),
        ("claude-opus-4-6-thinking", 5, 25),
        ("claude-opus-4-5-20251101", 5, 25),
        ("claude-opus-4-1-20250805", 15, 75),
        ("claude-opus-4-20250514", 15, 75),
        ("claude-sonnet-5", 2, 10),
        ("claude-sonnet-4-5-20250929", 3, 15),
        ("anthropic/claude-sonnet-4", 3, 15),
        ("claude-sonnet-4-6[1m]", 3, 15),
        ("Claude-Haiku-4-5-20251001", 1, 5),
        ("glm-5.2[1m]", 1.4, 4.4),
    ],
)
def test_a_model_has_the_price_of_its_family(model: str, input: float, output: float) -> None:
    price = Prices({}).price(model, NOW)
    assert price is not None and (price.input, price.output) == (input, output)


@pytest.mark.parametrize("model", ["glm-4.7", "gemini-3-pro-high", "claude-opus-4-9", "claude-opus", "", "x-glm-5.2"])
def test_of_a_model_that_nobody_knows_no_price_is_made_up(model: str) -> None:
    assert Prices({}).price(model, NOW) is None


def test_anthropics_caches_cost_a_tenth_a_quarter_more_and_twice() -> None:
    price = Prices({}).price("claude-opus-5", NOW)
    assert price is not None
    million = 1_000_000
    assert price.of(million, 0, 0, 0, 0) == 5
    assert price.of(0, million, 0, 0, 0) == 0.5
    assert price.of(0, 0, million, 0, 0) == 6.25
    assert price.of(0, 0, million, million, 0) == 10
    assert price.of(0, 0, 0, 0, million) == 25
    assert price.of(0, 0, 0, 0, 0) == 0


def test_what_is_not_said_of_a_cache_costs_as_the_input() -> None:
    assert Price(2, 8).of(0, 1_000_000, 1_000_000, 1_000_000, 0) == 4
    assert Price(2, 8, cache_write=3).of(0, 0, 1_000_000, 1_000_000, 0) == 3


def test_the_operators_own_price_comes_first_by_name_or_pattern() -> None:
    own = {"*": Price(9, 9), "GLM-*": Price(3, 4), "zai/glm-4.7": Price(1, 2), "claude-opus-5": Price(0, 0)}
    prices = Prices(own)
    assert prices.price("glm-4.7", NOW) == prices.price("kimi/glm-4.7", NOW) == own["GLM-*"]
    assert prices.price("zai/glm-4.7", NOW) == own["zai/glm-4.7"]
    assert prices.price("claude-opus-5", NOW) == Price(0, 0)
    assert prices.price("claude-sonnet-5", NOW) == own["*"]
    assert Prices({"x": Price(1, 2)}).price("claude-sonnet-5", NOW) == Prices({}).price("claude-sonnet-5", NOW)


def test_a_price_holds_from_its_day_on() -> None:
    old, new = Line("m*", Price(1, 1)), Line("m*", Price(2, 2), Instant(NOW + 10))
    for lines in ((old, new), (new, old)):
        prices = Prices({}, lines)
        assert prices.borders == (NOW + 10,)
        assert prices.price("m-1", NOW) == old.price
        assert prices.price("m-1", Instant(NOW + 10)) == new.price
    assert Prices({}, (new,)).price("m-1", NOW) is None
    assert Prices({}).borders == ()


def test_no_line_of_the_list_is_in_the_shadow_of_another() -> None:
    prices = Prices({})
    for line in LIST:
        assert prices.price(line.pattern.replace("*", ""), NOW) == line.price, line.pattern
