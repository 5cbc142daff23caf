"""Why SIGHUP came: the terminal we were started from was closed, or somebody sent it."""

from __future__ import annotations

import os

CONTROLLING = "/dev/tty"
"""The process's controlling terminal, whichever that is; it cannot be opened once that has hung up (tty(4))."""

SURE_AFTER = 3
"""Looks in a row without a terminal, a second apart: then it went without a signal to us, who were told to stay."""


class Terminal:
    """Whether the process has a controlling terminal, and whether it has just lost it.

    The kernel takes a terminal that hangs up from its processes before it tells them, and before a shell can. By
    counting looks, not seconds, a process that was stopped meanwhile comes to the same answer.
    """

    def __init__(self) -> None:
        self._gone = 0 if attached() else SURE_AFTER

    def look(self) -> None:
        """To be called once a second."""
        self._gone = 0 if attached() else min(self._gone + 1, SURE_AFTER)

    def closed(self) -> bool:
        """Whether there was a terminal until a moment ago, and is none now."""
        return self._gone < SURE_AFTER and not attached()


def attached() -> bool:
    """Whether there is a controlling terminal now."""
    try:
        os.close(os.open(CONTROLLING, os.O_RDONLY | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True
