"""`proxy accounts remove`"""

from __future__ import annotations

from cyclopts import App

from accounts.cli import names
from accounts.cli.flags import Exit, Name, NoInput, Ports, Yes

EXAMPLES = """Examples:

```
proxy accounts remove zai/work
proxy accounts remove a1b2c3 --yes
```"""


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def remove(name: Name, /, *, yes: Yes = False, no_input: NoInput = False) -> int:
        """Forget an account and its credential, in the store's backup too.

        Asks first; without a terminal it needs --yes. Exit status: 0; 1 where you decided against it;
        2 where the name fits several accounts or --yes is missing; 3 where it fits none.
        """
        terminal = ports.terminal.asking_unless(no_input)
        vault = ports.open_vault()
        account = names.stored(name, vault.entries(), ports).account
        if not terminal.confirm(f"Remove {account.name} and its credential?", yes):
            terminal.show("Nothing removed.")
            return Exit.FAILED
        vault.remove(account.id)
        terminal.show(f"Removed {account.name}.")
        return Exit.OK
