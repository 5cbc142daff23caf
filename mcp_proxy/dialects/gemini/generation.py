"""How long, how freely and with how much thought: `generationConfig`."""

from __future__ import annotations

from typing import Any

from mcp_proxy.dialects.gemini.profile import Profile
from mcp_proxy.dialects.schema import clean

_EFFORTS = {"low": 4_096, "medium": 16_000, "high": 32_000, "xhigh": 48_000, "max": 63_999}
_UNTOLD_EFFORT = "high"
_UNTOLD_BUDGET = 32_000


def thinking_budget(thinking: Any, output_config: Any, limit: int | None, profile: Profile) -> int | None:
    """How many tokens the model may think with; None where it shall not, or has no room to.

    limit  the most tokens of the answer, thoughts included
    """
    if not profile.thinks or not isinstance(thinking, dict):
        return None
    least, most = profile.budgets
    match thinking.get("type"):
        case "enabled":
            told = thinking.get("budget_tokens")
            budget = told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else _UNTOLD_BUDGET
            room = limit - 1 if limit is not None else budget
        case "adaptive" | "auto":
            effort = output_config.get("effort") if isinstance(output_config, dict) else None
            budget = _EFFORTS.get(effort if isinstance(effort, str) else "", _EFFORTS[_UNTOLD_EFFORT])
            room = limit // 2 if limit is not None else budget  # nobody chose this number: the answer needs room too
        case _:
            return None
    budget = min(max(budget, least), most, room)
    return budget if budget >= least else None


def answer_limit(max_tokens: Any, profile: Profile) -> int | None:
    """The most tokens of the answer; None where neither the client nor the model says."""
    if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and max_tokens > 0:
        return max_tokens if profile.max_output is None else min(max_tokens, profile.max_output)
    return profile.max_output


def generation(
    ask: Any, limit: int | None, budget: int | None, answer_schema: dict[str, Any] | None, profile: Profile
) -> dict[str, Any]:
    """The `generationConfig` of a request.

    ask            the request, its settings as attributes
    budget         of `thinking_budget`
    answer_schema  of `asked_schema`, where the model can be held to it
    """
    config: dict[str, Any] = {}
    idle = profile.idle_budget if budget is None and profile.thinks else None
    if limit is not None:
        # What it thinks unasked comes out of the same limit, and would leave a short answer no room.
        config["maxOutputTokens"] = limit if idle is None else min(limit + idle, profile.max_output or limit + idle)
    if budget is None or not profile.strict_thinking:
        told = {"temperature": ask.temperature, "topP": ask.top_p, "topK": ask.top_k}
        config |= {name: value for name, value in told.items() if type(value) in (int, float)}
    if isinstance(ask.stop_sequences, list):
        stops = [text for text in ask.stop_sequences if isinstance(text, str) and text]
        if stops:
            config["stopSequences"] = stops[: profile.max_stops]
    if budget is not None:
        config["thinkingConfig"] = {"includeThoughts": True, "thinkingBudget": budget}
    elif idle is not None:
        config["thinkingConfig"] = {"includeThoughts": False, "thinkingBudget": idle}
    if answer_schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseSchema"] = clean(answer_schema).schema
    return config


def asked_schema(output_config: Any) -> dict[str, Any] | None:
    """The schema that the answer shall keep to; None where it may be anything."""
    form = output_config.get("format") if isinstance(output_config, dict) else None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        return None
    schema = form.get("schema")
    return schema if isinstance(schema, dict) else None
