"""What a command ends with. Scripts depend on these numbers."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every `proxy` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOTHING = 3
    SIGN_IN = 4
    QUOTA = 5
    UNREACHABLE = 6
    STORE = 7
    WRONG_KEY = 8
    INTERRUPTED = 130
