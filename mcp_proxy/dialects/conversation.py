"""Which conversation a request belongs to, read from as little of it as will tell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mcp_proxy.core.http import header
from mcp_proxy.core.messages import Ask
from mcp_proxy.dialects.json_text import NULL, BadJson, Bytes, is_text, items, loads, members, picked

_LONGEST = 128
"""Characters of a name that are kept as they are; a longer one is hashed, or 10 000 of them could fill memory."""

_OLD_USER_ID = re.compile(r"_session_([0-9a-zA-Z-]+)$")
_ONE_HOUR = re.compile(rb'"cache_control"\s*:\s*\{[^{}]*"ttl"\s*:\s*"1h"')


def session(ask: Ask) -> str:
    """What the requests of one session have in common; never empty, never raises.

    In this order: `x-claude-code-session-id`, `x-session-id`, the session in `metadata.user_id` (all of it where
    it names none), else a hash of the system prompt and the first user text.
    """
    for name in ("x-claude-code-session-id", "x-session-id"):
        if given := (header(ask.headers, name) or "").strip():
            return _short(given)
    parts = _values(ask, ("metadata", "system", "messages"))
    metadata = loads(parts.get("metadata", b""))
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if isinstance(user_id, str) and user_id:
        return _short(_session_in(user_id))
    said = hashlib.blake2b(digest_size=16)
    for text in _written(parts.get("system", NULL)):
        said.update(text)
    said.update(b"\0")
    for text in _first_written(parts.get("messages", NULL)):
        said.update(text)
    return said.hexdigest()


def agent(ask: Ask) -> str:
    """The subagent's id; empty for the main thread."""
    return _short((header(ask.headers, "x-claude-code-agent-id") or "").strip())


def cache_ttl_1h(ask: Ask) -> bool:
    """Whether a `cache_control` asks for an hour.

    The first in the system prompt tells: what is cached for longer has to stand before what is cached for less
    (docs: "Prompt caching"), and looking through a whole body is a tenth of what a request costs us.
    """
    start, end = ask.system or (0, 0)
    if (first := ask.body.find(b'"cache_control"', start, end)) >= 0:
        return _ONE_HOUR.match(ask.body, first) is not None
    return b'"1h"' in ask.body and _ONE_HOUR.search(ask.body) is not None


def _first_written(messages: Bytes) -> Iterator[memoryview]:
    """The text of the first user message of a JSON array, as in `_written`."""
    for message in items(messages):
        role, content = picked(message, "role", "content")
        if loads(role) == "user":
            yield from _written(content)
            return


def _written(content: Bytes) -> Iterator[memoryview]:
    """The texts of a JSON content as they are written, quotes left out: the same of a string and of a block.

    What is only compared need not be read: of twenty megabytes that takes longer than the rest of the request.
    """
    if is_text(content):
        yield memoryview(content)[1:-1]
        return
    for block in items(content):
        kind, text = picked(block, "type", "text")
        if loads(kind) == "text" and is_text(text):
            yield text[1:-1]


def text_of(content: Any) -> str:
    """The text of a content that is read already; empty for what is none."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, Iterable) else ()
    texts = (block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def _session_in(user_id: str) -> str:
    """The session that Claude Code writes into `metadata.user_id`: a JSON text, before 2026 `user_…_session_ID`."""
    if user_id.startswith("{"):
        told = loads(user_id.encode("utf-8", "surrogatepass"))
        named = told.get("session_id") if isinstance(told, dict) else None
        return named if isinstance(named, str) and named else user_id
    old = _OLD_USER_ID.search(user_id)
    return old[1] if old else user_id


def _short(name: str) -> str:
    if len(name) <= _LONGEST and name.isprintable():
        return name
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _values(ask: Ask, keys: tuple[str, ...]) -> dict[str, memoryview]:
    try:
        found, body = ask.members or members(ask.body), memoryview(ask.body)
        return {part.key: body[slice(*part.value)] for part in found if part.key in keys}
    except BadJson:
        return {}
