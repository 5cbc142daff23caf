"""`proxy accounts show`"""

from __future__ import annotations

from cyclopts import App

from accounts.cli import names, render, view
from accounts.cli.flags import Exit, Json, Name, Ports
from accounts.model import ApiKey, secrets_of

EXAMPLES = """Examples:

```
proxy accounts show zai/work
proxy accounts show a1b2c3 --json
```"""


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def show(name: Name, /, *, json: Json = False) -> int:
        """Show everything known of one account, its secrets masked.

        Exit status: 0; 2 where the name fits several accounts; 3 where it fits none.
        """
        everyone = view.roster(ports, ports.open_vault().entries())
        account = names.find(name, [shown.account for shown in everyone])
        found = next(shown for shown in everyone if shown.account is account)
        if json:
            render.write_json(ports.terminal, account={**view.document(found), "credential": credential(found)})
        else:
            render.write_fields(ports.terminal, fields(found, ports))
        return Exit.OK


def credential(shown: view.Shown) -> dict[str, str] | None:
    """The credential, masked."""
    if shown.credential is None:
        return None
    if isinstance(shown.credential, ApiKey):
        return {"kind": "api_key", "key": shown.credential.key.masked()}
    return {"kind": "oauth", "refresh_token": shown.credential.refresh_token.masked()}


def fields(shown: view.Shown, ports: Ports) -> dict[str, str]:
    """What a person reads, in order."""
    account = shown.account
    provider = ports.providers.get(account.provider)
    own_address = provider.base_url if provider is not None else None
    return {
        "Id": account.id,
        "Provider": f"{account.provider}{f' ({provider.title})' if provider is not None else ''}",
        "Label": account.label,
        "Kept in": "the config file" if shown.credential is None else "the store",
        "Status": shown.status,
        **({"Error": account.invalid} if account.invalid else {}),
        "Enabled": "yes" if account.enabled else "no",
        "Tier": str(account.tier) if account.tier is not None else "the provider's",
        "Address": account.base_url or own_address or "the provider's",
        "Key sent as": account.auth or "the provider's way",
        "Models": ", ".join(account.models) or "all that the provider serves",
        "Key": "from the config file" if shown.credential is None else secrets_of(shown.credential)[0].masked(),
        **({"Limits": "; ".join(shown.state.limits)} if shown.state.limits else {}),
        "Last used": render.ago(shown.state.last_used, ports.now()),
        **{f"extra {name}": value for name, value in account.extra.items()},
    }
