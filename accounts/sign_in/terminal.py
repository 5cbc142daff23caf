"""What a sign-in needs of the person in front of it."""

from __future__ import annotations

from typing import Protocol

from accounts.model import Secret


class Terminal(Protocol):
    """A person who can be told something and asked for something."""

    def show(self, line: str) -> None:
        """Tell one line."""

    def ask_hidden(self, question: str) -> Secret:
        """What the person types, unseen. Raises where nobody can be asked."""


class Paster(Protocol):
    """A person, or a script, who may paste something while something else is waited for."""

    def show(self, line: str) -> None:
        """Tell one line."""

    async def pasted(self, question: str) -> str | None:
        """The next line; None where none will come."""
