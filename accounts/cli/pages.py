"""Web pages for the person in front of the program."""

from __future__ import annotations

import os
import sys
import threading


def open_page(address: str) -> None:
    """Ask for the page in the person's browser, if there is one; never waits for it and never fails."""
    if has_windows():
        threading.Thread(target=_open, args=(address,), daemon=True).start()


def has_windows() -> bool:
    """Whether a browser would open beside the terminal: without a display it would take the terminal over."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))  # habits of desktops


def _open(address: str) -> None:
    import webbrowser

    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError):
        pass  # the address is on the terminal too
