"""Which models stand in for one that has run out: across families, and whatever the models are called this month."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mcp_proxy.core.patterns import closest, matches
from mcp_proxy.routing.names import unmarked

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "gemini-3-pro-high": ("claude-opus-4-5-thinking",),
    "gemini-3-pro-low": ("claude-sonnet-4-5",),
    "gemini-3-flash": ("claude-sonnet-4-5-thinking",),
    "claude-opus-4-5-thinking": ("gemini-3-pro-high",),
    "claude-sonnet-4-5-thinking": ("gemini-3-flash",),
    "claude-sonnet-4-5": ("gemini-3-flash",),
    "claude-opus-4-6-thinking": ("gemini-pro-agent",),
    "gemini-pro-agent": ("claude-opus-4-6-thinking",),
    "claude-sonnet-4-6": ("gemini-*-flash-high",),
    "gemini-*-flash-high": ("claude-sonnet-4-6",),
}
"""The pairs that people use, each way. A name that is offered no more means the one that took its place."""

LONGEST_CHAIN = 8
"""Models tried for one request, the first included."""

_VERSION = re.compile(r"\d{1,2}(?:[.-]\d{1,2})*(?![\d])")
_DATE = re.compile(r"-\d{8}$")
_GRADES = {"agent": "high", "high": "high", "medium": "medium", "low": "low", "extra-low": "low", "minimal": "low"}
_GRADE = re.compile(r"-(extra-low|minimal|low|medium|high|agent)$")
_FAMILIES = (
    *(f"claude-{size}" for size in ("fable", "opus", "sonnet", "haiku")),
    *(f"gemini-{size}" for size in ("flash-lite", "flash", "pro")),
)


class Make(NamedTuple):
    """What a name says of a model.

    family   vendor and class: "claude-opus", "gemini-flash"
    grade    how hard it thinks, where the name says so: high, medium, low; else empty
    version  of the family, newest largest; empty where the name has none
    """

    family: str
    grade: str
    version: tuple[int, ...]


def make_of(name: str) -> Make | None:
    """What a name says of its model; None for families that have no stand-ins."""
    lowered = _DATE.sub("", unmarked(name.lower()))
    family = next((each for each in _FAMILIES if all(word in lowered for word in each.split("-", 1))), None)
    if family is None or lowered.endswith("-image"):
        return None
    grade = _GRADE.search(lowered)
    version = _VERSION.search(lowered)
    numbers = tuple(int(part) for part in re.split(r"[.-]", version[0])) if version else ()
    return Make(family, _GRADES[grade[1]] if grade else "", numbers)


def nearest(name: str, offered: Iterable[str]) -> str | None:
    """What took the place of `name` among the models offered: of its family and grade, the newest; else of its family.

    A pattern means the newest it covers.
    """
    names = list(offered)
    if "*" in name:
        covered = [each for each in names if matches(each, name)]
        if covered:
            return max(covered, key=_age)
    wanted = make_of(name.replace("*", "0"))
    kin = [(make, each) for each in names if wanted and (make := make_of(each)) and make.family == wanted.family]
    if not kin or wanted is None:
        return None
    grade = wanted.grade or "high"
    return max(kin, key=lambda pair: (_alike(pair[0].grade, grade), pair[0].version, pair[1]))[1]


def _alike(grade: str, wanted: str) -> int:
    return 2 if grade == wanted or not grade else 1 if "low" not in (grade, wanted) else 0


def _age(name: str) -> tuple[tuple[int, ...], str]:
    make = make_of(name)
    return (make.version if make else (), name)


def under(own: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """The built-in rows under the operator's: one that theirs covers, by name or by pattern, is not in force."""
    return {name: row for name, row in BUILT_IN.items() if closest(name, own) is None} | dict(own)


def chain(asked: str, table: Mapping[str, tuple[str, ...]], known_as: Iterable[str] = ()) -> tuple[str, ...]:
    """The models that stand in for `asked`, in order: those the table names, then those it names for these.

    known_as  the upstream models it is served by: what the table says of them counts where it says nothing of `asked`

    No name twice, so that it ends; at most `LONGEST_CHAIN`.
    """
    found: list[str] = []
    wanted = next((row for name in (asked, *known_as) if (row := _row(name, table)) is not None), ())
    passed = {asked, *known_as}
    waiting = list(wanted)
    while waiting and len(found) < LONGEST_CHAIN - 1:
        name = waiting.pop(0)
        if name in passed:
            continue
        passed.add(name)
        found.append(name)
        waiting += _row(name, table) or ()
    return tuple(found)


def _row(name: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """What the table says of a name: of itself, of a pattern that covers it, of a model that it took the place of."""
    if name in table:
        return table[name]
    covering = closest(name, (key for key in table if "*" in key))
    if covering is not None:
        return table[covering]
    kin = nearest(name, (key for key in table if "*" not in key))
    return table[kin] if kin is not None else None
