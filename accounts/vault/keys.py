"""Where the key of the store comes from.

An existing store names its source in its header, and that source is asked first. A new store
takes the first that is there: a key from the environment, a passphrase from the environment,
the key file, which is made on first use. What the environment says arrives as values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from accounts.model import Secret
from accounts.vault.errors import KeychainUnavailable, KeyUnusable, VaultLocked, WrongKey
from accounts.vault.files import Files, check_folder, make_folder, read_private, remove_durably, sweep, write_atomically
from accounts.vault.keychain import Keychain, SystemKeychain
from accounts.vault.seal import (
    STANDARD,
    Cost,
    Header,
    Key,
    KeySource,
    Stretch,
    decoded_key,
    encoded_key,
    new_key,
    new_stretch,
    stretched,
)

KEY_VARIABLE = "MCP_PROXY_VAULT_KEY"
PASSPHRASE_VARIABLE = "MCP_PROXY_VAULT_PASSPHRASE"  # noqa: S105 - the name of a variable
HOW_TO_MAKE_A_KEY = f"{KEY_VARIABLE} must be 32 bytes in base64, for example from: openssl rand -base64 32"

_KEY_FILE_LIMIT = 64 * 1024
_KEY_FILE_HEAD = (
    "# The key of the multi-claude-proxy account store. Keep it secret, and keep it: nothing else opens it.\n"
)


@dataclass(frozen=True, slots=True)
class KeySources:
    """Everywhere a key may come from.

    key         the text of MCP_PROXY_VAULT_KEY; None where it is not set
    passphrase  the text of MCP_PROXY_VAULT_PASSPHRASE; None where it is not set
    key_file    where the key file is, or would be made
    cost        what guessing a new passphrase shall cost
    """

    key: Secret | None
    passphrase: Secret | None
    key_file: Path
    cost: Cost = STANDARD
    keychain: Keychain = field(default_factory=SystemKeychain)


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """A key, and what the next header says of it."""

    key: Key
    source: KeySource
    stretch: Stretch | None = None


def key_for(header: Header, sources: KeySources) -> Key:
    """The key that opens a file with this header.

    Raises WrongKey, saying where the key was looked for and what to do.
    """
    named = _from_source(header, sources)
    if isinstance(named, Key):
        return named
    for source in (KeySource.ENV, KeySource.FILE):
        # A key may have been moved by hand. Asking the keychain could open a window, so only where it is named.
        other = None if source is header.source else _from_source(header, sources, source)
        if isinstance(other, Key):
            return other
    raise WrongKey(named)


def key_for_new(sources: KeySources, files: Files, timeout: float) -> KeyInUse:
    """The key for a store that does not exist yet; makes the key file if nothing else is set.

    Raises KeyUnusable for a variable that holds no key, WrongKey for a key file that is there and
    holds none.
    """
    if sources.key is not None:
        return KeyInUse(key_from_text(sources.key), KeySource.ENV)
    if sources.passphrase is not None:
        return key_from_passphrase(sources.passphrase, sources.cost)
    with key_file_lock(sources.key_file, files, timeout):
        keys = read_key_file(sources.key_file)
        if keys is None:
            keys = (new_key(),)
            write_key_file(files, sources.key_file, keys)
    return KeyInUse(keys[0], KeySource.FILE)


def source_for_new(sources: KeySources) -> KeySource:
    """Where a store that does not exist yet would get its key from."""
    if sources.key is not None:
        return KeySource.ENV
    return KeySource.FILE if sources.passphrase is None else KeySource.PASSPHRASE


def key_from_text(text: Secret) -> Key:
    """The key that the environment variable holds. Raises KeyUnusable."""
    key = decoded_key(text.reveal())
    if key is None:
        raise KeyUnusable(HOW_TO_MAKE_A_KEY)
    return key


def key_from_passphrase(passphrase: Secret, cost: Cost) -> KeyInUse:
    """A key from a passphrase, with a fresh salt. Raises KeyUnusable for an empty one."""
    if not passphrase.reveal():
        raise KeyUnusable(f"the passphrase is empty: set {PASSPHRASE_VARIABLE} to one, or unset it")
    stretch = new_stretch(cost)
    return KeyInUse(stretched(passphrase, stretch), KeySource.PASSPHRASE, stretch)


def keychain_name(key_id: str) -> str:
    """Under which name the keychain keeps a key: one for each, so that the old and the new can both be there."""
    return f"vault-key-{key_id}"


@contextlib.contextmanager
def key_file_lock(path: Path, files: Files, timeout: float) -> Iterator[None]:
    """Hold the key file still, against other stores that share it. Creates its folder."""
    make_folder(files, path.parent)
    check_folder(path.parent)
    lock = FileLock(f"{path}.lock", timeout=timeout, mode=0o600, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        raise VaultLocked(f"{path} is being changed by another process; try again") from None
    try:
        sweep(files, path)
        yield
    finally:
        lock.release()


def read_key_file(path: Path) -> tuple[Key, ...] | None:
    """The keys in the key file, the one in use first; None where there is no file.

    While a key is being replaced the file holds two. Raises WrongKey for a file without a key,
    UnsafeMode for one that others can read.
    """
    content = read_private(path, _KEY_FILE_LIMIT)
    if content is None:
        return None
    lines = [line.strip() for line in content.decode("ascii", "replace").splitlines()]
    keys = [decoded_key(line) for line in lines if line and not line.startswith("#")]
    if not keys or None in keys:
        raise WrongKey(f"the key file {path} is damaged: it must hold 32 bytes in base64. Put your copy of it back")
    return tuple(key for key in keys if key is not None)


def write_key_file(files: Files, path: Path, keys: tuple[Key, ...]) -> None:
    """Write the key file, or remove it where no key is left. Only under its lock."""
    if keys:
        text = _KEY_FILE_HEAD + "".join(f"{encoded_key(key)}\n" for key in keys)
        write_atomically(files, path, text.encode())
    else:
        remove_durably(files, path)


def _from_source(header: Header, sources: KeySources, source: KeySource | None = None) -> Key | str:
    """The fitting key from one source, or why there is none."""
    match source or header.source:
        case KeySource.ENV:
            return _fitting_variable(header, sources.key)
        case KeySource.PASSPHRASE:
            return _fitting_passphrase(header, sources.passphrase)
        case KeySource.FILE:
            return _fitting_file_key(header, sources.key_file)
        case KeySource.KEYCHAIN:
            return _fitting_keychain_key(header, sources.keychain)


def _fitting_variable(header: Header, text: Secret | None) -> Key | str:
    if text is None:
        return f"its key comes from {KEY_VARIABLE}, which is not set: set it to the key {header.key_id}"
    key = decoded_key(text.reveal())
    if key is None:
        return HOW_TO_MAKE_A_KEY
    return key if header.fits(key) else f"{KEY_VARIABLE} holds another key ({key.id}) than its own ({header.key_id})"


def _fitting_passphrase(header: Header, passphrase: Secret | None) -> Key | str:
    if passphrase is None:
        return f"it is sealed with a passphrase: set {PASSPHRASE_VARIABLE}"
    if header.stretch is None:
        return "its header does not say how the passphrase becomes a key"
    key = stretched(passphrase, header.stretch)
    return key if header.fits(key) else f"the passphrase in {PASSPHRASE_VARIABLE} is not the one it was sealed with"


def _fitting_file_key(header: Header, path: Path) -> Key | str:
    try:
        keys = read_key_file(path)
    except WrongKey as error:
        return str(error)
    if keys is None:
        return f"its key file {path} is gone: put your copy of it back (key {header.key_id})"
    for key in keys:
        if header.fits(key):
            return key
    return (
        f"the key file {path} holds another key ({keys[0].id}) than its own ({header.key_id}): put the right one back"
    )


def _fitting_keychain_key(header: Header, keychain: Keychain) -> Key | str:
    try:
        text = keychain.get(keychain_name(header.key_id))
    except KeychainUnavailable as error:
        return str(error)
    key = decoded_key(text) if text is not None else None
    if key is not None and header.fits(key):
        return key
    return f"the system keychain does not hold its key {header.key_id}"
