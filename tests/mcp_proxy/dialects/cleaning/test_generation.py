from __future__ import annotations

from typing import Any

import pytest

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.cleaning.generation import told
from mcp_proxy.dialects.cleaning.rules import ANY_TASTE, Taste, Thinking
from mcp_proxy.providers import anthropic_api, zai

ADAPTIVE = {"type": "adaptive", "display": "omitted"}
BUDGET = {"type": "enabled", "budget_tokens": 20_000}
OFF = {"type": "disabled"}


@pytest.mark.parametrize(
    ("knows", "given", "changed"),
    [
        (Thinking.ANY, {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}, {}),
        (
            Thinking.BUDGET,
            {"thinking": ADAPTIVE, "output_config": {"effort": "high"}, "max_tokens": 64_000},
            {
                "thinking": {"type": "enabled", "budget_tokens": 31_999, "display": "omitted"},
                "output_config": None,
            },
        ),
        (
            Thinking.BUDGET,
            {"thinking": ADAPTIVE, "max_tokens": 2000},
            {"thinking": {"type": "enabled", "budget_tokens": 1999, "display": "omitted"}},
        ),
        (Thinking.BUDGET, {"thinking": ADAPTIVE, "max_tokens": 64}, {"thinking": OFF}),
        (Thinking.BUDGET, {"thinking": BUDGET, "max_tokens": 64_000}, {}),
        (Thinking.BUDGET, {"thinking": OFF}, {}),
        (Thinking.BUDGET, {"output_config": {"effort": "low", "format": {}}}, {"output_config": {"format": {}}}),
        (Thinking.ADAPTIVE, {"thinking": BUDGET}, {"thinking": {"type": "adaptive"}}),
        (Thinking.ADAPTIVE, {"thinking": OFF, "output_config": {"effort": "low"}}, {}),
        (
            Thinking.EFFORT,
            {"thinking": BUDGET},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        (
            Thinking.EFFORT,
            {"thinking": {**BUDGET, "budget_tokens": 2000}},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (Thinking.EFFORT, {"thinking": OFF}, {}),
        (Thinking.EFFORT, {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}, {}),
        (
            Thinking.ALWAYS,
            {"thinking": OFF, "output_config": {"format": {}, "effort": "high"}},
            {"thinking": {"type": "adaptive"}, "output_config": {"format": {}, "effort": "low"}},
        ),
        (Thinking.ALWAYS, {"thinking": "nonsense", "output_config": 3}, {}),
    ],
)
def test_a_wish_is_told_in_the_models_own_words(
    knows: Thinking, given: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert told(given, Taste(knows))[0] == changed
    assert told({**given, **{key: value for key, value in changed.items() if value}}, Taste(knows))[0] in (
        {},
        {key: None for key, value in changed.items() if value is None},
    )


def test_more_than_a_model_can_say_becomes_what_it_can_and_the_budget_stays_under_it() -> None:
    changed, names = told(
        {"max_tokens": 128_000, "thinking": {**BUDGET, "budget_tokens": 100_000}}, Taste(Thinking.BUDGET, 64_000)
    )
    assert changed == {"max_tokens": 64_000, "thinking": {"type": "enabled", "budget_tokens": 63_999}}
    assert names == ["max_tokens", "thinking"]
    assert told({"max_tokens": 64_000}, Taste(max_output=64_000)) == ({}, [])


@pytest.mark.parametrize(
    ("model", "taste"),
    [
        ("glm-4.7", Taste(Thinking.BUDGET)),
        ("glm-5", Taste(Thinking.BUDGET)),
        ("glm-5.1", Taste(Thinking.BUDGET)),
        ("glm-5-turbo", Taste(Thinking.EFFORT)),
        ("GLM-5.2[1m]", Taste(Thinking.EFFORT)),
        ("glm-5.3", Taste(Thinking.ALWAYS)),
        ("glm-6", Taste(Thinking.ALWAYS)),
        ("claude-opus-5", ANY_TASTE),
    ],
)
def test_a_glm_generation_is_known_by_its_version(model: str, taste: Taste) -> None:
    assert zai.taste(ModelId(model)) == taste


@pytest.mark.parametrize(
    ("model", "taste"),
    [
        ("claude-opus-4-5-20251101", Taste(Thinking.BUDGET, 64_000)),
        ("claude-sonnet-4-20250514", Taste(Thinking.BUDGET)),
        ("claude-opus-4-6", Taste(Thinking.ANY, 128_000)),
        ("claude-opus-4-7", Taste(Thinking.ADAPTIVE, 128_000)),
        ("claude-fable-5", Taste(Thinking.ADAPTIVE, 128_000)),
        ("claude-next", ANY_TASTE),
    ],
)
def test_a_claude_generation_too(model: str, taste: Taste) -> None:
    assert anthropic_api.taste(ModelId(model)) == taste
