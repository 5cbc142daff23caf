"""The file layer under the store: whole old or whole new content, and nobody else's eyes.

Every change goes through `Files`, one method a system call, so that a test can make any of
them fail. Reading and the checks of modes ask the system directly.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from pathlib import Path

from accounts.vault.errors import NotReadable, UnsafeMode, VaultDamaged

POSIX = os.name == "posix"
"""Windows has no modes: there the profile's access list keeps others out."""

SIZE_LIMIT = 64 * 2**20
"""Some fifty thousand accounts. A store larger than this is not one."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # so that a pipe in the store's place cannot hang us
_BINARY = getattr(os, "O_BINARY", 0)


class Files:
    """The system calls that change something on disk."""

    def create(self, path: Path) -> int:
        """Open a file that must not exist yet, readable by us only, whatever the umask."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, 0o600)

    def write(self, descriptor: int, content: bytes) -> int:
        """Write some of it; says how many bytes."""
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        """Return once the content is on the disk itself."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file that was created."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Give the file the other's name, atomically."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file. Raises FileNotFoundError where there is none."""
        path.unlink()

    def fsync_folder(self, folder: Path) -> None:
        """Return once the names in the folder are on the disk itself."""
        if not POSIX:
            return  # Windows cannot open a folder, and journals names itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


SYSTEM = Files()


def write_atomically(files: Files, target: Path, content: bytes) -> None:
    """Put content under a name: whoever looks, at any moment or after any crash, sees all or nothing of it.

    Raises OSError; the target then is as it was, unless only the last flush of its folder failed.
    """
    temporary = target.parent / f"{_temporary_prefix(target)}{secrets.token_hex(6)}.tmp"
    try:
        _write_durably(files, temporary, content)
        files.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(temporary)
        raise
    files.fsync_folder(target.parent)


def remove_durably(files: Files, path: Path) -> None:
    """Remove a file that may not be there, and wait until it is gone from the disk."""
    with contextlib.suppress(FileNotFoundError):
        files.unlink(path)
        files.fsync_folder(path.parent)


def sweep(files: Files, target: Path) -> None:
    """Remove what killed writers of this file left behind. Only under the lock that guards it.

    A file that cannot be removed is left: it is sealed and readable by us only.
    """
    for temporary in target.parent.glob(f"{_temporary_prefix(target)}*.tmp"):
        with contextlib.suppress(OSError):
            files.unlink(temporary)


def make_folder(files: Files, folder: Path) -> None:
    """Create a folder and its missing parents durably, all 0700 whatever the umask. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(files, folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    files.fsync_folder(folder.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which somebody else could swap our files. Raises UnsafeMode, NotReadable."""
    if not POSIX:
        return
    try:
        state = folder.stat()
    except OSError as error:
        raise NotReadable(f"the folder {folder} cannot be looked at: {error.strerror}") from error
    name = shlex.quote(str(folder))
    if not stat.S_ISDIR(state.st_mode):
        raise UnsafeMode(f"{folder} is not a folder")
    if state.st_uid not in (os.getuid(), 0):
        raise UnsafeMode(f"the folder {folder} belongs to another user: chown {os.getuid()} {name}")
    if state.st_mode & 0o022:
        mode = stat.S_IMODE(state.st_mode)
        raise UnsafeMode(f"others can change what is in the folder {folder} (mode {mode:04o}): chmod 700 {name}")


def read_private(path: Path, limit: int = SIZE_LIMIT) -> bytes | None:
    """The content of a file that only we can read; None where there is none.

    Raises UnsafeMode for a link, for what is no plain file, and for a file that others own or can
    read; NotReadable where the system refuses; VaultDamaged for more than `limit` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafeMode(f"{path} is a symbolic link: put the file itself there, or name the real one") from None
        raise NotReadable(f"{path} cannot be read: {error.strerror}") from error
    try:
        state = os.fstat(descriptor)
        _check_file(path, state)  # first: a folder cannot be opened as a file, and its descriptor would stay open
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1) if state.st_size <= limit else None
    except OSError as error:
        raise NotReadable(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if content is None or len(content) > limit:
        raise VaultDamaged(f"{path} is larger than {limit // 2**20} MiB, which is no file of ours")
    return content


def _check_file(path: Path, state: os.stat_result) -> None:
    name = shlex.quote(str(path))
    if not stat.S_ISREG(state.st_mode):
        raise UnsafeMode(f"{path} is not a plain file")
    if not POSIX:
        return
    if state.st_uid != os.getuid():
        raise UnsafeMode(f"{path} belongs to another user: chown {os.getuid()} {name}")
    if state.st_mode & 0o077:
        mode = stat.S_IMODE(state.st_mode)
        raise UnsafeMode(f"{path} can be read by others (mode {mode:04o}): chmod 600 {name}")
    if state.st_nlink > 1:
        raise UnsafeMode(
            f"{path} has a second name (hard link): mv {name} {name}.linked && (umask 077; cp {name}.linked {name})"
        )


def _write_durably(files: Files, path: Path, content: bytes) -> None:
    descriptor = files.create(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[files.write(descriptor, bytes(rest)) :]
        files.fsync(descriptor)
    finally:
        files.close(descriptor)


def _temporary_prefix(target: Path) -> str:
    return f".store-{target.name}-"
