from __future__ import annotations

from typing import Any

import pytest

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.profile import Family, profile_of


@pytest.mark.parametrize(
    ("model", "family", "thinks"),
    [
        ("claude-opus-4-6-thinking", Family.CLAUDE, True),
        ("claude-sonnet-4-6", Family.CLAUDE, True),
        ("claude-sonnet-4-5", Family.CLAUDE, False),
        ("claude-sonnet-4-5-thinking", Family.CLAUDE, True),
        ("claude-sonnet-4-20250514", Family.CLAUDE, False),
        ("claude-3-5-sonnet", Family.CLAUDE, False),
        ("claude-opus-5-5", Family.CLAUDE, True),
        ("claude-sonnet-5", Family.CLAUDE, True),
        ("gemini-3-flash", Family.GEMINI, True),
        ("gemini-3.8-flash-high", Family.GEMINI, True),
        ("gemini-pro-agent", Family.GEMINI, True),
        ("gemini-3.1-flash-image", Family.GEMINI, False),
        ("gemini-2.5-flash", Family.GEMINI, False),
        ("gemini-2.5-flash-thinking", Family.GEMINI, True),
        ("gpt-oss-120b-medium", Family.GPT, False),
        ("something-new", Family.GEMINI, False),
    ],
)
def test_an_id_tells_its_family_and_whether_it_thinks(model: str, family: Family, thinks: bool) -> None:
    profile = profile_of(ModelId(model))
    assert (profile.family, profile.thinks) == (family, thinks)


def test_what_the_upstream_lists_wins_over_what_the_id_tells() -> None:
    entry = {
        "supportsThinking": True, "thinkingBudget": -1, "minThinkingBudget": 32, "maxOutputTokens": 65_536,
        "supportedMimeTypes": {"image/png": True, "application/pdf": True, "video/mp4": False},
    }  # fmt: skip
    profile = profile_of(ModelId("gemini-2.5-flash"), entry)
    assert (profile.thinks, profile.budgets, profile.idle_budget) == (True, (32, 24_576), 32)
    assert (profile.max_output, profile.takes) == (65_536, {"image/png", "application/pdf"})
    assert profile_of(ModelId("claude-sonnet-4-6"), {"supportsThinking": False}).thinks is False
    assert profile_of(ModelId("claude-sonnet-4-6"), {"maxOutputTokens": 128_000}).max_output == 64_000
    assert profile_of(ModelId("claude-sonnet-4-6"), {"maxOutputTokens": 32_000}).max_output == 32_000
    assert profile_of(ModelId("gemini-3-flash"), {"supportsImages": False}).takes == frozenset()


@pytest.mark.parametrize(
    "entry", [{}, None, {"supportsThinking": "yes", "maxOutputTokens": -1, "minThinkingBudget": True}]
)
def test_a_list_that_says_nothing_changes_nothing(entry: dict[str, Any] | None) -> None:
    for model in ("claude-sonnet-4-6", "gemini-3-flash", "gpt-oss-120b-medium"):
        assert profile_of(ModelId(model), entry) == profile_of(ModelId(model))
    assert profile_of(ModelId("gpt-oss-120b-medium")).takes == frozenset()
