"""`proxy accounts show`"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cyclopts import App

from accounts.cli import names, render, view
from accounts.cli.flags import Exit, Json, Name, Ports
from accounts.model import ApiKey, CallersOwn, ClaudeCodeLogin, OAuthGrant, Token

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
            render.write_json(ports.terminal, account=document(found))
        else:
            render.write_fields(ports.terminal, fields(found, ports))
        return Exit.OK


def document(shown: view.Shown) -> dict[str, Any]:
    """Everything as JSON values."""
    return {**view.document(shown), "credential": credential(shown), "extra": dict(shown.account.extra)}


def credential(shown: view.Shown) -> dict[str, Any] | None:
    """The credential, masked."""
    if shown.credential is None:
        return None
    if isinstance(shown.credential, ApiKey):
        return {"kind": "api_key", "key": shown.credential.key.masked()}
    if isinstance(shown.credential, CallersOwn):
        return {"kind": "callers_own"}
    if isinstance(shown.credential, ClaudeCodeLogin):
        return {"kind": "claude_code", "path": shown.credential.path}
    grant = shown.credential
    return {
        "kind": "oauth",
        "refresh_token": grant.refresh_token.masked(),
        "client_id": grant.client.id if grant.client else None,
        "token_until": until(grant.token),
    }


def until(token: Token | None) -> str | None:
    """When the token that is held ends; None where there is none, or that is not said."""
    if token is None or token.expires_at is None:
        return None
    try:
        return datetime.fromtimestamp(token.expires_at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def held(shown: view.Shown) -> dict[str, str]:
    """What is said of the credential."""
    if isinstance(shown.credential, OAuthGrant):
        grant = shown.credential
        return {
            "Sign-in": grant.refresh_token.masked(),
            "OAuth client": grant.client.id if grant.client else "whichever is configured",
            "Token until": until(grant.token) or "not known",
        }
    if isinstance(shown.credential, CallersOwn):
        return {"Login": "each request brings its caller's own; nothing of it is kept"}
    if isinstance(shown.credential, ClaudeCodeLogin):
        return {"Login": f"Claude Code's own, read from {shown.credential.path or 'the Keychain'}, never renewed here"}
    key = "from the config file" if shown.credential is None else shown.credential.key.masked()
    return {"Key": key, "Key sent as": shown.account.auth or "the provider's way"}


LEARNT = {"project": "Project", "plan": "Plan", "tier": "Plan's size", "email": "E-mail"}
"""What a provider said of an account, as it is called here: its `tier` is not ours."""


def fields(shown: view.Shown, ports: Ports) -> dict[str, str]:
    """What a person reads, in order."""
    account = shown.account
    provider = ports.providers.get(account.provider)
    own_address = provider.base_url if provider is not None else None
    return {
        "Id": account.id,
        "Provider": f"{account.provider}{f', that is {provider.title}' if provider is not None else ''}",
        "Label": account.label,
        "Kept in": "the config file" if shown.credential is None else "the store",
        "Status": shown.status,
        **({"Error": account.invalid} if account.invalid else {}),
        "Enabled": "yes" if account.enabled else "no",
        "Tier": str(account.tier) if account.tier is not None else "the provider's",
        "Address": ports.address(account) or own_address or "the provider's",
        "Models": ", ".join(account.models) or "all that the provider serves",
        **held(shown),
        **({"Limits": "; ".join(shown.state.limits)} if shown.state.limits else {}),
        "Last used": render.ago(shown.state.last_used, ports.now()),
        **{LEARNT.get(name, f"Its {name}"): value for name, value in account.extra.items()},
    }
