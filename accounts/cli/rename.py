"""`proxy accounts rename`"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import names
from accounts.cli.checks import checked_label
from accounts.cli.flags import Exit, Name, Ports
from accounts.exits import Trouble


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue="Examples:\n\n```\nproxy accounts rename zai/default work\n```")
    def rename(name: Name, new: Annotated[str, Parameter(help="The new label.")], /) -> int:
        """Give an account another label.

        Its id stays. Exit status: 0; 2 where the provider has an account of that label, or the name fits
        several; 3 where it fits none.
        """
        vault = ports.open_vault()
        account = names.stored(name, vault.entries(), ports).account
        label = checked_label(new)
        if any((label, account.provider) == (extra.label, extra.provider) for extra in ports.extra_accounts()):
            raise Trouble(f"{account.provider}/{label} is set in the config file; choose another label", Exit.USAGE)
        renamed = vault.change(account.id, lambda known: replace(known, label=label))
        ports.terminal.show(f"{account.name} is now {renamed.name}.")
        return Exit.OK
