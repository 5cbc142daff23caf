"""`proxy accounts list`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import render, view
from accounts.cli.flags import Exit, Json, Ports

EXAMPLES = """Examples:

```
proxy accounts list
proxy accounts list --provider zai
proxy accounts list --json | jq -r '.accounts[].id'
```"""


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(name="list", help_epilogue=EXAMPLES)
    def list_accounts(
        *,
        provider: Annotated[str | None, Parameter(help="Only the accounts of this provider.")] = None,
        json: Json = False,
    ) -> int:
        """List the accounts with what limits them now.

        Under the table stands why an account is invalid.

        Exit status: 0; 3 where --provider matched nothing.
        """
        everyone = view.roster(ports, ports.open_vault().entries())
        found = [shown for shown in everyone if provider in (None, shown.account.provider)]
        if json:
            render.write_json(ports.terminal, accounts=[view.document(shown) for shown in found])
        elif found:
            render.write_table(ports.terminal, HEAD, [row(shown, ports.now()) for shown in found])
            render.write_notes(ports.terminal, [(one.account.name, one.account.invalid or "") for one in found])
        if found or provider is None:
            if not everyone:
                ports.terminal.show("No accounts yet. Add one: proxy accounts add")
            return Exit.OK
        ports.terminal.show("No account of that provider. All of them: proxy accounts list")
        return Exit.NOTHING


HEAD = ("ID", "Provider", "Label", "Status", "Limits", "Last used")


def row(shown: view.Shown, now: float) -> tuple[str, ...]:
    """One line of the table."""
    account = shown.account
    label = account.label if shown.credential is not None else f"{account.label} (config file)"
    limits = "; ".join(shown.state.limits) or "-"
    return (account.id, account.provider, label, shown.status, limits, render.ago(shown.state.last_used, now))
