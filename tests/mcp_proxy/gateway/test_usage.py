"""What was used as a document: summed up, priced where a price is known, and named as accounts are called now."""

from __future__ import annotations

from typing import Any

from mcp_proxy.core.journal import By, Medians, Question, Tally, Used
from mcp_proxy.core.prices import Line, Price, Prices
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.usage import report
from tests.mcp_proxy.routing.seats import NOW, seat

PRICES = Prices({}, (Line("dear", Price(10, 0)), Line("dear", Price(20, 0), NOW), Line("cheap", Price(1, 0))))


def tally(group: str, model: str = "dear", **how: Any) -> Tally:
    fields: dict[str, Any] = {
        "provider": "zai", "period": 0, "requests": 1, "failovers": 0, "errors": 0, "input": 1_000_000,
        "cache_read": 0, "cache_write": 0, "cache_write_hour": 0, "output": 0, "reasoning": None,
    }  # fmt: skip
    return Tally(group=group, model=model, **{**fields, **how})


def told(*tallies: Tally, by: By = By.MODEL) -> dict[str, Any]:
    question = Question(NOW, 7, by, None, PRICES.borders)
    used = Used(Instant(NOW - 100), tallies, {None: Medians(0.12345, None), "dear": Medians(1.0, 2.0)})
    return report(question, used, PRICES, (seat("a1"),))


def test_each_price_is_that_of_its_time() -> None:
    found = told(tally("dear"), tally("dear", period=1))
    assert [group["cost_usd"] for group in found["groups"]] == [30.0]
    assert found["total"]["cost_usd"] == 30.0 and found["total"]["tokens"]["input"] == 2_000_000


def test_what_has_no_price_is_named_and_never_free() -> None:
    found = told(tally("dear"), tally("odd", "odd"), tally("idle", "idle", input=0), tally("", "", input=0))
    groups = {group["group"]: group for group in found["groups"]}
    assert groups["odd"]["cost_usd"] is None and groups["odd"]["unpriced"] == ["odd"]
    assert groups["idle"]["unpriced"] == groups[None]["unpriced"] == []
    assert (found["total"]["cost_usd"], found["total"]["unpriced"]) == (10.0, ["odd"])


def test_what_cost_most_comes_first_and_days_in_their_order() -> None:
    spent = (tally("b", "cheap"), tally("c"), tally("a", "odd", requests=9))
    assert [group["group"] for group in told(*spent)["groups"]] == ["c", "b", "a"]
    assert [group["group"] for group in told(*spent, by=By.DAY)["groups"]] == ["a", "b", "c"]


def test_accounts_have_the_names_that_they_have_now() -> None:
    found = told(tally("a1"), tally("gone"), by=By.ACCOUNT)["groups"]
    assert [(group["group"], group["provider"], group["label"]) for group in found] == [
        ("a1", "zai", "a1"),
        ("gone", "zai", None),
    ]


def test_reasoning_is_unknown_until_somebody_says() -> None:
    assert told(tally("dear"))["total"]["tokens"]["reasoning"] is None
    assert told(tally("dear"), tally("x", reasoning=5))["total"]["tokens"]["reasoning"] == 5
    assert told(tally("dear", reasoning=0))["total"]["tokens"]["reasoning"] == 0


def test_medians_are_rounded_and_may_be_unknown() -> None:
    found = told(tally("dear"), tally("x"))
    assert found["total"]["median_seconds"] == {"first_content": 0.123, "total": None}
    assert [group["median_seconds"]["total"] for group in found["groups"]] == [2.0, None]
