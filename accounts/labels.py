"""What an account may be called."""

from __future__ import annotations

LIMIT = 64


def is_label(text: str) -> bool:
    """Whether this can be typed and told apart."""
    return 0 < len(text) <= LIMIT and text.isprintable() and "/" not in text and text == text.strip()


def fitting(name: str) -> str:
    """A label that comes as close to the name as one can."""
    readable = "".join(letter if letter.isprintable() and letter != "/" else "-" for letter in name.strip())
    return readable[:LIMIT].strip() or "default"
