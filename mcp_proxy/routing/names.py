"""Model names as they are written: what they contain, and what an alias makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mcp_proxy.core.patterns import closest, filled
from mcp_proxy.core.provider import Size

LISTED_AS_ANTHROPIC = "anthropic/"
"""Claude Code shows only names with `claude` or `anthropic`: others are listed under this prefix."""

LONG_CONTEXT = re.compile(r"\[\d+[km]\]$")
"""The mark Claude Code writes behind a name; it cuts it off itself before sending, other clients may not."""


def size_of(name: str) -> Size | None:
    """The size class a name belongs to: the first of Claude's that it contains."""
    lowered = name.lower()
    return next((size for size in Size if size.value in lowered), None)


def unmarked(name: str) -> str:
    """A name without the mark of a long context, which is part of it only where somebody lists it so."""
    return LONG_CONTEXT.sub("", name)


def alias_of(name: str, aliases: Mapping[str, str]) -> str | None:
    """What the operator's most specific alias makes of a name: the pattern with most literal letters wins.

    A `*` in what it makes stands for what the pattern's own matched, the first for the first.
    """
    best = closest(name, aliases)
    return None if best is None else filled(aliases[best], name, best)
