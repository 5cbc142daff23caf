"""Which models count tokens alike, by their names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_CLAUDE = re.compile(r"claude-(?:([a-z]+)-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")
_GENERATION = re.compile(r"-(\d+)(\.7)?$")
_GEMINI = re.compile(r"gemini-(?:.*-)?(pro|flash)")
_VERSIONED = re.compile(r"([a-z]+)[-_]?[a-z]?(\d+)")
LONGEST = 40


class Rates(NamedTuple):
    """Tokens of a model for one of ours, before any was counted."""

    prose: float = 1.0
    json: float = 1.0


_LATE_CLAUDE = Rates(1.3, 1.3)
"""Anthropic's pages on token counting: from Opus 4.7 on some 30 % more tokens for the same text."""

_GLM = Rates(1.1, 1.45)
"""Field reports, 2026-08: beside Claude's counts JSON has 1.45 times the tokens, special characters up to 2.45."""


@lru_cache(maxsize=1024)
def family(model: str) -> str:
    """The name of a model's family: its maker, its size where that matters, its generation. Never empty."""
    name = model.lower().rpartition("/")[2].lstrip("~")
    if found := _CLAUDE.search(name):
        size, major, minor = found[1] or "claude", int(found[2]), int(found[3] or 0)
        late = ".7" if major == 4 and minor >= 7 else ""
        return f"claude-{size}-{major}{late}"
    if found := _GEMINI.match(name):
        return f"gemini-{found[1]}"
    if found := _VERSIONED.match(name):
        return f"{found[1]}-{found[2]}"
    return name[:LONGEST] or "unknown"


def first_rates(family: str) -> Rates:
    """What is assumed of a family of which nothing was counted yet."""
    if family.startswith("claude-"):
        told = _GENERATION.search(family)
        late = int(told[1]) >= 5 or told[2] is not None if told else family.endswith("-latest")
        return _LATE_CLAUDE if late else Rates()
    return _GLM if family.startswith("glm-") else Rates()
