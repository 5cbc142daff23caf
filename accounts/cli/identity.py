"""Ids and labels for new accounts."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from accounts.model import Account, AccountId


def new_id() -> AccountId:
    """Six hexadecimal digits, drawn at random."""
    return AccountId(secrets.token_hex(3))


def fresh_id(taken: Iterable[Account]) -> AccountId:
    """An id that is nobody's id and nobody's label."""
    used = {word for account in taken for word in (account.id, account.label)}
    while (made := new_id()) in used:
        pass
    return made


def free_label(provider: str, taken: Iterable[Account], name: str | None = None) -> str:
    """The name, or `default`, or the first of `default-2`, `default-3` … that no account of the provider has."""
    used = {account.label for account in taken if account.provider == provider}
    first = name or "default"
    label, number = first, 2
    while label in used:
        label, number = f"{first}-{number}", number + 1
    return label
