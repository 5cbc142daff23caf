"""What a command ends with, and the trouble that says so. Scripts depend on these numbers."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every `proxy` command.

    USAGE    also a configuration that cannot be used, and a port in use
    NOTHING  a filter matched nothing
    SIGN_IN  a sign-in or key is needed, or was refused
    """

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


class Trouble(Exception):
    """Something a person can put right: one or two lines, and what kind it is."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code
