"""A client's request as Google's Cloud Code API takes it: an envelope around Gemini's own."""

from __future__ import annotations

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import UpstreamRequest, UpstreamResponse
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, Offer
from mcp_proxy.dialects.anthropic_ask import bad_request
from mcp_proxy.dialects.conversation import session
from mcp_proxy.dialects.gemini.decode import GeminiDecoder
from mcp_proxy.dialects.gemini.encode import encode
from mcp_proxy.providers.antigravity.answer import Message, Stream
from mcp_proxy.providers.antigravity.calling import address, headers
from mcp_proxy.providers.antigravity.envelope import envelope, ids, seed_of, uuid
from mcp_proxy.providers.antigravity.images import picture_request
from mcp_proxy.providers.antigravity.models import known_of

SILENT_SECONDS = 120.0
"""The longest silence between two chunks: a model that thinks shows its thoughts meanwhile."""

_NAMING = frozenset({"x-claude-code-session-id", "x-session-id"})


def request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest | Failure:
    """The request, with how its answer is read."""
    match ask.endpoint:
        case Endpoint.MESSAGES:
            return _message(ask, offer, access)
        case Endpoint.IMAGES:
            return picture_request(ask, offer, access)
        case _:
            # Theirs would leave out the tools, which are most of what a coding agent sends.
            return bad_request(f"{offer.model}: this provider counts no tokens")


def _message(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest | Failure:
    known = known_of(offer)
    encoded = encode(ask.body, known.profile, _session(ask), trust_signatures=not ask.unsigned)
    if isinstance(encoded, Failure):
        return encoded
    seed = seed_of(ask, access)
    if encoded.search is None:
        body = envelope(access, encoded.request, offer.model, "agent", f"agent-{uuid(seed)}")
    else:
        body = envelope(access, encoded.request, known.searcher, "web_search")

    def translate(response: UpstreamResponse) -> UpstreamResponse:
        # Two answers to the very same request differ in their headers: a trace, a date.
        decoder = GeminiDecoder(encoded, ask.model, ids(f"{seed}{response.headers}"))
        return Stream(response, decoder) if ask.stream else Message(response, decoder)

    # Always in events: an answer that comes whole lacks its thoughts, and some models give none so.
    url = address(access, "streamGenerateContent?alt=sse")
    return UpstreamRequest("POST", url, headers(access, "text/event-stream"), body, SILENT_SECONDS, translate)


def _session(ask: Ask) -> str:
    """The conversation's name; empty where nobody named it: then `encode` takes its first words."""
    named = any(name in _NAMING for name, _ in ask.headers) or b'"user_id"' in ask.body
    return session(ask) if named else ""
