"""Asking a provider something beside a message: whether a key works, which models there are, what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from accounts.model import Auth, Verdict, Works
from mcp_proxy.core.failure import Blame, Failure, Refusal, error_type
from mcp_proxy.core.http import Headers, NetworkTrouble, Transport, UpstreamRequest, read_all
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.provider import Access, Discover, Listed, Offer, Verify
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.native import VERSION, address, credential
from mcp_proxy.providers._errors import read

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer that are read; OpenRouter's list of models is the largest, under one megabyte."""

READ_SECONDS = 15.0
MAX_PAGES = 10
MAX_MODELS = 2000
_HEADERS: Headers = (
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "multi-claude-proxy"),
)
_NOBODY = Offer(ModelId(""))


def get(access: Access, url: str, auth: Auth | None = None, headers: Headers = ()) -> UpstreamRequest:
    """A question to `url` with the account's key, in the header that this address wants."""
    own = credential(auth or access.auth, access.token.value.reveal())
    return UpstreamRequest("GET", url, (*_HEADERS, *headers, own), read_timeout=READ_SECONDS)


async def ask(transport: Transport, request: UpstreamRequest) -> Refusal | Failure:
    """The whole answer, whatever its status; a Failure (NETWORK) where none came."""
    try:
        response = await transport.send(request)
        body = await read_all(response, ANSWER_LIMIT)
    except NetworkTrouble as trouble:
        return Failure(Blame.NETWORK, 502, "api_error", str(trouble))
    return Refusal(response.status, response.headers, body)


def unreadable(answer: Refusal, now: Instant, *, refused: bool = False) -> Failure:
    """Why a question had no answer: a dead credential, or trouble that says nothing of the account's limits."""
    case = read(answer, _NOBODY, now)
    if refused or answer.status == 401:
        return case.refused()
    if answer.status in (404, 405):
        return case.misdirected()
    status = answer.status if answer.status in (429, 529) or 500 <= answer.status < 600 else 502
    return Failure(Blame.PROVIDER, status, error_type(status), case.message, retry_at=case.retry_at)


def verdict(answer: Refusal | Failure, now: Instant, *, refused: bool = False) -> Verdict:
    """What an answer to a question with a credential says of that credential.

    refused  whether the document refuses it, whatever the status
    """
    if isinstance(answer, Failure):
        return Verdict(Works.UNREACHABLE, answer.message)
    case = read(answer, _NOBODY, now)
    message = case.message
    if refused or answer.status in (401, 403):
        return Verdict(Works.REFUSED, message)
    if 200 <= answer.status < 300:
        # a page to sign in at, or whatever else stands in the way, is no word for the key
        answered = case.json and not case.error and case.type != "error"
        return Verdict(Works.YES) if answered else Verdict(Works.UNREACHABLE, f"no answer of the API: {message}")
    # Too many questions is no word against the key.
    return Verdict(Works.YES if answer.status == 429 else Works.UNREACHABLE, message)


def verify_by(question: Callable[[Access], UpstreamRequest]) -> Verify:
    """Whether a credential works, by a question that a wrong one is refused."""

    async def verify(transport: Transport, access: Access, now: Instant) -> Verdict:
        return verdict(await ask(transport, question(access)), now)

    return verify


async def verify_by_message(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether a credential works, by an empty request for a message: 400 is good, 401 and 403 are not."""
    headers: Headers = (("content-type", "application/json"), ("anthropic-version", VERSION))
    own = credential(access.auth, access.token.value.reveal())
    url = address(access.base_url, "/v1/messages")
    answer = await ask(transport, UpstreamRequest("POST", url, (*_HEADERS, *headers, own), b"{}", READ_SECONDS))
    found = verdict(answer, now)
    if isinstance(answer, Failure) or found.works is not Works.UNREACHABLE or not 400 <= answer.status < 500:
        return found
    if answer.status in (404, 405):
        return Verdict(Works.UNREACHABLE, f"no Messages API at {url}: {found.detail}")
    return Verdict(Works.YES)


def models_question(access: Access, after_id: str | None = None) -> UpstreamRequest:
    """One page of the list of models."""
    page = f"&after_id={quote(after_id, safe='')}" if after_id else ""
    url = address(access.base_url, f"/v1/models?limit=1000{page}")
    return get(access, url, headers=(("anthropic-version", VERSION),))


def discover_models(*, optional: bool) -> Discover:
    """Asks `GET /v1/models`, page by page.

    optional  whether a provider without that endpoint is no trouble: it lists nothing then
    """

    async def discover(transport: Transport, access: Access, now: Instant) -> tuple[Listed, ...] | Failure:
        found: dict[ModelId, Listed] = {}
        after_id: str | None = None
        for _ in range(MAX_PAGES):
            answer = await ask(transport, models_question(access, after_id))
            if isinstance(answer, Failure):
                return answer
            page = loads(answer.body) if answer.status == 200 else None
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                no_list = answer.status in (200, 400, 404, 405, 501)
                return () if optional and no_list and not found else unreadable(answer, now)
            found.update((listed.model, listed) for entry in page["data"] if (listed := _listed(entry)))
            last_id = page.get("last_id")
            more = page.get("has_more") is True and isinstance(last_id, str) and last_id != after_id
            if not more or len(found) >= MAX_MODELS:
                break
            after_id = last_id
        return tuple(found.values())[:MAX_MODELS]

    return discover


def _listed(entry: Any) -> Listed | None:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        return None
    title = entry.get("display_name") or entry.get("name")
    return Listed(ModelId(name), title[:200] if isinstance(title, str) else None)
