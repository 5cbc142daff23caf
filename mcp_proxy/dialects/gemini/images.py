"""Pictures asked for by themselves: one request, one picture.

Wire: ai.google.dev/gemini-api/docs/image-generation. More candidates than one are refused, so who wants several asks
several times.
"""

from __future__ import annotations

from typing import Any

from mcp_proxy.core.failure import Failure
from mcp_proxy.dialects.gemini.decode import GeminiDecoder, Image
from mcp_proxy.dialects.gemini.encode import Encoded
from mcp_proxy.dialects.gemini.ending import broken
from mcp_proxy.dialects.gemini.profile import Profile
from mcp_proxy.dialects.gemini.wire import written


def image_request(
    prompt: str, profile: Profile, aspect_ratio: str | None = None, input_image: Image | None = None
) -> Encoded:
    """The `request` object for a picture.

    aspect_ratio  as in "16:9"; None: the model's own
    input_image   the picture to change; None: a new one
    """
    parts: list[dict[str, Any]] = [{"text": prompt}]
    if input_image is not None:
        parts.append({"inlineData": {"mimeType": input_image.media_type, "data": input_image.data}})
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    if aspect_ratio is not None:
        config["imageConfig"] = {"aspectRatio": aspect_ratio}
    request = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
    return Encoded(written(request), profile)


def read_images(data: bytes, encoded: Encoded) -> tuple[Image, ...] | Failure:
    """The pictures in a whole answer, streamed or not, or why there is none. Raises `FrameTooLarge`."""
    decoder = GeminiDecoder(encoded, "", lambda prefix: prefix)
    decoder.feed(data)
    decoder.end()
    if decoder.images:
        return tuple(decoder.images)
    return decoder.failure or broken("the model made no picture")
