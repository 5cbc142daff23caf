"""A size class with an account of its own: served by it, and it serves no other."""

from __future__ import annotations

import pytest

from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.routing.facts import Policy, Route, Seat
from mcp_proxy.routing.serving import resolve
from tests.mcp_proxy.routing.seats import ModelId, provider, seat, sizes


def offers(*models: str) -> list[Offer]:
    return [Offer(ModelId(model)) for model in models]


GLM = sizes(haiku="glm-air", sonnet="glm", opus="glm")
OWN = sizes(haiku="claude-haiku-9", sonnet="claude-sonnet-9", opus="claude-opus-9")
CLAUDES = offers("claude-haiku-9", "claude-sonnet-9", "claude-opus-9")

HAIKU = seat("config-haiku", provider="zai", offers=offers("glm", "glm-air"), serves=GLM)
SONNET = seat("config-sonnet", provider="anthropic", offers=CLAUDES, serves=OWN)
OPEN = seat("config-opus", provider="custom", offers=(), serves=Serves(any=True), any=True)
ZAI = seat("zai", provider="zai", offers=offers("glm", "glm-air"), serves=GLM)
CLAUDE = seat("claude", provider="anthropic", offers=CLAUDES, serves=OWN)


def bound(*seats: Seat, model: str | None = None, **how: object) -> Policy:
    tiers = {Size(each.id.removeprefix("config-")): Route(each.provider, each.id, model) for each in seats}
    return Policy(tiers=tiers, providers=frozenset(map(provider, ("zai", "anthropic", "custom"))), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "pool", "policy", "served"),
    [
        ("claude-haiku-9", [HAIKU, CLAUDE], bound(HAIKU), {"config-haiku": "glm-air"}),
        ("claude-haiku-9", [HAIKU, CLAUDE], bound(HAIKU, model="glm"), {"config-haiku": "glm"}),
        ("claude-sonnet-9", [HAIKU, CLAUDE], bound(HAIKU), {"claude": "claude-sonnet-9"}),
        ("claude-sonnet-9", [HAIKU, CLAUDE], bound(HAIKU, substitutes=True), {"claude": "claude-sonnet-9"}),
        ("claude-sonnet-9", [HAIKU], bound(HAIKU), {}),
        ("claude-sonnet-8", [HAIKU, ZAI], bound(HAIKU), {"zai": "glm"}),
        ("claude-opus-9", [SONNET, CLAUDE], bound(SONNET), {"claude": "claude-opus-9"}),
        ("claude-opus-9", [SONNET], bound(SONNET), {}),
        ("claude-sonnet-9", [SONNET, CLAUDE], bound(SONNET), {"config-sonnet": "claude-sonnet-9"}),
        ("claude-sonnet-9", [OPEN, CLAUDE], bound(OPEN), {"claude": "claude-sonnet-9"}),
        ("claude-opus-9", [OPEN, CLAUDE], bound(OPEN), {"config-opus": "claude-opus-9"}),
        ("claude-opus-9", [OPEN, CLAUDE], bound(OPEN, model="big"), {"config-opus": "big"}),
        ("big", [OPEN, CLAUDE], bound(OPEN, model="big"), {"config-opus": "big"}),
        ("who-knows", [OPEN, CLAUDE], bound(OPEN), {}),
        # what the operator or the client says in so many words
        ("glm", [HAIKU, CLAUDE], bound(HAIKU), {"config-haiku": "glm"}),
        ("zai/glm", [HAIKU, CLAUDE], bound(HAIKU), {"config-haiku": "glm"}),
        ("x", [HAIKU, CLAUDE], bound(HAIKU, aliases={"x": "zai/glm"}), {"config-haiku": "glm"}),
        (
            "x",
            [HAIKU, SONNET],
            bound(HAIKU, SONNET, aliases={"x": "claude-sonnet-9"}),
            {"config-sonnet": "claude-sonnet-9"},
        ),
        ("claude-haiku-9", [HAIKU, SONNET], bound(HAIKU, SONNET), {"config-haiku": "glm-air"}),
    ],
)
def test_an_account_of_a_size_class_serves_that_class_alone(
    asked: str, pool: list[Seat], policy: Policy, served: dict[str, str]
) -> None:
    found = resolve(asked, pool, policy).serving
    assert {account: ways[0].offer.model for account, ways in found.items()} == served


def test_it_stands_in_for_no_other_class_either() -> None:
    policy = bound(HAIKU, fallbacks={"claude-sonnet-9": ("glm",), "claude-haiku-9": ("glm",)})
    sonnet = resolve("claude-sonnet-9", [HAIKU, ZAI, CLAUDE], policy).serving
    assert {account: [way.offer.model for way in ways] for account, ways in sonnet.items()} == {
        "claude": ["claude-sonnet-9"],
        "zai": ["glm"],
    }
    haiku = resolve("claude-haiku-9", [HAIKU, ZAI, CLAUDE], policy).serving
    assert [way.offer.model for way in haiku[AccountId("config-haiku")]] == ["glm-air", "glm"]
