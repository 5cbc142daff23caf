"""How Google's Cloud Code API is called: its address, its headers, and its answers read whole."""

from __future__ import annotations

import re
from typing import Any

from mcp_proxy.core.failure import Blame, Failure, Refusal, error_type
from mcp_proxy.core.http import Headers, Transport, UpstreamRequest
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.provider import Access, Offer
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.gemini.wire import written
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.providers._asking import READ_SECONDS, ask
from mcp_proxy.providers.antigravity.errors import read_failure

CLIENT_VERSION = "2.9.1"
"""The oldest desktop client that gets all models is 2.9.0 (observed, 2026-08)."""

_USER_AGENT = "antigravity/hub/{} darwin/arm64"
"""As other clients of this API write it; a setting that holds a `/` is the whole of it."""

_SAFE = re.compile(r"[ -~]{1,200}")
_NOBODY = Offer(ModelId(""))


def address(access: Access, method: str) -> str:
    """The address of one of its methods."""
    return f"{access.base_url}/v1internal:{method}"


def headers(access: Access, accept: str) -> Headers:
    """All that the official client sends, and nothing of our client's."""
    return (
        ("authorization", f"Bearer {access.token.value.reveal()}"),
        ("content-type", "application/json"),
        ("user-agent", user_agent(access.client_version)),
        ("accept", accept),
        ("accept-encoding", "identity"),
    )


def user_agent(version: str | None) -> str:
    """What says which client is asking: by its version, or whole where the setting holds a `/`."""
    if version is None or not _SAFE.fullmatch(version):
        version = CLIENT_VERSION
    return version if "/" in version else _USER_AGENT.format(version)


def project(access: Access) -> dict[str, str]:
    """The account's project; nothing where none is known: an empty one is answered with 500."""
    known = access.known.get("project")
    return {"project": known} if known else {}


async def call(transport: Transport, access: Access, method: str, body: Any, now: Instant) -> dict[str, Any] | Failure:
    """The document that a question is answered with, or why there is none.

    A failure closes nothing: that a question was refused says nothing of the messages. Its blame still says whether
    the token or the account is refused.
    """
    request = UpstreamRequest(
        "POST", address(access, method), headers(access, "application/json"), written(body), READ_SECONDS
    )
    answer = await ask(transport, request)
    if isinstance(answer, Failure):
        return answer
    document = loads(answer.body) if answer.status == 200 else None
    if isinstance(document, dict) and "error" not in document:
        return document
    return _refused(answer, now)


def _refused(answer: Refusal, now: Instant) -> Failure:
    failure = read_failure(answer, _NOBODY, now)
    if failure.limit is None and failure.blame is not Blame.REQUEST:
        return failure
    status = failure.status if failure.blame is not Blame.REQUEST else 502
    return Failure(Blame.PROVIDER, status, error_type(status), failure.message, retry_at=failure.retry_at)
