"""Where accounts are kept, as the gateway sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from accounts.model import Account, Credential, OAuthGrant
from mcp_proxy.core.ids import AccountId


class Ledger(Protocol):
    """Where accounts are kept. Blocking; each method may raise an exception whose text is for people.

    What is written of an account is written only while it still has the credential that is named: `same_credential`.
    """

    def read(self) -> Sequence[tuple[Account, Credential]]: ...

    def stamp(self) -> object:
        """Something cheap that differs once another process has written; None where there is no store."""
        ...

    def mark_invalid(self, account: AccountId, credential: Credential, why: str) -> None:
        """Mark the account."""
        ...

    def renew(self, account: AccountId, before: OAuthGrant, after: OAuthGrant) -> None:
        """Keep what was minted from a grant, in its place."""
        ...

    def learn(self, account: AccountId, credential: Credential, learnt: Mapping[str, str]) -> None:
        """Keep what the provider said of the account, beside what is known already."""
        ...

    def alone(self, account: AccountId) -> Callable[[], None] | None:
        """Be the only process that renews this account's token, until what is returned is called.

        None while another process does; this never waits for it.
        """
        ...
