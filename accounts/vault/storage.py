"""TinyDB over a sealed file: every write a new generation, whole or not at all."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, TypeAlias

from tinydb.storages import Storage

from accounts.vault.errors import (
    ForeignStore,
    NewerVersion,
    VaultDamaged,
    VaultError,
    VaultMissing,
    WrongKey,
    damaged,
)
from accounts.vault.files import Files, read_private, write_atomically
from accounts.vault.keys import KeyInUse
from accounts.vault.seal import Header, header_for, read_header, seal, unseal

Tables: TypeAlias = dict[str, dict[str, Any]]


def backup_of(path: Path) -> Path:
    """Where the previous generation of a store is kept."""
    return path.with_name(path.name + ".bak")


def read_store(path: Path) -> bytes | None:
    """The sealed bytes of the store; None where there never was one. Raises VaultMissing."""
    content = read_private(path)
    backup = backup_of(path)
    if content is None and backup.exists():
        raise VaultMissing(
            f"{path} is gone, and its backup is there: `cp {backup} {path}` brings the accounts back,\n"
            f"or remove the backup to start with none."
        )
    return content


def store_header(path: Path, content: bytes) -> Header:
    """The header of a store that was read. Raises what `read_header` does, with the path and what to do."""
    try:
        return read_header(content)
    except VaultError as error:
        raise located(path, error) from None


def opened(path: Path, content: bytes, in_use: KeyInUse) -> Tables:
    """The tables in a sealed store. Raises VaultError of every kind, with the path and what to do."""
    try:
        tables: object = json.loads(unseal(content, in_use.key))
    except VaultError as error:
        raise located(path, error) from None
    except ValueError:
        raise located(path, VaultDamaged("what was sealed is not a list of accounts")) from None
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise located(path, VaultDamaged("what was sealed is not a list of accounts"))
    return tables


def located(path: Path, error: VaultError) -> VaultError:
    """The same trouble, saying which file has it and what a person can do."""
    if isinstance(error, VaultDamaged):
        backup = backup_of(path)
        return type(error)(damaged(path, str(error), backup if backup.exists() else None))
    if isinstance(error, ForeignStore):
        aside = shlex.quote(f"{path}.plain")
        return ForeignStore(
            f"{path}: {error}, and is left alone. Move it aside and import it:\n"
            f"mv {shlex.quote(str(path))} {aside} && proxy accounts import {aside}"
        )
    if isinstance(error, WrongKey | NewerVersion):
        return type(error)(f"{path} cannot be opened: {error}")
    return error


class SealedStorage(Storage):
    """A store's file as TinyDB sees it. Writing is safe only under the store's lock.

    Reads the whole file, writes a whole new one, and keeps the generation before as `.bak`. What it
    cannot open it never writes over.

    forgets  the backup is written anew as well, so that nothing removed lives on in it
    """

    def __init__(self, path: Path, in_use: KeyInUse, files: Files, forgets: bool = False) -> None:
        self._path = path
        self._in_use = in_use
        self._files = files
        self.forgets = forgets

    def read(self) -> Tables | None:
        """The tables; None where there is no store yet. Raises VaultError."""
        content = read_store(self._path)
        return None if content is None else opened(self._path, content, self._in_use)

    def write(self, data: Tables) -> None:
        """Store the tables as the next generation. Raises VaultError, or OSError with the store as it was."""
        before = read_store(self._path)
        generation = 0
        if before is not None:
            opened(self._path, before, self._in_use)
            generation = store_header(self._path, before).generation
        after = sealed_tables(data, self._in_use, generation + 1)
        if before is not None:
            write_atomically(self._files, backup_of(self._path), after if self.forgets else before)
        write_atomically(self._files, self._path, after)


def sealed_tables(tables: Tables, in_use: KeyInUse, generation: int) -> bytes:
    """The whole content of a store's file."""
    header = header_for(in_use.key, in_use.source, generation, in_use.stretch)
    return seal(json.dumps(tables, separators=(",", ":")).encode(), in_use.key, header)


class Staged(Storage):
    """Another storage, read once, with its writes held back until `commit`: several changes, one generation."""

    def __init__(self, below: Storage) -> None:
        self._below = below
        self._tables: Tables | None = below.read()
        self._changed = False

    def read(self) -> Tables | None:
        """The tables with the changes so far."""
        return self._tables

    def write(self, data: Tables) -> None:
        """Hold a change back."""
        self._tables, self._changed = data, True

    def commit(self) -> None:
        """Write what changed, if anything did."""
        if self._changed and self._tables is not None:
            self._below.write(self._tables)
            self._changed = False
