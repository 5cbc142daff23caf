"""What differs between the models behind Gemini's wire, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mcp_proxy.core.ids import ModelId


class Family(StrEnum):
    """Who made the model: whose rules its history has to keep."""

    CLAUDE = "claude"
    GEMINI = "gemini"
    GPT = "gpt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one model takes and gives.

    seal              put before its signatures on their way to the client, so that they say whose they are;
                      None: it signs nothing
    sentinel          stands for a missing signature of a tool call; None: a call needs none
    returns_thoughts  whether its thoughts go back to it, signed (else only the signature does, on what followed)
    fills_schemas     whether each object in a tool's schema must ask for at least one argument
    default_mode      how it is asked to call tools where the client leaves it the choice; None: nothing is said
    thinks            whether it can think
    budgets           the fewest and the most tokens it may be told to think with
    idle_budget       what it is told where nobody wants thoughts; None: nothing, and it does not think
    strict_thinking   while it thinks it takes no sampling settings and no forced tool, and a round of tool calls
                      under way must begin with its thoughts
    hint              told to it, behind the system prompt, while it thinks and has tools
    max_output        the most tokens an answer may have; None: unknown
    max_stops         the most stop sequences it takes
    takes             media types it reads; None: whatever comes, empty: text only
    answer_schema     whether the form of its answer can be prescribed by a schema
    preamble          put before every system prompt
    notices           how texts begin that come with status 200 in place of an answer
    """

    family: Family
    seal: str | None = None
    sentinel: str | None = None
    returns_thoughts: bool = False
    fills_schemas: bool = False
    default_mode: str | None = None
    thinks: bool = False
    budgets: tuple[int, int] = (1024, 32_000)
    idle_budget: int | None = None
    strict_thinking: bool = False
    hint: str | None = None
    max_output: int | None = None
    max_stops: int = 5
    takes: frozenset[str] | None = None
    answer_schema: bool = False
    preamble: tuple[str, ...] = ()
    notices: tuple[str, ...] = ("This version of Antigravity is no longer supported",)


_CLAUDE = Profile(
    family=Family.CLAUDE,
    seal="ag1c:",
    returns_thoughts=True,
    fills_schemas=True,
    default_mode="VALIDATED",
    budgets=(1024, 63_999),
    strict_thinking=True,
    hint="You may think between tool calls and after a tool's result, before you go on. Never speak of this note.",
    max_output=64_000,  # above: 400 INVALID_ARGUMENT without a reason
)
_GEMINI = Profile(
    family=Family.GEMINI,
    seal="ag1g:",
    sentinel="skip_thought_signature_validator",
    max_output=65_535,
    answer_schema=True,
)
_GPT = Profile(family=Family.GPT, max_output=32_768, takes=frozenset())

SEALS = tuple(profile.seal for profile in (_CLAUDE, _GEMINI) if profile.seal is not None)
"""How every signature begins that a client has from here."""

_GEMINI_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_CLAUDE_VERSION = re.compile(r"claude-\D*?(\d+)(?:-(\d{1,2})(?!\d))?")


def profile_of(model: ModelId, entry: Mapping[str, Any] | None = None) -> Profile:
    """The profile of a model.

    entry  what `fetchAvailableModels` says of it; where that is silent or absent the id has to tell. Never raises.
    """
    told = entry if entry is not None else {}
    base = _by_name(model)
    thinks = told.get("supportsThinking")
    most = _count(told.get("maxOutputTokens"))
    least = _count(told.get("minThinkingBudget"))
    if least is not None:
        base = replace(base, budgets=(least, max(least, base.budgets[1])))
        base = replace(base, idle_budget=least) if base.idle_budget is not None else base
    return replace(
        base,
        thinks=thinks if isinstance(thinks, bool) and base.family is not Family.GPT else base.thinks,
        max_output=base.max_output if most is None else _most(base, most),
        takes=_media(told, base),
    )


def _by_name(model: str) -> Profile:
    name = model.lower()
    if "claude" in name:
        version = _CLAUDE_VERSION.search(name)
        late = version is not None and (int(version[1]), int(version[2] or 0)) >= (4, 6)
        return replace(_CLAUDE, thinks=late or "thinking" in name)
    if "gpt" in name:
        return _GPT
    return _gemini(name)


def _gemini(name: str) -> Profile:
    """Gemini, and what we do not know: it is Gemini's wire."""
    version = _GEMINI_VERSION.search(name)
    major, minor = (int(version[1]), int(version[2] or 0)) if version else (0, 0)
    thinks = "thinking" in name or "pro-agent" in name or (major >= 3 and "image" not in name)
    if (major, minor) >= (3, 6):
        return replace(_GEMINI, thinks=thinks, budgets=(1, 65_535), idle_budget=1)
    most = 24_576 if major == 2 else 32_768
    return replace(_GEMINI, thinks=thinks, budgets=(128, most), idle_budget=128)


def _most(base: Profile, told: int) -> int:
    """A list may say more than Claude's side accepts; of Google's own models it is believed."""
    return told if base.family is Family.GEMINI else min(told, base.max_output or told)


def _media(told: Mapping[str, Any], base: Profile) -> frozenset[str] | None:
    listed = told.get("supportedMimeTypes")
    if isinstance(listed, Mapping) and listed:
        return frozenset(name for name, taken in listed.items() if taken is True)
    return frozenset() if told.get("supportsImages") is False else base.takes


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
