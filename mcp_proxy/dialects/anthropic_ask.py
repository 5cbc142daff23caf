"""A client's Messages request: read once, sent on as it came but for the model's name.

Wire: docs.anthropic.com/en/api/messages, and the wording of its errors as observed.
"""

from __future__ import annotations

import msgspec

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import Headers
from mcp_proxy.core.messages import Ask, Endpoint, Span
from mcp_proxy.dialects.json_text import BadJson, members, quoted, replace

_BOOLEANS = {b"true": True, b"false": False}


LONGEST_MODEL = 256
"""Characters of a model's name; it is remembered, logged and told back."""


def read_ask(endpoint: Endpoint, body: bytes, headers: Headers, beta: bool = False) -> Ask | Failure:
    """The request, or why it is none (blame REQUEST, 400). Never raises.

    headers  names in lower case, without what names or authenticates the client to us
    beta     whether the query held `beta=true`
    """
    try:
        parts = members(body)
    except BadJson as error:
        return bad_request(str(error))
    models = [part.value for part in parts if part.key == "model"]
    streams = [part.value for part in parts if part.key == "stream"]
    if len(models) > 1 or len(streams) > 1:
        return bad_request(f"{'model' if len(models) > 1 else 'stream'}: Field given twice")
    if not models:
        return bad_request("model: Field required")
    model = _text(body[slice(*models[0])])
    if model is None:
        return bad_request("model: Input should be a valid string")
    if not model:
        return bad_request("model: String should have at least 1 character")
    if len(model) > LONGEST_MODEL:
        return bad_request(f"model: String should have at most {LONGEST_MODEL} characters")
    if not model.isprintable():
        return bad_request("model: String should have printable characters only")
    stream = _BOOLEANS.get(body[slice(*streams[0])]) if streams else False
    if stream is None:
        return bad_request("stream: Input should be a valid boolean")
    system = next((part.value for part in parts if part.key == "system"), None)
    return Ask(endpoint, body, model, models[0], stream, headers, beta, system, members=parts)


def bad_request(message: str) -> Failure:
    """A request nobody upstream needs to see."""
    return Failure(Blame.REQUEST, 400, "invalid_request_error", message)


def _text(value: bytes) -> str | None:
    """A JSON string's text; None for any other value, or one that no encoding can hold."""
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.DecodeError:
        return None


def splice(body: bytes, span: Span, model: str) -> bytes:
    """`body` with the string at `span` replaced by `model`; the same object where it says so already."""
    return body if _text(body[slice(*span)]) == model else replace(body, span, quoted(model))
