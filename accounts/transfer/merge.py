"""Bringing accounts from elsewhere into the store: what is the same is replaced, the rest is added."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from accounts.model import AccountId, Credential, Entry, OAuthGrant, same_credential


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of a merge.

    entries   all accounts, those that were there first
    added     accounts that are new, as they are called now
    replaced  accounts whose credential and settings came from the file
    """

    entries: tuple[Entry, ...]
    added: tuple[str, ...]
    replaced: tuple[str, ...]


def merge(
    stored: tuple[Entry, ...],
    incoming: tuple[Entry, ...],
    new_id: Callable[[], AccountId],
    taken: Mapping[str, Collection[str]] | None = None,
) -> Merged:
    """Merge accounts into those that are stored.

    An account is the same as a stored one if it has its id and provider, or its provider, label
    and credential. A new one whose label or id is in use gets the next free one.

    new_id  makes ids up, again until one is free
    taken   labels by provider that are in use outside the store
    """
    entries = list(stored)
    added: list[str] = []
    replaced: list[str] = []
    for entry in incoming:
        place = _place_of(entry, entries)
        others = [known for at, known in enumerate(entries) if at != place]
        label = free_label(entry, others, (taken or {}).get(entry.account.provider, ()))
        identity = entry.account.id if place is None else entries[place].account.id
        while any(known.account.id == identity for known in others):
            identity = new_id()
        credential = entry.credential if place is None else _fuller(entries[place].credential, entry.credential)
        merged = Entry(replace(entry.account, id=identity, label=label), credential)
        if place is None:
            entries.append(merged)
            added.append(merged.account.name)
        else:
            entries[place] = merged
            replaced.append(merged.account.name)
    return Merged(tuple(entries), tuple(added), tuple(replaced))


def free_label(entry: Entry, others: Collection[Entry], taken: Collection[str]) -> str:
    """The entry's label, or the first of `label-2`, `label-3` … that nobody of its provider has."""
    account = entry.account
    used = {other.account.label for other in others if other.account.provider == account.provider} | set(taken)
    label, number = account.label, 2
    while label in used:
        label, number = f"{account.label}-{number}", number + 1
    return label


def _fuller(stored: Credential, incoming: Credential) -> Credential:
    """The incoming one, unless it is the stored one without its client: that is all that it is good with."""
    bare = isinstance(incoming, OAuthGrant) and incoming.client is None
    return stored if bare and same_credential(stored, incoming) else incoming


def _place_of(entry: Entry, entries: list[Entry]) -> int | None:
    """Where the same account stands; one with its id goes before one with its name and credential."""
    by_name = None
    for at, known in enumerate(entries):
        if known.account.provider != entry.account.provider:
            continue
        if known.account.id == entry.account.id:
            return at
        if known.account.label == entry.account.label and same_credential(known.credential, entry.credential):
            by_name = at
    return by_name
