"""Which models stand in for one that has run out, whatever they are called this month."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mcp_proxy.core.provider import Offer
from mcp_proxy.routing.facts import LAST_RESORT, Policy, Seat
from mcp_proxy.routing.fallbacks import BUILT_IN, LONGEST_CHAIN, chain, make_of, nearest, under
from mcp_proxy.routing.serving import resolve
from tests.mcp_proxy.routing.seats import ModelId, provider, seat, sizes

ANTIGRAVITY = (
    "claude-sonnet-4-6",
    "claude-opus-4-6-thinking",
    "gemini-pro-agent",
    "gemini-3.1-pro-low",
    "gemini-3-flash-agent",
    "gemini-3.5-flash-low",
    "gemini-3.5-flash-extra-low",
    "gemini-3.1-flash-lite",
    "gemini-3.1-flash-image",
    "gpt-oss-120b-medium",
)
"""What an account lists today."""

MAKES: list[tuple[str, tuple[str, str, tuple[int, ...]] | None]] = [
    ("claude-opus-4-6-thinking", ("claude-opus", "", (4, 6))),
    ("claude-opus-4-5-20251101", ("claude-opus", "", (4, 5))),
    ("claude-sonnet-4-6[1m]", ("claude-sonnet", "", (4, 6))),
    ("claude-3-5-sonnet", ("claude-sonnet", "", (3, 5))),
    ("claude-opus-5", ("claude-opus", "", (5,))),
    ("gemini-3-pro-high", ("gemini-pro", "high", (3,))),
    ("gemini-3.1-pro-low", ("gemini-pro", "low", (3, 1))),
    ("gemini-pro-agent", ("gemini-pro", "high", ())),
    ("gemini-3.5-flash-extra-low", ("gemini-flash", "low", (3, 5))),
    ("gemini-3.1-flash-lite", ("gemini-flash-lite", "", (3, 1))),
    ("gemini-3.1-flash-image", None),
    ("glm-4.7", None),
    ("gpt-oss-120b-medium", None),
]


@pytest.mark.parametrize(("name", "make"), MAKES, ids=[row[0] for row in MAKES])
def test_a_name_says_what_the_model_is(name: str, make: tuple[str, str, tuple[int, ...]] | None) -> None:
    assert make_of(name) == make


REPLACED: list[tuple[str, tuple[str, ...], str | None]] = [
    # a name · what is offered · what took its place
    ("gemini-3-pro-high", ANTIGRAVITY, "gemini-pro-agent"),
    ("gemini-3-pro-low", ANTIGRAVITY, "gemini-3.1-pro-low"),
    ("gemini-3-flash", ANTIGRAVITY, "gemini-3-flash-agent"),
    ("gemini-*-flash-high", ANTIGRAVITY, "gemini-3-flash-agent"),
    ("gemini-*-flash-high", ("gemini-3.5-flash-high", "gemini-3.10-flash-high", "gemini-3.6-flash-high"),
     "gemini-3.10-flash-high"),
    ("claude-opus-4-5-thinking", ANTIGRAVITY, "claude-opus-4-6-thinking"),
    ("claude-sonnet-4-5", ANTIGRAVITY, "claude-sonnet-4-6"),
    ("claude-sonnet-4-5-thinking", ANTIGRAVITY, "claude-sonnet-4-6"),
    ("claude-opus-4-5-thinking", ("claude-opus-5-5", "claude-opus-4-8", "claude-sonnet-5-5"), "claude-opus-5-5"),
    ("gemini-3-flash", ("gemini-3.6-flash-medium", "gemini-3.5-flash-high"), "gemini-3.5-flash-high"),
    ("gemini-3-flash-medium", ("gemini-3.6-flash-low", "gemini-3.5-flash-high"), "gemini-3.5-flash-high"),
    ("gemini-3-flash", ("gemini-3-pro-high", "claude-opus-4-6"), None),
    ("gemini-3-flash", ("gemini-3.1-flash-lite",), None),
    ("gemini-3-pro-high", ("gemini-4-pro-low",), "gemini-4-pro-low"),
    ("glm-4.7", ("glm-5.3",), None),
    ("claude-opus-4-5", (), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "offered", "wanted"), REPLACED, ids=[f"{row[0]}-{row[2]}" for row in REPLACED])
def test_a_model_that_is_offered_no_more_is_the_one_in_its_place(
    name: str, offered: tuple[str, ...], wanted: str | None
) -> None:
    assert nearest(name, offered) == wanted
    assert nearest(name, reversed(offered)) == wanted, "whatever the order"


def test_the_table_has_the_pairs_that_people_use() -> None:
    first = {name: chain(name, BUILT_IN)[0] for name in BUILT_IN if "*" not in name}
    assert first == {
        "gemini-3-pro-high": "claude-opus-4-5-thinking",
        "gemini-3-pro-low": "claude-sonnet-4-5",
        "gemini-3-flash": "claude-sonnet-4-5-thinking",
        "claude-opus-4-5-thinking": "gemini-3-pro-high",
        "claude-sonnet-4-5-thinking": "gemini-3-flash",
        "claude-sonnet-4-5": "gemini-3-flash",
        "claude-opus-4-6-thinking": "gemini-pro-agent",
        "gemini-pro-agent": "claude-opus-4-6-thinking",
        "claude-sonnet-4-6": "gemini-*-flash-high",
    }
    assert chain("gemini-3.6-flash-high", BUILT_IN)[0] == "claude-sonnet-4-6"


@pytest.mark.parametrize("asked", [*BUILT_IN, "claude-opus-9", "gemini-9-pro-high", "nobody"])
def test_no_chain_is_a_loop(asked: str) -> None:
    found = chain(asked, BUILT_IN)
    assert len(set(found)) == len(found) < LONGEST_CHAIN
    assert asked not in found


def test_a_chain_follows_what_stands_in_for_what_stands_in() -> None:
    table = {"a": ("b", "c"), "b": ("d", "a"), "c": ("d",), "d": ("a", "e")}
    assert chain("a", table) == ("b", "c", "d", "e")


def test_a_chain_has_an_end() -> None:
    table = {str(number): (str(number + 1),) for number in range(100)}
    assert len(chain("0", table)) == LONGEST_CHAIN - 1


def test_a_model_that_the_table_does_not_name_has_the_row_of_its_kind() -> None:
    assert chain("claude-opus-5-5", BUILT_IN)[0] == "gemini-pro-agent"
    assert chain("claude-haiku-4-5", BUILT_IN) == ()
    assert chain("claude-opus-4-6-thinking", {**BUILT_IN, "claude-opus-4-6-thinking": ()}) == (), "it was switched off"


def test_what_a_name_is_served_by_counts_where_the_table_does_not_know_it() -> None:
    assert chain("fast", {"glm": ("kimi",)}, known_as=("glm",)) == ("kimi",)


def test_a_pattern_stands_for_what_it_covers_and_the_closer_one_wins() -> None:
    table = {"glm-*": ("k3",), "glm-4.*": ("k2",), "glm-4.7": ("k1",)}
    assert [chain(name, table) for name in ("glm-5", "glm-4.6", "glm-4.7", "other")] == [("k3",), ("k2",), ("k1",), ()]
    assert chain("gemini-3-flash-low", {"gemini-*-flash-high": ("k3",)}) == (), "it covers no other grade"


# who serves what stands in


def offers(*models: str) -> list[Offer]:
    return [Offer(ModelId(model)) for model in models]


GOOGLE = seat("google", provider="antigravity", offers=offers(*ANTIGRAVITY))
CLAUDE = seat(
    "claude", provider="anthropic", offers=offers("claude-opus-4-8", "claude-sonnet-5"), serves=sizes(opus="x")
)
GLM = seat("glm", provider="zai", offers=offers("glm-5", "glm-4.7"), serves=sizes(opus="glm-5", sonnet="glm-4.7"))
KNOWN = frozenset(map(provider, ("zai", "anthropic", "antigravity")))
CHAIN = Policy(fallbacks=BUILT_IN, substitutes=True, providers=KNOWN)


def ways(asked: str, *seats: Seat, policy: Policy = CHAIN) -> dict[str, list[str]]:
    """Each account's models in the order they are tried: a `+` for a stand-in by size, the step of a fallback."""
    return {
        account: [
            f"{'+' if way.substitute else ''}{way.offer.model}{f'@{way.step}' if way.step else ''}" for way in each
        ]
        for account, each in resolve(asked, seats, policy).serving.items()
    }


