"""An account as the commands show it: what is stored, joined with what the server last knew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accounts.cli.ports import AccountState, Ports
from accounts.model import Account, Credential, Entry

UNKNOWN = AccountState("unknown")


@dataclass(frozen=True, slots=True)
class Shown:
    """One account for a table or a document.

    credential  None for an account of the config file, whose credential is not ours to show
    """

    account: Account
    state: AccountState
    credential: Credential | None

    @property
    def status(self) -> str:
        """What a person sets comes before what the provider said, and that before what was measured."""
        if not self.account.enabled:
            return "disabled"
        return "invalid" if self.account.invalid is not None else self.state.status

    @property
    def source(self) -> str:
        """Where the account is described."""
        return "config" if self.credential is None else "store"


def roster(ports: Ports, entries: tuple[Entry, ...]) -> tuple[Shown, ...]:
    """Every account, stored or from the config file, with what is known of it."""
    states = ports.limits()
    stored = [Shown(entry.account, states.get(entry.account.id, UNKNOWN), entry.credential) for entry in entries]
    extra = [Shown(account, states.get(account.id, UNKNOWN), None) for account in ports.extra_accounts()]
    return (*stored, *extra)


def document(shown: Shown) -> dict[str, Any]:
    """The account as JSON values, without its secrets."""
    account = shown.account
    return {
        "id": account.id,
        "provider": account.provider,
        "label": account.label,
        "status": shown.status,
        "enabled": account.enabled,
        "tier": account.tier,
        "base_url": account.base_url,
        "last_used": shown.state.last_used,
        "error": account.invalid,
        "auth": account.auth,
        "models": list(account.models),
        "limits": list(shown.state.limits),
        "source": shown.source,
    }
