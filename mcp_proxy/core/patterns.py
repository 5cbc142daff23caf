"""Patterns of names, as operators write them: `*` matches anything, and nothing else has a meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern covers a name. `*` is the only wildcard: `?` and `[1m]` in a name mean themselves."""
    return _compiled(pattern).fullmatch(name) is not None


def closest(name: str, patterns: Iterable[str]) -> str | None:
    """The pattern that says most of a name: itself, else the one with most literal letters; None where none covers it.

    Of two as close the one that comes later by the alphabet, so that the order they are written in says nothing.
    """
    covering = [pattern for pattern in patterns if pattern == name or matches(name, pattern)]
    key = [(pattern == name, len(pattern.replace("*", "")), pattern) for pattern in covering]
    return max(key)[2] if key else None


def filled(target: str, name: str, pattern: str) -> str:
    """A target whose every `*` stands for what the pattern's own matched of the name, the first for the first."""
    found = _compiled(pattern).fullmatch(name)
    if found is None or "*" not in target:
        return target
    matched = iter(found.groups())
    return re.sub(r"\*", lambda star: next(matched, star[0]), target)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, re.sub(r"\*+", "*", pattern).split("*"))), re.DOTALL)