def test_one_account_stands_in_for_itself() -> None:
    assert ways("claude-opus-4-6-thinking", GOOGLE) == {"google": ["claude-opus-4-6-thinking", "gemini-pro-agent@1"]}
    assert ways("claude-sonnet-4-6", GOOGLE) == {"google": ["claude-sonnet-4-6", "gemini-3-flash-agent@1"]}
    assert ways("gemini-pro-agent", GOOGLE) == {"google": ["gemini-pro-agent", "claude-opus-4-6-thinking@1"]}


def test_without_fallback_nobody_does() -> None:
    policy = Policy(providers=KNOWN)
    assert ways("claude-opus-4-6-thinking", GOOGLE, policy=policy) == {"google": ["claude-opus-4-6-thinking"]}


def test_accounts_that_have_the_model_come_first_and_others_by_size_beside_them() -> None:
    assert ways("claude-opus-4-8", CLAUDE, GOOGLE, GLM) == {
        "claude": ["claude-opus-4-8"],
        "glm": ["+glm-5"],
        "google": ["gemini-pro-agent@1", "claude-opus-4-6-thinking@2"],
    }


def test_a_name_that_nobody_offers_any_more_is_what_took_its_place() -> None:
    assert ways("gemini-3-pro-high", GOOGLE) == {"google": ["gemini-pro-agent@1", "claude-opus-4-6-thinking@2"]}
    assert ways("gemini-3-pro-high", GLM) == {}
    assert ways("nobody-knows", GOOGLE) == {}


