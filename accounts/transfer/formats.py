"""The files that accounts may come in: one reader a format, asked in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from accounts.model import Entry

Unseal: TypeAlias = Callable[[bytes], bytes]
"""Opens a sealed export: whoever calls knows the passphrase, or asks for it. Raises what sealing raises."""


class NotImportable(Exception):
    """A file we have no reader for, or that its reader cannot read. Never repeats its content."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    left_out  why some of its accounts could not be read, a line each, without their values
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """How one kind of file is read.

    plain       the file shows its credentials to whoever opens it, and still does after the import
    recognises  whether a file is of this kind, by its content
    read        the accounts in it; raises NotImportable
    """

    name: str
    plain: bool
    recognises: Callable[[bytes], bool]
    read: Callable[[bytes, Unseal], Contents]


def reader_for(content: bytes, readers: tuple[Reader, ...]) -> Reader:
    """The first reader that knows this kind of file. Raises NotImportable saying what can be read."""
    for reader in readers:
        if reader.recognises(content):
            return reader
    known = ", ".join(reader.name for reader in readers)
    if not content.strip():
        raise NotImportable("the file is empty")
    raise NotImportable(f"no accounts file that can be read here; what can be: {known}")
