"""The store of accounts and their credentials, as typed values.

Everything here blocks and may be called from any thread; the server calls it in one. A change
takes the lock beside the store, reads anew, changes, and saves before it returns, so two
processes never overwrite each other. Reading needs no lock: a file is replaced whole.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout
from tinydb import TinyDB, where
from tinydb.table import Table

from accounts.model import Account, AccountId, Credential, Entry, Secret
from accounts.records import Unreadable, from_document, to_document
from accounts.vault.errors import LabelTaken, NoSuchAccount, NotSaved, VaultDamaged, VaultError, VaultLocked, WrongKey
from accounts.vault.files import SYSTEM, Files, check_folder, make_folder, sweep
from accounts.vault.keys import KeyInUse, KeySources, key_for, key_for_new, source_for_new
from accounts.vault.rekey import Rekeying
from accounts.vault.seal import Key, KeySource
from accounts.vault.storage import SealedStorage, Staged, backup_of, located, opened, read_store, store_header

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another process that is changing the store."""

TABLE = "accounts"

Stamp: TypeAlias = tuple[int, int, int]
"""Which file the store is right now: inode, time of change in nanoseconds, size."""


class Vault:
    """The sealed store at a path. Cheap to make: nothing is read until it is asked for."""

    def __init__(
        self, path: Path, sources: KeySources, files: Files = SYSTEM, lock_timeout: float = LOCK_TIMEOUT
    ) -> None:
        self.path = path
        self.sources = sources
        self._files = files
        self._lock_timeout = lock_timeout
        self._key: Key | None = None  # the key that opened it last; deriving one from a passphrase is slow

    def entries(self) -> tuple[Entry, ...]:
        """All accounts with their credentials, in the order they were added; none where there is no store.

        Raises VaultError. A store that is damaged or cannot be opened is never taken for an empty one.
        """
        while True:
            stamp = self.stamp()
            try:
                return self._read_entries()
            except WrongKey:
                if stamp == self.stamp():
                    raise  # else its key was changed between our reading of the store and of the key

    def stamp(self) -> Stamp | None:
        """What to compare to notice that somebody changed the store; None where there is none. Never raises."""
        try:
            state = self.path.stat()
        except OSError:
            return None
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def generation(self) -> int:
        """How many times the store was written; 0 where there is none. Needs no key. Raises VaultError."""
        content = read_store(self.path)
        return 0 if content is None else store_header(self.path, content).generation

    def key_source(self) -> KeySource:
        """Where the store's key comes from, or would come from once there is one. Raises VaultError."""
        content = read_store(self.path)
        return source_for_new(self.sources) if content is None else store_header(self.path, content).source

    def add(self, account: Account, credential: Credential) -> None:
        """Store a new account. Raises LabelTaken where its id or its name is in use."""
        self.edit(lambda entries: (*entries, Entry(account, credential)))

    def change(self, account_id: AccountId, change: Callable[[Account], Account]) -> Account:
        """Change what is known of an account; its credential stays. Raises NoSuchAccount, LabelTaken."""
        return self._edit_one(account_id, lambda entry: replace(entry, account=change(entry.account))).account

    def replace_credential(self, account_id: AccountId, credential: Credential) -> Account:
        """Give an account a new credential, which nobody has refused yet. Raises NoSuchAccount."""

        def renewed(entry: Entry) -> Entry:
            return Entry(replace(entry.account, invalid=None), credential)

        return self._edit_one(account_id, renewed).account

    def remove(self, account_id: AccountId) -> None:
        """Forget an account and its credential, in the backup too. Raises NoSuchAccount."""

        def without(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            _find(entries, account_id)
            return tuple(entry for entry in entries if entry.account.id != account_id)

        self.edit(without)

    def edit(self, decide: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> tuple[Entry, ...]:
        """Change any number of accounts in one step, and say what is stored now.

        `decide` is handed what is stored at that moment, under the lock, and returns what shall be;
        what it raises leaves the store as it was, and returning the same writes nothing. Raises
        VaultError; after it the whole change is stored or nothing of it.
        """
        with self._locked():
            storage = SealedStorage(self.path, self._open_for_writing(), self._files)
            staged = Staged(storage)
            table = TinyDB(storage=lambda: staged).table(TABLE)
            before = self._entries_of(table)
            after = decide(before)
            _check_distinct(after)
            _apply(table, before, after)
            storage.forgets = not _ids(before) <= _ids(after)
            staged.commit()
            return after

    def rekey(self, to: KeySource, secret: Secret | None = None) -> None:
        """Seal the store and its backup with a new key.

        secret  the new passphrase, or for KeySource.ENV the new key in base64; None: what the sources hold

        Safe to interrupt at any moment: the old or the new key opens what is there. The old key is
        deleted from the key file or the keychain at the end. Raises KeyUnusable where there is no such
        secret, KeychainUnavailable, and VaultError as `edit` does.
        """
        with self._locked():
            content = read_store(self.path)
            old = None if content is None else self._key_in_use(content)
            rekeying = Rekeying(
                path=self.path,
                files=self._files,
                sources=self.sources,
                old=old,
                tables={} if content is None or old is None else opened(self.path, content, old),
                generation=0 if content is None else store_header(self.path, content).generation,
                timeout=self._lock_timeout,
            )
            self._key = rekeying.run(to, secret).key

    def _read_entries(self) -> tuple[Entry, ...]:
        content = read_store(self.path)
        if content is None:
            return ()
        check_folder(self.path.parent)
        storage = SealedStorage(self.path, self._key_in_use(content), self._files)
        return self._entries_of(TinyDB(storage=lambda: storage).table(TABLE))

    def _edit_one(self, account_id: AccountId, change: Callable[[Entry], Entry]) -> Entry:
        def decide(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            _find(entries, account_id)
            return tuple(change(entry) if entry.account.id == account_id else entry for entry in entries)

        return _find(self.edit(decide), account_id)

    def _entries_of(self, table: Table) -> tuple[Entry, ...]:
        try:
            return tuple(from_document(document) for document in table.all())
        except Unreadable as error:
            raise located(self.path, VaultDamaged(f"an account in it cannot be read ({error})")) from None

    def _open_for_writing(self) -> KeyInUse:
        content = read_store(self.path)
        if content is None:
            in_use = key_for_new(self.sources, self._files, self._lock_timeout)
            self._key = in_use.key
            return in_use
        return self._key_in_use(content)

    def _key_in_use(self, content: bytes) -> KeyInUse:
        header = store_header(self.path, content)
        key = self._key
        if key is None or not header.fits(key):
            try:
                key = key_for(header, self.sources)
            except WrongKey as error:
                raise located(self.path, error) from None
            self._key = key
        return KeyInUse(key, header.source, header.stretch)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock, with what killed writers left swept away. Turns OSError into NotSaved."""
        lock = FileLock(f"{self.path}.lock", timeout=self._lock_timeout, mode=0o600, poll_interval=0.02)
        try:
            make_folder(self._files, self.path.parent)
            check_folder(self.path.parent)
            with lock:
                sweep(self._files, self.path)
                sweep(self._files, backup_of(self.path))
                yield
        except Timeout:
            raise VaultLocked(
                f"{self.path} is being changed by another process for more than {self._lock_timeout:g} s; try again"
            ) from None
        except OSError as error:
            raise NotSaved(
                f"saving {self.path} failed: {error.strerror or error}. "
                "Nothing stored before is lost; try again when that is solved."
            ) from error


def _find(entries: tuple[Entry, ...], account_id: AccountId) -> Entry:
    for entry in entries:
        if entry.account.id == account_id:
            return entry
    raise NoSuchAccount(f"there is no account {account_id} any more")


def _ids(entries: tuple[Entry, ...]) -> set[AccountId]:
    return {entry.account.id for entry in entries}


def _check_distinct(entries: tuple[Entry, ...]) -> None:
    for value, count in Counter(entry.account.id for entry in entries).items():
        if count > 1:
            raise LabelTaken(f"two accounts cannot have the id {value}")
    for name, count in Counter(entry.account.name for entry in entries).items():
        if count > 1:
            raise LabelTaken(f"there is an account {name} already; choose another label")


def _apply(table: Table, before: tuple[Entry, ...], after: tuple[Entry, ...]) -> None:
    """Bring the table from one state to the other, touching only what differs."""
    known = {entry.account.id: entry for entry in before}
    for gone in known.keys() - _ids(after):
        table.remove(where("id") == gone)
    for entry in after:
        if entry.account.id in known and entry != known[entry.account.id]:
            table.update(to_document(entry), where("id") == entry.account.id)
    if added := [to_document(entry) for entry in after if entry.account.id not in known]:
        table.insert_multiple(added)


__all__ = ["Entry", "Vault", "VaultError"]
