"""The vault as the gateway keeps its accounts in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from filelock import FileLock, Timeout

from accounts.model import Account, AccountId, Credential, Entry, OAuthGrant, same_credential
from accounts.vault.errors import VaultMissing
from accounts.vault.files import SYSTEM, make_folder
from accounts.vault.vault import Vault


class VaultLedger:
    """The vault as the gateway follows it. Implements `gateway.ledger.Ledger`."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def read(self) -> Sequence[tuple[Account, Credential]]:
        return [(entry.account, entry.credential) for entry in self._vault.entries()]

    def stamp(self) -> object:
        return self._vault.stamp()

    def mark_invalid(self, account: AccountId, credential: Credential, why: str) -> None:
        self._change(account, credential, lambda entry: replace(entry, account=replace(entry.account, invalid=why)))

    def renew(self, account: AccountId, before: OAuthGrant, after: OAuthGrant) -> None:
        self._change(account, before, lambda entry: replace(entry, credential=after))

    def learn(self, account: AccountId, credential: Credential, learnt: Mapping[str, str]) -> None:
        def with_learnt(entry: Entry) -> Entry:
            return replace(entry, account=replace(entry.account, extra={**entry.account.extra, **learnt}))

        self._change(account, credential, with_learnt)

    def alone(self, account: AccountId) -> Callable[[], None] | None:
        path = self._vault.path
        make_folder(SYSTEM, path.parent)
        name = hashlib.sha256(account.encode()).hexdigest()[:16]  # an id may hold what a file's name may not
        # taken in one thread and given back in another
        lock = FileLock(path.parent / f".{path.name}.token-{name}.lock", mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock.release

    def _change(self, account: AccountId, credential: Credential, change: Callable[[Entry], Entry]) -> None:
        """Change an account, unless it has another credential by now."""

        def changed(entry: Entry) -> Entry:
            same = entry.account.id == account and same_credential(entry.credential, credential)
            return change(entry) if same else entry

        if self._vault.stamp() is None:
            raise VaultMissing(f"{self._vault.path} is gone")  # an edit would begin a new one, and a key for it
        self._vault.edit(lambda entries: tuple(changed(entry) for entry in entries))
