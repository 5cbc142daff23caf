"""Names of things, one type each, so that a swapped argument is a type error."""

from __future__ import annotations

from typing import NamedTuple, NewType

from accounts.model import AccountId

ModelId = NewType("ModelId", str)
"""A model's name as its upstream knows it."""

ProviderName = NewType("ProviderName", str)
RequestId = NewType("RequestId", str)


def own_id(account: AccountId, caller: str) -> AccountId:
    """What a caller's own seat of an account is called."""
    return AccountId(f"{account}@{caller}")


def stored_id(account: AccountId, caller: str | None) -> AccountId:
    """The id that an account is stored under, of a caller's own seat of it too; caller: empty where it has none."""
    return AccountId(account.removesuffix(f"@{caller}")) if caller else account


class Conversation(NamedTuple):
    """What shares a prompt cache: one agent's thread in one session, on one upstream model.

    agent  the subagent's id; empty for the main thread
    """

    session: str
    agent: str
    model: ModelId


__all__ = ["AccountId", "Conversation", "ModelId", "ProviderName", "RequestId", "own_id", "stored_id"]
