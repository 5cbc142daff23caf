"""How much may be said and thought, in the words a model knows. Facts: each provider's own table of its models."""

from __future__ import annotations

from typing import Any, TypeGuard

from mcp_proxy.dialects.cleaning.rules import Name, Taste, Thinking

LEAST_BUDGET = 1024
USUAL_BUDGET = 31_999
"""What Claude Code gives models that want a budget."""

LITTLE_BUDGET = 8192
"""Under this many tokens of thought the effort is low."""

Fields = dict[str, Any]
"""Top-level fields; None for one that is not there, or is to go."""

READ = ("thinking", "output_config", "max_tokens")


def told(fields: Fields, taste: Taste) -> tuple[Fields, list[Name]]:
    """The fields of `READ` that have to change, and what was done. Never raises; what is malformed stays."""
    changed: Fields = {}
    names: list[Name] = []
    limit = fields.get("max_tokens")
    if taste.max_output is not None and _count(limit) and limit > taste.max_output:
        changed["max_tokens"] = limit = taste.max_output
        names.append(Name.MAX_TOKENS)
    thinking, output = fields.get("thinking"), fields.get("output_config")
    meant = _thinking(thinking, taste.thinking, limit) if isinstance(thinking, dict) else thinking
    if meant != thinking:
        changed["thinking"] = meant
        names.append(Name.THINKING)
    config = output if isinstance(output, dict) else {}
    wanted = _effort(config.get("effort"), thinking if isinstance(thinking, dict) else {}, taste.thinking)
    if wanted != config.get("effort") and (output is None or isinstance(output, dict)):
        kept = {key: value for key, value in config.items() if key != "effort"}
        changed["output_config"] = {**kept, **({"effort": wanted} if wanted else {})} or None
        names.append(Name.EFFORT)
    return changed, names


def _thinking(thinking: Fields, knows: Thinking, limit: Any) -> Fields:
    """The same wish in this model's words."""
    rest = {key: value for key, value in thinking.items() if key not in ("type", "budget_tokens")}
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    match knows:
        case Thinking.BUDGET if kind in ("adaptive", "enabled"):
            wanted = budget if kind == "enabled" and _count(budget) else USUAL_BUDGET
            if _count(limit):
                wanted = min(wanted, limit - 1)
            if kind == "enabled" and wanted == budget:
                return thinking
            return {"type": "enabled", "budget_tokens": wanted, **rest} if wanted >= LEAST_BUDGET else OFF
        case Thinking.ADAPTIVE | Thinking.EFFORT | Thinking.ALWAYS if kind == "enabled":
            return {"type": "adaptive", **rest}
        case Thinking.ALWAYS if kind == "disabled":
            return {"type": "adaptive"}
    return thinking


OFF: Fields = {"type": "disabled"}


def _effort(given: Any, thinking: Fields, knows: Thinking) -> Any:
    """None: none is said."""
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if knows is Thinking.BUDGET:
        return None
    if knows is Thinking.ALWAYS and kind == "disabled":
        return "low"
    if knows in (Thinking.EFFORT, Thinking.ALWAYS) and kind == "enabled" and given is None and _count(budget):
        return "low" if budget < LITTLE_BUDGET else "high"
    return given


def _count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
