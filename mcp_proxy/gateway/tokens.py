"""What goes on the wire for an account."""

from __future__ import annotations

from collections.abc import Mapping

from accounts.model import ApiKey, Credential, Token
from mcp_proxy.core.ids import AccountId


class Tokens:
    """Credentials to tokens. A key is its own token: there is nothing to renew."""

    def __init__(self) -> None:
        self._credentials: Mapping[AccountId, Credential] = {}
        self._tokens: Mapping[AccountId, Token] = {}

    def replace_all(self, credentials: Mapping[AccountId, Credential]) -> None:
        """Take over what the vault holds now."""
        self._credentials = dict(credentials)
        self._tokens = {
            account: Token(credential.key)
            for account, credential in credentials.items()
            if isinstance(credential, ApiKey)
        }

    def credential(self, account: AccountId) -> Credential | None:
        """What the vault holds for the account; None once the account is gone."""
        return self._credentials.get(account)

    def token(self, account: AccountId) -> Token | None:
        """The account's token; None once the account is gone."""
        return self._tokens.get(account)
