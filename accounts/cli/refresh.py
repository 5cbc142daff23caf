"""`proxy accounts refresh`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import names
from accounts.cli.flags import Exit, Ports

EXAMPLES = """Examples:

```
proxy accounts refresh
proxy accounts refresh zai/work
```"""


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def refresh(*name: Annotated[str, Parameter(help="Ids, labels or provider/label; all accounts if none.")]) -> int:
        """Renew the tokens of accounts that have some.

        An API key has nothing to renew, which is said.

        Exit status: 0; 2 where a name fits several accounts; 3 where it fits none.
        """
        entries = ports.open_vault().entries()
        chosen = [names.stored(one, entries, ports) for one in name] if name else list(entries)
        for entry in chosen:
            ports.terminal.show(f"{entry.account.name}: an API key has nothing to renew.")
        if not chosen:
            ports.terminal.show("No accounts yet. Add one: proxy accounts add")
        return Exit.OK
