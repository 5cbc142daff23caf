"""Text from outside, made fit for a terminal."""

from __future__ import annotations

import unicodedata

from accounts.model import ApiKey, CallersOwn, ClaudeCodeLogin, Credential

SECRET_LENGTH = 12
"""A mistyped word at least this long may be a key that was pasted in the wrong place; it is not repeated."""


def printable(text: str) -> str:
    """Text on one line and without what would steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell_width(text: str) -> int:
    """How many columns of a terminal the text takes (Unicode annex 11)."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def repeatable(word: str) -> str:
    """A mistyped word in quotes, if it is too short to be a secret."""
    return f"'{printable(word)}'" if len(word) < SECRET_LENGTH else "that name"


def kind(credential: Credential) -> str:
    """What a person calls it."""
    if isinstance(credential, CallersOwn):
        return "caller's login"
    if isinstance(credential, ClaudeCodeLogin):
        return "Claude Code login"
    return "key" if isinstance(credential, ApiKey) else "sign-in"