def test_who_binds_a_request_to_a_provider_gets_no_stand_in_elsewhere() -> None:
    assert ways("antigravity/claude-opus-4-6-thinking", GOOGLE, CLAUDE, GLM) == {
        "google": ["claude-opus-4-6-thinking", "gemini-pro-agent@1"]
    }


def test_the_operators_row_replaces_the_built_in_one() -> None:
    row = {"claude-opus-4-6-thinking": ("zai/glm-4.7", "gemini-3-flash")}
    policy = Policy(fallbacks={**BUILT_IN, **row}, providers=KNOWN)
    assert ways("claude-opus-4-6-thinking", GOOGLE, GLM, policy=policy) == {
        "google": ["claude-opus-4-6-thinking", "gemini-3-flash-agent@2", "claude-sonnet-4-6@3"],
        "glm": ["glm-4.7@1"],
    }


def test_a_stand_in_that_is_bound_to_a_provider_is_no_others() -> None:
    table = {"glm-5": ("antigravity/claude-sonnet-4-5",)}
    assert ways("glm-5", GLM, CLAUDE, GOOGLE, policy=Policy(fallbacks=table, providers=KNOWN)) == {
        "glm": ["glm-5"],
        "google": ["claude-sonnet-4-6@1"],
    }


def test_a_stand_in_may_be_any_model_where_its_provider_takes_every_name() -> None:
    table = {"glm-5": ("custom/local-coder", "other")}
    policy = Policy(fallbacks=table, providers=KNOWN | {provider("custom")})
    assert ways("glm-5", GLM, seat("own", provider="custom", offers=(), any=True), policy=policy)["own"] == [
        "glm-5",
        "local-coder@1",
    ]


def test_what_stands_in_for_a_stand_in_of_the_same_size_does_not_for_the_model() -> None:
    policy = Policy(fallbacks={"glm-5": ("gemini-pro-agent",)}, substitutes=True, providers=KNOWN)
    assert ways("claude-opus-4-8", CLAUDE, GOOGLE, GLM, policy=policy) == {
        "claude": ["claude-opus-4-8"],
        "glm": ["+glm-5"],
    }


def test_an_account_is_asked_for_its_models_in_the_order_of_the_chain() -> None:
    row = {"claude-opus-4-8": ("zai/glm-4.7",)}
    policy = Policy(fallbacks=row, own_rows=frozenset(row), substitutes=True, providers=KNOWN)
    assert ways("claude-opus-4-8", CLAUDE, GLM, policy=policy)["glm"] == ["glm-4.7@1", "+glm-5@2"]


def test_a_model_that_makes_pictures_stands_in_for_none() -> None:
    painter = seat("painter", provider="antigravity", offers=[Offer(ModelId("gemini-9-flash-high"), pictures=True)])
    policy = Policy(fallbacks={"glm-5": ("gemini-3-flash",)}, providers=KNOWN)
    assert ways("glm-5", GLM, painter, policy=policy) == {"glm": ["glm-5"]}


