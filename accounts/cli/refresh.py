"""`proxy accounts refresh`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import names
from accounts.cli.flags import Exit, Ports
from accounts.cli.verify import without_secrets
from accounts.model import AccountId, ApiKey, CallersOwn, ClaudeCodeLogin, Credential, Entry

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

        Exit status: 0; 2 where a name fits several accounts; 3 where it fits none; 4 where an account has to be
        signed in to again; 6 where a token could not be renewed now.
        """
        entries = ports.open_vault().entries()
        chosen = [names.stored(one, entries, ports) for one in name] if name else list(entries)
        failed = {entry.account.id for entry in chosen if not renewed(entry, ports)}
        if not chosen:
            ports.terminal.show("No accounts yet. Add one: proxy accounts add")
        return outcome(failed, ports)


def renewed(entry: Entry, ports: Ports) -> bool:
    """Renew one account's token and tell what came of it."""
    name = entry.account.name
    if (nothing := not_renewable(entry.credential)) is not None:
        ports.terminal.show(f"{name}: {nothing}")
        return True
    why_not = ports.refresh(entry.account, entry.credential)
    said = "renewed." if why_not is None else f"not renewed: {without_secrets(why_not, entry.credential)}"
    ports.terminal.show(f"{name}: {said}")
    return why_not is None


def not_renewable(credential: Credential) -> str | None:
    """Why there is nothing to renew; None where there is."""
    if isinstance(credential, ApiKey):
        return "an API key has nothing to renew."
    if isinstance(credential, CallersOwn):
        return "each request brings its caller's own login, which its caller renews."
    if isinstance(credential, ClaudeCodeLogin):
        return "Claude Code renews its own login: run `claude` once."
    return None


def outcome(failed: set[AccountId], ports: Ports) -> Exit:
    """The exit code, by what the store says now of the accounts whose token was not renewed."""
    if not failed:
        return Exit.OK
    now = [entry.account for entry in ports.open_vault().entries() if entry.account.id in failed]
    return Exit.SIGN_IN if any(account.invalid is not None for account in now) else Exit.UNREACHABLE
