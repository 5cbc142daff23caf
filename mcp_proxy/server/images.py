"""POST /v1/images/generate: pictures, from whichever account makes some."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Any

import msgspec
from blacksheep import Content, Request, Response, Router

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import RequestId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import bad_request, read_ask
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.server.errors import JSON, encoded, failure_response, request_id
from mcp_proxy.server.messages import exit_stack, read_body, told

MOST = 4
"""Pictures a request may ask for."""

KINDS = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body, as contract §4 has it."""

    prompt: str
    model: str | None = None
    aspect_ratio: str | None = None
    count: int = 1
    input_image: str | None = None


def add_image_routes(router: Router, gateway: Gateway, read_seconds: float) -> None:
    """The one endpoint."""

    async def create_images(request: Request) -> Response:
        """POST /v1/images/generate."""
        body = await read_body(request, read_seconds)
        if isinstance(body, Response):
            return body
        wanted = read_wanted(body)
        if isinstance(wanted, Failure):
            return failure_response(request, wanted)
        ask = asked(wanted, gateway.picture_model())
        return failure_response(request, ask) if isinstance(ask, Failure) else await made(request, ask, wanted.count)

    async def made(request: Request, ask: Ask, count: int) -> Response:
        """One exchange a picture: of several in one, most upstreams make only the first."""
        exchanges = [gateway.exchange(ask, RequestId(f"{request_id(request)}-{n}")) for n in range(count)]
        for exchange in exchanges:
            exit_stack(request).push_async_callback(exchange.close)
        messages, answers = [], await asyncio.gather(*map(Exchange.open, exchanges))
        for exchange, answer in zip(exchanges, answers, strict=True):
            if not isinstance(answer, Failure):
                exchange.outcome = "ok"
                messages.append(answer.held)
        for exchange, answer in zip(exchanges, answers, strict=True):
            if isinstance(answer, Failure):
                return failure_response(request, answer, told(exchange))
        document = pictures(ask.model, request_id(request), messages)
        return Response(200, encoded(told(exchanges[0])), Content(JSON, msgspec.json.encode(document)))

    router.add_post(Endpoint.IMAGES, create_images)


def read_wanted(body: bytes) -> Wanted | Failure:
    """What is asked for, or why it is nothing (400)."""
    try:
        wanted = msgspec.json.decode(body, type=Wanted)
    except msgspec.DecodeError as error:
        return bad_request(str(error))
    if not wanted.prompt.strip():
        return bad_request("prompt: Field required")
    if not 1 <= wanted.count <= MOST:
        return bad_request(f"count: must be a number from 1 to {MOST}")
    return wanted


def asked(wanted: Wanted, usual: str | None) -> Ask | Failure:
    """The request for one picture, or why there can be none.

    usual  the model where none is named; None: nobody makes pictures
    """
    model = wanted.model or usual
    if model is None:
        return Failure(Blame.REQUEST, 404, "not_found_error", "no account makes pictures")
    body: dict[str, Any] = {"model": model, "prompt": wanted.prompt}
    if wanted.aspect_ratio is not None:
        body["aspect_ratio"] = wanted.aspect_ratio
    if wanted.input_image is not None:
        kind = media_type(wanted.input_image)
        if kind is None:
            return bad_request("input_image: must be a PNG, JPEG, GIF or WebP picture in base64")
        body["input_image"] = {"media_type": kind, "data": wanted.input_image}
    return read_ask(Endpoint.IMAGES, json.dumps(body).encode(), ())


def media_type(data: str) -> str | None:
    """What kind of picture it is; None for none, or for what is no base64."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return next((kind for mark, kind in KINDS if content.startswith(mark)), None)


def pictures(model: str, request: str, messages: list[bytes]) -> dict[str, Any]:
    """The answer: every picture of every message, in their order."""
    blocks = (block for message in messages for block in msgspec.json.decode(message)["content"])
    sources = [block["source"] for block in blocks if block.get("type") == "image"]
    return {
        "id": f"img_{request.removeprefix('req_')}",
        "type": "image_generation",
        "model": model,
        "images": [
            {"index": index, "media_type": source["media_type"], "data": source["data"]}
            for index, source in enumerate(sources)
        ],
    }