def test_what_the_operator_says_stands_in_comes_before_another_of_the_same_size() -> None:
    row = {"claude-opus-4-8": ("gemini-pro-agent",)}
    policy = Policy(fallbacks={**BUILT_IN, **row}, own_rows=frozenset(row), substitutes=True, providers=KNOWN)
    assert ways("claude-opus-4-8", CLAUDE, GOOGLE, GLM, policy=policy) == {
        "claude": ["claude-opus-4-8"],
        "google": ["gemini-pro-agent@1", "claude-opus-4-6-thinking@2"],
        "glm": ["+glm-5@3"],
    }


@pytest.mark.parametrize("asked", ["claude-opus-4-8", "claude-*", "claude-opus-*"])
def test_where_the_operator_lets_nobody_stand_in_another_of_the_same_size_does_not_either(asked: str) -> None:
    row: dict[str, tuple[str, ...]] = {asked: ()}
    policy = Policy(fallbacks=under(row), own_rows=frozenset(row), substitutes=True, providers=KNOWN)
    last = seat("last", provider="claude-subscription", offers=offers("claude-opus-4-8"), local=True, tier=LAST_RESORT)
    assert ways("claude-opus-4-8", CLAUDE, GOOGLE, GLM, last, policy=policy) == {
        "claude": ["claude-opus-4-8"],
        "last": ["+claude-opus-4-8"],
    }, "a last resort that has the model is no other"
    assert ways("claude-opus-4-8", GLM, policy=policy) == {"glm": ["glm-5"]}, "who serves the name itself by its size"


def test_the_operators_pattern_comes_before_the_built_in_rows_that_it_covers() -> None:
    rows = under({"gemini-*": ("glm-5",), "claude-sonnet-4-5": ()})
    assert chain("gemini-3-flash", rows) == chain("gemini-3.8-flash-high", rows) == ("glm-5",)
    assert chain("claude-sonnet-4-5", rows) == ()
    assert chain("claude-opus-4-6-thinking", rows) == ("gemini-pro-agent", "glm-5"), "what it does not cover stays"


def test_a_row_that_names_a_provider_means_that_provider() -> None:
    row = {"claude-opus-4-8": ("antigravity/claude-opus-4-5", "zai/glm-4.7")}
    policy = Policy(fallbacks=row, own_rows=frozenset(row), providers=KNOWN)
    other = seat("other", provider="anthropic", offers=offers("claude-opus-4-5", "glm-4.7"))
    assert ways("claude-opus-4-8", CLAUDE, GOOGLE, GLM, other, policy=policy) == {
        "claude": ["claude-opus-4-8"],
        "google": ["claude-opus-4-6-thinking@1"],
        "glm": ["glm-4.7@2"],
    }


def test_a_last_resort_stands_behind_everybody_who_could_serve_at_all() -> None:
    last = seat("last", provider="claude-subscription", offers=offers("claude-opus-4-8"), local=True, tier=LAST_RESORT)
    plain = Policy(providers=KNOWN)
    assert ways("claude-opus-4-8", last, policy=plain) == {"last": ["claude-opus-4-8"]}
    assert ways("claude-opus-4-8", last, CLAUDE, policy=plain) == {
        "claude": ["claude-opus-4-8"],
        "last": ["+claude-opus-4-8"],
    }
    chosen = replace(last, tier=1)
    assert ways("claude-opus-4-8", chosen, GLM, policy=plain) == {"last": ["claude-opus-4-8"]}, (
        "its owner wants it first"
    )
    assert ways("claude-opus-4-8", last, GLM, policy=plain) == {"glm": ["glm-5"], "last": ["+claude-opus-4-8"]}
    assert ways("claude-opus-4-8", last, CLAUDE, GLM, policy=Policy(substitutes=True, providers=KNOWN)) == {
        "claude": ["claude-opus-4-8"],
        "glm": ["+glm-5"],
        "last": ["+claude-opus-4-8"],
    }
    second = seat("second", provider="x", offers=offers("claude-opus-4-8"), local=True, tier=LAST_RESORT)
    assert ways("claude-opus-4-8", last, second, policy=plain) == {
        "last": ["claude-opus-4-8"],
        "second": ["claude-opus-4-8"],
    }, "with nobody else there is nobody to stand behind"
