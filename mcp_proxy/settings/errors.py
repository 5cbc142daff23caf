"""What goes wrong with settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int] | None
"""How a file is: when it was written, its size, and which it is; None where there is none to be seen."""


class SettingsError(Exception):
    """A setting that cannot be used: one or two lines that say where it came from, never a secret's value.

    Its text is the first problem, and how many more there are.

    problems  everything that was found wrong, the first being this one
    files     the files that were read, and how they were: a change of one may put it right
    """

    exit_code = 2

    def __init__(self, why: str, problems: Iterable[str] = (), files: Mapping[Path, Stamp] | None = None) -> None:
        self.problems = tuple(problems) or (why,)
        more = len(self.problems) - 1
        super().__init__(f"{why}\nand {more} more: `proxy config validate` lists them all" if more else why)
        self.files = dict(files or {})


class UnusableError(ValueError):
    """Why one value cannot be used, without saying where it came from.

    shown  whether the value itself may be repeated to the person
    """

    def __init__(self, why: str, *, shown: bool = True) -> None:
        super().__init__(why)
        self.shown = shown


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " (did you mean …?)" for the nearest known word; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
