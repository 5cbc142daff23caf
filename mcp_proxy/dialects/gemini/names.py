"""Names and ids in the letters both sides take. The upstream refuses others: 400 `Invalid function name`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

LONGEST = 64

# Gemini also takes "." and ":" in names, but behind it Claude does not.
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


def sent_names(names: Iterable[str]) -> dict[str, str]:
    """Each name with the one it is sent under: as near as its letters allow, no two the same."""
    sent: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in sent:
            continue
        near = sent_name(name)
        sent[name] = near if near not in taken else _marked(near, name)
        taken.add(sent[name])
    return sent


def sent_name(name: str) -> str:
    """A name in letters that are taken, the same for the same name."""
    near = _OTHER.sub("_", name)
    if not near[:1].isalpha() and near[:1] != "_":
        near = "_" + near
    return near if len(near) <= LONGEST else _marked(near, name)


def _marked(near: str, name: str) -> str:
    mark = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{near[: LONGEST - 9]}_{mark}"


def sent_id(given: object, taken: set[str]) -> str:
    """A tool call's id in letters that are taken, put into `taken`; no two calls of a conversation share one."""
    near = _OTHER.sub("_", given)[:LONGEST] if isinstance(given, str) and given else "unknown"
    unique, count = near, 1
    while unique in taken:
        count += 1
        unique = f"{near}-{count}"
    taken.add(unique)
    return unique
