"""Changing the key of the store. Whatever interrupts it, the old or the new key opens what is there.

The order is the whole trick: the new key is put where it belongs, then the store is sealed with it,
then the backup, and only then is the old key forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accounts.model import Secret
from accounts.vault.errors import KeyUnusable
from accounts.vault.files import Files, write_atomically
from accounts.vault.keys import (
    KEY_VARIABLE,
    PASSPHRASE_VARIABLE,
    KeyInUse,
    KeySources,
    key_file_lock,
    key_from_passphrase,
    key_from_text,
    keychain_name,
    read_key_file,
    write_key_file,
)
from accounts.vault.seal import KeySource, encoded_key, new_key
from accounts.vault.storage import Tables, backup_of, sealed_tables


@dataclass(frozen=True, slots=True)
class Rekeying:
    """One change of key, under the store's lock.

    old         the key the store has now; None where there is no store yet
    generation  of the store as it is
    timeout     seconds to wait for the key file's own lock
    """

    path: Path
    files: Files
    sources: KeySources
    old: KeyInUse | None
    tables: Tables
    generation: int
    timeout: float

    def run(self, to: KeySource, secret: Secret | None) -> KeyInUse:
        """Change the key; says which one is in use now. Raises VaultError or OSError."""
        new = self._put_new(to, secret)
        write_atomically(self.files, self.path, sealed_tables(self.tables, new, self.generation + 1))
        if backup_of(self.path).exists():
            write_atomically(self.files, backup_of(self.path), sealed_tables(self.tables, new, self.generation))
        self._forget_old(new)
        return new

    def _put_new(self, to: KeySource, secret: Secret | None) -> KeyInUse:
        match to:
            case KeySource.ENV:
                text = secret or self.sources.key
                if text is None:
                    raise KeyUnusable(f"set {KEY_VARIABLE} first, for example to: openssl rand -base64 32")
                return KeyInUse(key_from_text(text), to)
            case KeySource.PASSPHRASE:
                passphrase = secret or self.sources.passphrase
                if passphrase is None:
                    raise KeyUnusable(f"set {PASSPHRASE_VARIABLE} first")
                return key_from_passphrase(passphrase, self.sources.cost)
            case KeySource.FILE:
                new = KeyInUse(new_key(), to)
                with key_file_lock(self.sources.key_file, self.files, self.timeout):
                    kept = read_key_file(self.sources.key_file) or ()
                    write_key_file(self.files, self.sources.key_file, (new.key, *kept))
                return new
            case KeySource.KEYCHAIN:
                new = KeyInUse(new_key(), to)
                self.sources.keychain.put(keychain_name(new.key.id), encoded_key(new.key))
                return new

    def _forget_old(self, new: KeyInUse) -> None:
        """Delete the old key where it is ours to delete. What the environment holds is the person's."""
        if self.old is None or self.old.key == new.key:
            return
        if self.old.source is KeySource.FILE:
            with key_file_lock(self.sources.key_file, self.files, self.timeout):
                kept = tuple(key for key in read_key_file(self.sources.key_file) or () if key != self.old.key)
                write_key_file(self.files, self.sources.key_file, kept)
        elif self.old.source is KeySource.KEYCHAIN:
            self.sources.keychain.drop(keychain_name(self.old.key.id))
