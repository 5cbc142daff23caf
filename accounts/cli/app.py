"""The `proxy accounts` command, built on whatever the rest of the program hands in."""

from __future__ import annotations

from cyclopts import App

from accounts.cli import add, export, import_, refresh, rekey, remove, rename, show, switch, verify
from accounts.cli import list as list_
from accounts.cli.ports import Ports


def build(ports: Ports) -> App:
    """The command with all its verbs. Nothing heavy is imported until one of them runs."""
    app = App(
        name="accounts",
        help="Add, check and move the accounts that serve requests.",
        help_format="markdown",
        version_flags=(),
    )
    for verb in (add, list_, show, verify, refresh, remove, switch, rename, import_, export, rekey):
        verb.register(app, ports)
    return app
