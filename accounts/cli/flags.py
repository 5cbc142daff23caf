"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from accounts.cli.ports import Ports
from accounts.exits import Exit

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="One JSON document on stdout.")]
Yes = Annotated[bool, Parameter(negative="", show_default=False, help="Confirm instead of being asked.")]
NoInput = Annotated[bool, Parameter(negative="", show_default=False, help="Fail instead of asking anything.")]
PassphraseStdin = Annotated[
    bool, Parameter(negative="", show_default=False, help="Read the passphrase from one line of stdin.")
]
Name = Annotated[str, Parameter(help="An account's id, its label, or provider/label.")]

__all__ = ["Exit", "Flag", "Json", "Name", "NoInput", "PassphraseStdin", "Ports", "Yes"]
