"""The key that callers are named with: local, secret, and the same after a restart."""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

from accounts.vault.errors import VaultError
from accounts.vault.files import SYSTEM, make_folder, read_private, write_atomically

log = structlog.get_logger("mcp_proxy")

KEY_BYTES = 32
LOCK_SECONDS = 5.0


def callers_key(state_file: Path) -> bytes:
    """The key beside the state file, made there where there is none. Whose windows are whose hangs on it alone.

    Where it cannot be kept there, it lasts as long as this process; that is said.
    """
    path = state_file.with_name("callers.key")
    try:
        make_folder(SYSTEM, path.parent)
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS, mode=0o600):
            held = read_private(path, KEY_BYTES)
            if held is None or len(held) != KEY_BYTES:
                held = secrets.token_bytes(KEY_BYTES)
                write_atomically(SYSTEM, path, held)
            return held
    except (OSError, Timeout, VaultError) as trouble:
        log.warning("callers are named anew after a restart", error=str(trouble))
        return secrets.token_bytes(KEY_BYTES)
