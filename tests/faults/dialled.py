"""Which addresses this process dials and looks up, whatever library does it; none but loopback is let through."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_watching: list[set[str]] = []
_hooked = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _watching or event not in ("socket.connect", "socket.getaddrinfo"):
        return
    where = args[1] if event == "socket.connect" else args[0]
    host = where[0] if isinstance(where, tuple) else where
    if isinstance(host, bytes):
        host = host.decode("latin-1")
    if not isinstance(host, str):
        return
    for found in _watching:
        found.add(host)
    if event == "socket.connect" and host not in ("127.0.0.1", "::1"):
        raise ConnectionRefusedError(f"a test dials {host}")


@contextlib.contextmanager
def dialled() -> Iterator[set[str]]:
    """The hosts that are dialled or looked up meanwhile. What is not loopback is refused before a packet leaves."""
    global _hooked
    if not _hooked:  # such a hook stays for ever, so there is one, which does nothing while nobody watches
        sys.addaudithook(_hook)
        _hooked = True
    found: set[str] = set()
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)
