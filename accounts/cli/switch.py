"""`proxy accounts enable` and `proxy accounts disable`"""

from __future__ import annotations

from dataclasses import replace

from cyclopts import App

from accounts.cli import names
from accounts.cli.flags import Exit, Name, Ports


def register(app: App, ports: Ports) -> None:
    """Add both commands."""

    @app.command(help_epilogue="Examples:\n\n```\nproxy accounts enable zai/work\n```")
    def enable(name: Name, /) -> int:
        """Let an account serve again.

        Doing it twice changes nothing.

        Exit status: 0; 2 where the name fits several accounts; 3 where it fits none.
        """
        return switch(ports, name, True)

    @app.command(help_epilogue="Examples:\n\n```\nproxy accounts disable zai/work\n```")
    def disable(name: Name, /) -> int:
        """Keep an account, but do not use it.

        Doing it twice changes nothing.

        Exit status: 0; 2 where the name fits several accounts; 3 where it fits none.
        """
        return switch(ports, name, False)


def switch(ports: Ports, name: str, enabled: bool) -> int:
    """Turn one account on or off."""
    vault = ports.open_vault()
    account = names.stored(name, vault.entries(), ports).account
    vault.change(account.id, lambda known: replace(known, enabled=enabled))
    ports.terminal.show(f"{account.name} is {'enabled' if enabled else 'disabled'}.")
    return Exit.OK
