"""Names of things, one type each, so that a swapped argument is a type error."""

from __future__ import annotations

from typing import NamedTuple, NewType

from accounts.model import AccountId

ModelId = NewType("ModelId", str)
"""A model's name as its upstream knows it."""

ProviderName = NewType("ProviderName", str)
RequestId = NewType("RequestId", str)


def own_id(account: AccountId, caller: str) -> AccountId:
    """The id of the seat that a caller with a login of its own has of an account."""
    return AccountId(f"{account}@{caller}")


def stored_id(account: str) -> AccountId:
    """The id that an account is stored under: of a caller's own seat the account that it was made of."""
    stored, own, _ = account.rpartition("@")
    return AccountId(stored if own else account)


def caller_in(account: str) -> str | None:
    """The caller whose own seat an id names; None where it is the account's own."""
    return account.rpartition("@")[2] if "@" in account else None


class Conversation(NamedTuple):
    """What shares a prompt cache: one agent's thread in one session, on one upstream model.

    agent  the subagent's id; empty for the main thread
    """

    session: str
    agent: str
    model: ModelId


__all__ = ["AccountId", "Conversation", "ModelId", "ProviderName", "RequestId", "caller_in", "own_id", "stored_id"]
