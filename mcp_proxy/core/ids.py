"""Names of things, one type each, so that a swapped argument is a type error."""

from __future__ import annotations

from typing import NamedTuple, NewType

from accounts.model import AccountId

ModelId = NewType("ModelId", str)
"""A model's name as its upstream knows it."""

ProviderName = NewType("ProviderName", str)
RequestId = NewType("RequestId", str)


class Conversation(NamedTuple):
    """What shares a prompt cache: one agent's thread in one session, on one upstream model.

    agent  the subagent's id; empty for the main thread
    """

    session: str
    agent: str
    model: ModelId


__all__ = ["AccountId", "Conversation", "ModelId", "ProviderName", "RequestId"]
