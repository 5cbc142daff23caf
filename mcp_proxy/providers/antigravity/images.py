"""Pictures asked for by themselves: one request, one picture."""

from __future__ import annotations

import msgspec

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import UpstreamRequest, UpstreamResponse
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access, Offer
from mcp_proxy.dialects.anthropic_ask import bad_request
from mcp_proxy.dialects.gemini.decode import GeminiDecoder, Image
from mcp_proxy.dialects.gemini.images import image_request
from mcp_proxy.providers.antigravity.answer import Pictures
from mcp_proxy.providers.antigravity.calling import address, headers
from mcp_proxy.providers.antigravity.envelope import envelope, ids, seed_of, uuid
from mcp_proxy.providers.antigravity.models import known_of

SILENT_SECONDS = 180.0
"""How long a picture takes at most. Nothing comes before it is whole."""


class _Source(msgspec.Struct):
    media_type: str
    data: str


class _Wish(msgspec.Struct):
    """The body of an ask for pictures (`Endpoint.IMAGES`)."""

    prompt: str
    aspect_ratio: str | None = None
    input_image: _Source | None = None


_WISH = msgspec.json.Decoder(_Wish)


def picture_request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest | Failure:
    """The request for a picture, with how its answer is read."""
    if not offer.pictures:
        return bad_request(f"model: {offer.model} makes no pictures")
    try:
        wish = _WISH.decode(ask.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as trouble:
        return bad_request(str(trouble))
    given = wish.input_image
    encoded = image_request(
        wish.prompt,
        known_of(offer).profile,
        wish.aspect_ratio,
        Image(given.media_type, given.data) if given is not None else None,
    )
    seed = seed_of(ask, access)

    def translate(response: UpstreamResponse) -> UpstreamResponse:
        new_id = ids(f"{seed}{response.headers}")
        head = {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": ask.model}
        return Pictures(response, GeminiDecoder(encoded, ask.model, new_id), head)

    named = f"image_gen/{round(ask.at * 1000):013}/{uuid(seed)}/12"
    body = envelope(access, encoded.request, offer.model, "image_gen", named)
    url = address(access, "generateContent")
    return UpstreamRequest("POST", url, headers(access, "application/json"), body, SILENT_SECONDS, translate)
