"""Values as people and programs read them: tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from accounts.cli.terminal import StandardTerminal
from accounts.cli.text import cell_width, printable

SCHEMA_VERSION = 1


def write_json(terminal: StandardTerminal, **fields: Any) -> None:
    """One document on stdout."""
    terminal.write(json.dumps({"schema_version": SCHEMA_VERSION, **fields}, indent=2) + "\n")


def write_table(terminal: StandardTerminal, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: drawn on a terminal, aligned by spaces elsewhere."""
    cells = [[printable(cell) for cell in row] for row in rows]
    terminal.write(_drawn(head, cells) if terminal.colourful else aligned(head, cells))


def write_notes(terminal: StandardTerminal, notes: Iterable[tuple[str, str]]) -> None:
    """What is said of some names, on stdout under a table: each whole and on one line, so that it can be copied."""
    for name, said in notes:
        if said:
            terminal.write(f"{printable(name)}: {printable(said)}\n")


def write_fields(terminal: StandardTerminal, fields: Mapping[str, str]) -> None:
    """Names and values on stdout, a line each."""
    wide = max(map(len, fields))
    for name, value in fields.items():
        terminal.write(f"{name:<{wide}}  {printable(value)}\n")


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in which the columns line up by spaces, however wide the characters are."""
    lines = [head, *rows]
    widths = [max(cell_width(line[column]) for line in lines) for column in range(len(head))]
    padded = (
        "  ".join(cell + " " * (width - cell_width(cell)) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)


def ago(moment: str | None, now: float) -> str:
    """An ISO 8601 time as people say it; a dash for none, and as it came where it cannot be read."""
    if moment is None:
        return "-"
    try:
        seconds = now - datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return moment
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console(file=StringIO(), force_terminal=True, width=max(Console().width, 60))
    console.print(table)
    drawn = console.file
    return drawn.getvalue() if isinstance(drawn, StringIO) else ""


_STYLES = {
    "ok": "green",
    "soft_limited": "yellow",
    "rate_limited": "yellow",
    "unreachable": "yellow",
    "invalid": "red",
    "refused": "red",
    "disabled": "dim",
    "unknown": "dim",
}
