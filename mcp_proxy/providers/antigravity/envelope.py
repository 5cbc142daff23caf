"""What stands around each request, and ids that need no chance."""

from __future__ import annotations

import hashlib
from typing import Any

from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access
from mcp_proxy.dialects.gemini.decode import NewId
from mcp_proxy.dialects.gemini.wire import written
from mcp_proxy.providers.antigravity.calling import project


def envelope(access: Access, request: bytes, model: str, kind: str, request_id: str | None = None) -> bytes:
    """A request of `kind` as it goes out; the request itself goes in as it is."""
    head: dict[str, Any] = {**project(access), "model": model, "userAgent": "antigravity", "requestType": kind}
    if request_id is not None:
        head["requestId"] = request_id
    return b'%b,"request":%b}' % (written(head)[:-1], request)


def seed_of(ask: Ask, access: Access) -> str:
    """What the ids of one attempt are made of: 32 hexadecimal digits, never the same for another."""
    made = hashlib.blake2b(ask.id.encode() or ask.body, digest_size=16)
    made.update(f"/{ask.unsigned}/{access.known.get('project')}".encode())
    return made.hexdigest()


def uuid(digits: str) -> str:
    """32 hexadecimal digits in the form of a random UUID (RFC 9562, 5.4)."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def ids(seed: str) -> NewId:
    """Ids for one answer, the same whenever it is read again."""
    count = 0

    def new_id(prefix: str) -> str:
        nonlocal count
        count += 1
        return prefix + hashlib.blake2b(f"{seed}/{count}".encode(), digest_size=16).hexdigest()

    return new_id
