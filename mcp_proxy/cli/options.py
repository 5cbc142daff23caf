"""Flags that several commands share, and how they print."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

ConfigFile: TypeAlias = Annotated[
    str | None,
    Parameter(name=["--config", "-c"], help="Config file (default: the user's own; env MCP_PROXY_CONFIG)."),
]
EnvFile: TypeAlias = Annotated[
    str | None, Parameter(name="--env-file", help="File of KEY=VALUE lines; none is read by itself.")
]
Url: TypeAlias = Annotated[
    str | None,
    Parameter(name="--url", help="The running server (default: loopback and the configured port; env MCP_PROXY_URL)."),
]
Json: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="One JSON document on stdout.")
]


def say(text: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(f"{text}\n")


def say_json(document: Mapping[str, Any]) -> None:
    """A document on stdout, in the shape all reading commands share."""
    say(json.dumps({"schema_version": 1, **document}, indent=2))


def width() -> int | None:
    """Columns of the terminal that our output is read on; None where that is a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """Lines of columns as wide as what is in them. right: the columns whose numbers stand at the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            each.rjust(width) if number in right else each.ljust(width)
            for number, (each, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
