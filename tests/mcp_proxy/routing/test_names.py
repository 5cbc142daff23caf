"""Who serves a model name: the contract's paragraph of that name, line by line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.routing.facts import Policy, Route, Seat
from mcp_proxy.routing.names import alias_of, size_of
from mcp_proxy.routing.serving import resolve
from tests.mcp_proxy.routing.seats import ModelId, provider, seat, sizes

GLM = sizes(haiku="glm-air", sonnet="glm", opus="glm", fable="glm")
OWN = sizes(haiku="claude-haiku-9", sonnet="claude-sonnet-9", opus="claude-opus-9")


def offers(*models: str) -> list[Offer]:
    return [Offer(ModelId(model)) for model in models]


ZAI = seat("zai", provider="zai", offers=offers("glm", "glm-air", "glm-long[1m]"), serves=GLM)
ZAI2 = seat("zai2", provider="zai", offers=offers("glm", "glm-air"), serves=GLM)
KIMI = seat("kimi", provider="kimi", offers=offers("k3", "glm"), serves=sizes(sonnet="k3"))
CLAUDE = seat(
    "claude",
    provider="anthropic",
    offers=offers("claude-haiku-9", "claude-sonnet-9", "claude-opus-9", "claude-opus-8"),
    serves=OWN,
)
ROUTER = seat("router", provider="openrouter", offers=offers("anthropic/claude-opus-9", "meta/llama-9", "zai/glm"))
ANY = seat("any", provider="custom", offers=(), serves=Serves(any=True), any=True)
NAMED = seat("named", provider="custom", offers=offers("my-model"), serves=Serves(any=True))

KNOWN = frozenset(map(provider, ("zai", "kimi", "anthropic", "openrouter", "custom")))
FALLBACK = Policy(substitutes=True)
NO_POLICY = Policy()


def off(held: Seat) -> Seat:
    return seat(held.id, provider=held.provider, offers=held.offers.values(), serves=held.serves, enabled=False)


def aliased(**aliases: str) -> Policy:
    return Policy(aliases={name.replace("_", "-"): target for name, target in aliases.items()})


def routed(**sizes: Route) -> Policy:
    return Policy(tiers={Size(size): route for size, route in sizes.items()})


def own(**aliases: dict[str, str]) -> Policy:
    return Policy(own_aliases={provider(name): table for name, table in aliases.items()}, providers=KNOWN)


def tiers(**sizes: str) -> Policy:
    return Policy(tiers={Size(size): Route(provider(name)) for size, name in sizes.items()})


WHO: list[tuple[str, str, list[Seat], Policy, dict[str, str]]] = [
    # what the contract says · asked · the pool · the policy · who serves it, as what; + marks a substitute
    ("an id that some account serves wins", "k3", [ZAI, KIMI], NO_POLICY, {"kimi": "k3"}),
    ("all who serve it share it", "glm", [ZAI, KIMI], NO_POLICY, {"zai": "glm", "kimi": "glm"}),
    ("an id with a slash is an id first", "zai/glm", [ZAI, ROUTER], NO_POLICY, {"router": "zai/glm"}),
    (
        "also one that looks bound",
        "anthropic/claude-opus-9",
        [CLAUDE, ROUTER],
        NO_POLICY,
        {"router": "anthropic/claude-opus-9"},
    ),
    ("an id with a slash that is no provider", "meta/llama-9", [ZAI, ROUTER], NO_POLICY, {"router": "meta/llama-9"}),
    ("a provider before the slash binds", "kimi/glm", [ZAI, KIMI], NO_POLICY, {"kimi": "glm"}),
    ("bound to an id with a slash", "openrouter/meta/llama-9", [ZAI, ROUTER], NO_POLICY, {"router": "meta/llama-9"}),
    ("bound, and by size there", "zai/claude-sonnet-9", [ZAI, CLAUDE], NO_POLICY, {"zai": "glm"}),
    ("bound, and nobody else takes part", "kimi/glm", [ZAI, KIMI, ANY], FALLBACK, {"kimi": "glm"}),
    ("bound to who does not have it", "kimi/glm-air", [ZAI, KIMI], FALLBACK, {}),
    ("bound to a provider that is switched off", "zai/claude-opus-9", [off(ZAI), CLAUDE, ANY], FALLBACK, {}),
    ("as it is listed for Claude Code", "anthropic/zai/glm", [ZAI, CLAUDE], NO_POLICY, {"zai": "glm"}),
    ("with a slash of its own", "anthropic/openrouter/meta/llama-9", [ROUTER], NO_POLICY, {"router": "meta/llama-9"}),
    ("anthropic as a provider", "anthropic/claude-opus-8", [ZAI, CLAUDE], NO_POLICY, {"claude": "claude-opus-8"}),
    ("also beside one that lists it", "glm", [ZAI, ANY], NO_POLICY, {"zai": "glm", "any": "glm"}),
    ("a provider without accounts binds too", "kimi/glm", [ZAI, ANY], NO_POLICY, {}),
    ("an account that lists nothing serves every id", "whatever", [ZAI, ANY], NO_POLICY, {"any": "whatever"}),
    ("bound to it", "custom/whatever", [ZAI, ANY], NO_POLICY, {"any": "whatever"}),
    ("one that names its models serves those", "whatever", [ZAI, NAMED], NO_POLICY, {}),
    ("and does serve those", "my-model", [ZAI, NAMED], NO_POLICY, {"named": "my-model"}),
    (
        "a name nobody serves goes by its size",
        "claude-haiku-4-5",
        [ZAI, CLAUDE],
        NO_POLICY,
        {"zai": "glm-air", "claude": "claude-haiku-9"},
    ),
    ("with any single provider", "claude-opus-4-1", [ZAI], NO_POLICY, {"zai": "glm"}),
    ("a provider without that size stays out", "claude-haiku-4-5", [ZAI, KIMI], NO_POLICY, {"zai": "glm-air"}),
    ("where every id is served nobody stands in", "claude-opus-4", [ZAI, ANY], NO_POLICY, {"any": "claude-opus-4"}),
    (
        "but with --fallback",
        "claude-opus-4-1",
        [ZAI, ANY],
        FALLBACK,
        {"any": "claude-opus-4-1", "zai": "+glm"},
    ),
    ("who serves the name is alone", "claude-sonnet-9", [ZAI, CLAUDE], NO_POLICY, {"claude": "claude-sonnet-9"}),
    (
        "but with --fallback others stand by",
        "claude-sonnet-9",
        [ZAI, CLAUDE, KIMI],
        FALLBACK,
        {"claude": "claude-sonnet-9", "zai": "+glm", "kimi": "+k3"},
    ),
    ("--fallback helps no name without a size", "k3", [ZAI, KIMI], FALLBACK, {"kimi": "k3"}),
    ("no size and nobody", "gpt-9", [ZAI, CLAUDE, KIMI], FALLBACK, {}),
    ("nobody at all", "claude-opus-9", [], FALLBACK, {}),
    ("an alias replaces the name", "fast", [ZAI, KIMI], aliased(fast="k3"), {"kimi": "k3"}),
    ("and binds it", "claude-haiku-9", [ZAI, CLAUDE], aliased(**{"claude-haiku-*": "zai/glm-air"}), {"zai": "glm-air"}),
    ("an alias to a size", "fast", [ZAI], aliased(fast="claude-haiku-1"), {"zai": "glm-air"}),
    ("a client's own star is a letter like others", "zai/*", [ZAI, KIMI], NO_POLICY, {}),
    ("also without a provider", "*", [ZAI, KIMI], NO_POLICY, {}),
    ("an alias to nobody", "glm", [ZAI], aliased(glm="gone"), {}),
    ("an alias is not followed twice", "a", [ZAI, KIMI], aliased(a="b", b="k3"), {}),
    ("an alias before a tier", "claude-haiku-9", [ZAI, KIMI, CLAUDE], Policy(
        aliases={"claude-haiku-9": "k3"}, tiers={Size.HAIKU: Route(provider("zai"))}), {"kimi": "k3"}),
    ("a tier sends a size to its provider", "claude-haiku-9", [ZAI, CLAUDE], tiers(haiku="zai"), {"zai": "glm-air"}),
    ("an id of that size that it has itself", "claude-opus-8", [ZAI, CLAUDE], tiers(opus="anthropic"),
     {"claude": "claude-opus-8"}),
    ("other sizes go as ever", "claude-opus-9", [ZAI, CLAUDE], tiers(haiku="zai"), {"claude": "claude-opus-9"}),
    ("a tier nobody stands behind", "claude-haiku-9", [CLAUDE], tiers(haiku="zai"), {"claude": "claude-haiku-9"}),
    (
        "who names a provider means it",
        "anthropic/claude-haiku-9",
        [ZAI, CLAUDE],
        tiers(haiku="zai"),
        {"claude": "claude-haiku-9"},
    ),
    ("the mark of a long context is no part of the name", "glm[1m]", [ZAI], NO_POLICY, {"zai": "glm"}),
    ("unless an id has it", "glm-long[1m]", [ZAI], NO_POLICY, {"zai": "glm-long[1m]"}),
    ("a marked id before its size", "claude-opus-8[1m]", [ZAI, CLAUDE], NO_POLICY, {"claude": "claude-opus-8"}),
    ("bound too", "anthropic/claude-opus-8[1m]", [ZAI, CLAUDE], NO_POLICY, {"claude": "claude-opus-8"}),
    ("and an id that has it, bound", "zai/glm-long[1m]", [ZAI, KIMI], NO_POLICY, {"zai": "glm-long[1m]"}),
    ("no provider is told of a mark", "whatever[1m]", [ANY], NO_POLICY, {"any": "whatever"}),
    ("by size", "claude-opus-4-1[1m]", [ZAI], NO_POLICY, {"zai": "glm"}),
    ("an alias for the plain name", "fast[1m]", [ZAI, KIMI], aliased(fast="k3"), {"kimi": "k3"}),
    ("an account that is switched off serves nothing", "glm", [off(ZAI), KIMI], NO_POLICY, {"kimi": "glm"}),
    ("not by size either", "claude-opus-1", [off(ZAI)], NO_POLICY, {}),
]  # fmt: skip


@pytest.mark.parametrize(("says", "asked", "pool", "policy", "who"), WHO, ids=[row[0] for row in WHO])
def test_who_serves_a_name(says: str, asked: str, pool: list[Seat], policy: Policy, who: dict[str, str]) -> None:
    target = resolve(asked, pool, replace(policy, providers=KNOWN))
    assert target.asked == asked
    told = {account: f"{'+' if way.substitute else ''}{way.offer.model}" for account, (way,) in target.serving.items()}
    assert told == who


def test_a_refused_credential_still_serves_its_name_so_that_its_owner_is_told() -> None:
    refused = seat("claude", provider="anthropic", offers=offers("claude-opus-9"), invalid="revoked")
    assert set(resolve("claude-opus-9", [refused, ZAI], NO_POLICY).serving) == {"claude"}


def test_an_account_that_named_its_models_has_no_size_it_lacks() -> None:
    small = seat("small", provider="zai", offers=offers("glm-air"), serves=GLM)
    assert resolve("claude-opus-1", [small], NO_POLICY).serving == {}
    assert resolve("claude-haiku-1", [small], NO_POLICY).serving["small"][0].offer.model == "glm-air"  # type: ignore[index]


def test_an_id_nobody_lists_gets_the_buckets_its_provider_gives_it() -> None:
    special = Serves(any=True, offer=lambda model: Offer(model, context_window=7))
    pool = [seat("any", provider="custom", offers=(), serves=special, any=True)]
    ((serving,),) = resolve("x", pool, NO_POLICY).serving.values()
    assert serving.offer == Offer(ModelId("x"), context_window=7)


@pytest.mark.parametrize(
    ("asked", "aliases", "name"),
    [
        ("x", {}, None),
        ("x", {"y": "z"}, None),
        ("x", {"x": "z"}, "z"),
        ("claude-haiku-4-5", {"*": "a", "claude-*": "b", "claude-haiku-*": "c", "*-4-5": "d"}, "c"),
        ("claude-haiku-4-5", {"claude-haiku-4-5": "exact", "claude-haiku-*": "c"}, "exact"),
        ("claude-haiku-4-5", {"*haiku*": "a", "*": "b"}, "a"),
        ("CLAUDE", {"claude": "a"}, None),
        ("a?c", {"a?c": "itself"}, "itself"),
        ("abc", {"a?c": "itself"}, None),
        ("m[1m]", {"m[1m]": "long"}, "long"),
        ("m1", {"m[1m]": "long"}, None),
        ("a[b]c", {"a[b]*": "x"}, "x"),
    ],
)
def test_the_most_specific_alias_wins_and_only_a_star_is_special(
    asked: str, aliases: dict[str, str], name: str | None
) -> None:
    assert alias_of(asked, aliases) == name
    assert alias_of(asked, dict(reversed(aliases.items()))) == name


@pytest.mark.parametrize("pattern", ["claude-*", "claude-subscription*", "*"])
@pytest.mark.parametrize("of_one_provider", [True, False])
def test_a_pattern_of_models_says_nothing_of_a_name_that_names_its_provider(
    pattern: str, of_one_provider: bool
) -> None:
    plan = seat("plan", provider="claude-subscription", offers=offers("claude-opus-9"), serves=OWN)
    known, table = KNOWN | {plan.provider}, {pattern: "glm"}
    policy = Policy(own_aliases={ZAI.provider: table}) if of_one_provider else Policy(aliases=table)
    policy = replace(policy, providers=known)
    for spelled in ("claude-subscription/claude-opus-9", "claude-subscription/claude-opus-9[1m]"):
        assert list(resolve(spelled, [ZAI, plan], policy).serving) == ["plan"]
    assert resolve("zai/glm-air", [ZAI, plan], policy).serving[ZAI.id][0].offer.model == (
        "glm" if of_one_provider and pattern == "*" else "glm-air"
    ), "within its provider its own aliases hold"


def test_a_pattern_with_a_slash_is_about_names_with_their_provider() -> None:
    policy = Policy(aliases={"kimi/*": "zai/glm-air"}, providers=KNOWN)
    assert list(resolve("kimi/k3", [ZAI, KIMI], policy).serving) == ["zai"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("claude-opus-4-1", Size.OPUS),
        ("Claude-SONNET", Size.SONNET),
        ("haiku", Size.HAIKU),
        ("claude-fable-5", Size.FABLE),
        ("opus-and-haiku", Size.OPUS),
        ("glm-5", None),
        ("", None),
    ],
)
def test_a_name_belongs_to_the_first_size_it_contains(name: str, size: Any) -> None:
    assert size_of(name) is size
