"""One client for each account and host, so that no connection and no cookie is shared between accounts."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import urlsplit

from mcp_proxy.core.ids import AccountId
from mcp_proxy.transport.client import Client, tls

Key: TypeAlias = tuple[AccountId, str]


class Clients:
    """Hands out the client of an account for the host of an address, made on first use."""

    def __init__(self, verify: ssl.SSLContext | None = None) -> None:
        self._verify = verify or tls()
        self._clients: dict[Key, Client] = {}
        self._retired: list[Client] = []

    def get(self, account: AccountId, base_url: str) -> Client:
        """The account's client for that host."""
        key = (account, urlsplit(base_url).netloc)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = Client(self._verify)
        return client

    def keep_only(self, accounts: Iterable[AccountId]) -> None:
        """Retire the clients of accounts that are gone; what still streams on one runs to its end."""
        kept = set(accounts)
        self._retired = [client for client in self._retired if client.busy]
        for key in [key for key in self._clients if key[0] not in kept]:
            client = self._clients.pop(key)
            client.retire()
            self._retired.append(client)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in (*self._clients.values(), *self._retired):
            await client.aclose()
        self._clients.clear()
        self._retired.clear()
