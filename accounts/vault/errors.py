"""What can go wrong with the store. Each says in one or two lines what a person can do.

No message holds a secret or a value that could be one. `exit_code` is what a command ends with.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class VaultError(Exception):
    """The store cannot do what was asked; it is as it was before."""

    exit_code: ClassVar[int] = 7


class VaultLocked(VaultError):
    """Another process has held the store's lock for as long as we were ready to wait."""


class VaultDamaged(VaultError):
    """The file is not what we wrote. It is never overwritten."""


class VaultEmpty(VaultDamaged):
    """The file is there and holds nothing, which is never what we wrote."""


class VaultMissing(VaultDamaged):
    """The store is gone while its backup is there."""


class NewerVersion(VaultError):
    """Written by a version of this program that knows more than this one."""


class ForeignStore(VaultError):
    """A readable file of some other kind stands where the store belongs."""


class UnsafeMode(VaultError):
    """Somebody else could read or change the file, or it is not a plain file of ours."""


class NotSaved(VaultError):
    """The operating system refused to store: a full disk, a read-only mount, no permission."""


class NotReadable(VaultError):
    """The operating system refused to read the file: no permission, a failing disk."""


class KeychainUnavailable(VaultError):
    """The system keychain is not installed, does not answer, or keeps nothing."""


class ServerRunning(VaultError):
    """A running server could not read the store after what was asked."""


class WrongKey(VaultError):
    """The key that opens the store is not the one we were given, or is not there."""

    exit_code: ClassVar[int] = 8


class KeyUnusable(VaultError):
    """A key or passphrase in the settings cannot be one."""

    exit_code: ClassVar[int] = 2


class NoSuchAccount(VaultError):
    """The account was removed meanwhile, or never was."""

    exit_code: ClassVar[int] = 3


class LabelTaken(VaultError):
    """Two accounts of one provider may not share a label, nor any two an id."""

    exit_code: ClassVar[int] = 2


def damaged(path: Path, reason: str, backup: Path | None) -> str:
    """The message about a damaged store: what is wrong, and where the last generation is."""
    if backup is None:
        return f"{path} is damaged: {reason}. There is no backup beside it; nothing was changed."
    return (
        f"{path} is damaged: {reason}. Nothing was changed.\n"
        f"The generation before it is in {backup}: keep a copy of both, then `cp {backup} {path}`."
    )
