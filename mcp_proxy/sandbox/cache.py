"""A prompt cache as Anthropic's works: what stood before a mark is cheap to send again, to the same account."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcp_proxy.sandbox.answers import Json

FIVE_MINUTES, ONE_HOUR = 300.0, 3600.0


class Cached(NamedTuple):
    """Tokens of one request's input, told apart."""

    read: int
    written: int
    fresh: int


class Boundary(NamedTuple):
    """The end of one block. tokens: of everything up to here; keep: seconds if it carries a mark, else None."""

    digest: bytes
    tokens: int
    keep: float | None


@dataclass(slots=True)
class PromptCache:
    """Prefixes of prompts this account has sent, each until when."""

    _known: dict[bytes, float] = field(default_factory=dict)

    def count(self, body: Json, now: float) -> Cached:
        """Look this prompt up and remember its marked prefixes."""
        ends = boundaries(body)
        total = ends[-1].tokens if ends else 1
        self._known = {digest: until for digest, until in self._known.items() if until > now}
        read = max((end.tokens for end in ends if end.digest in self._known), default=0)
        marked = [end for end in ends if end.keep is not None]
        for end in marked:
            self._known[end.digest] = now + (end.keep or 0.0)
        upto = max((end.tokens for end in marked), default=0)
        written = max(0, upto - read)
        return Cached(read, written, max(1, total - read - written))


def boundaries(body: Json) -> list[Boundary]:
    """Tools, system and messages block by block. A mark is no content, nor whether text is bare or in a block."""
    running = hashlib.sha256(str(body.get("model")).encode())
    found: list[Boundary] = []
    size = 0
    for where, block in _blocks(body):
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        written = json.dumps(plain, sort_keys=True)
        size += len(written)
        running.update(f"{where}:{written}".encode())
        found.append(Boundary(running.digest(), max(1, size // 4), _keep(block.get("cache_control"))))
    return found


def _blocks(body: Json) -> list[tuple[str, Json]]:
    found = [("tool", tool) for tool in _listed(body.get("tools"))]
    found += [("system", block) for block in _listed(body.get("system"))]
    for message in _listed(body.get("messages")):
        found += [(str(message.get("role")), block) for block in _listed(message.get("content"))]
    return found


def _listed(value: Any) -> list[Json]:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _keep(mark: Any) -> float | None:
    if not isinstance(mark, dict):
        return None
    return ONE_HOUR if mark.get("ttl") == "1h" else FIVE_MINUTES


def size_of(body: Json) -> int:
    """Tokens of a prompt, roughly: four characters each."""
    ends = boundaries(body)
    return ends[-1].tokens if ends else 1
