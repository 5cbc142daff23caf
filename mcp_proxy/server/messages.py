"""POST /v1/messages and its count_tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

from blacksheep import Content, Request, Response, Router, StreamedContent
from blacksheep.exceptions import MessageAborted
from msgspec.structs import replace

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Headers
from mcp_proxy.core.ids import RequestId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.gateway.answer import Answer
from mcp_proxy.gateway.apart import apart
from mcp_proxy.gateway.exchange import Exchange
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.server.auth import Door
from mcp_proxy.server.errors import JSON, encoded, error_response, failure_response, request_id, visit_of
from mcp_proxy.server.stream import EXIT_STACK

MAX_BODY_BYTES = 32 * 1024 * 1024
CLOSE = (("connection", "close"),)
OURS = frozenset(
    {"authorization", "x-api-key", "x-proxy-api-key", "proxy-authorization", "cookie", "host", "content-length"}
)
"""Headers that are for us alone: they name or authenticate the client, or frame its request."""


def add_message_routes(router: Router, gateway: Gateway, read_seconds: float, door: Door) -> None:
    """Both endpoints, also under `/v1/v1`, where a base URL that ends in /v1 leads."""

    async def create_message(request: Request) -> Response:
        """POST /v1/messages."""
        ask = await read_request(request, Endpoint.MESSAGES, read_seconds, door)
        if isinstance(ask, Response):
            return ask
        exchange = gateway.exchange(ask, RequestId(request_id(request)))
        exit_stack(request).push_async_callback(exchange.close)
        result = await exchange.open()
        if isinstance(result, Failure):
            return failure_response(request, result, told(exchange))
        return answer_response(exchange, result)

    async def count_tokens(request: Request) -> Response:
        """POST /v1/messages/count_tokens."""
        ask = await read_request(request, Endpoint.COUNT_TOKENS, read_seconds, door)
        if isinstance(ask, Response):
            return ask
        counted = await gateway.count_tokens(ask, RequestId(request_id(request)))
        if isinstance(counted, Failure):
            return failure_response(request, counted)
        return Response(200, None, Content(JSON, b'{"input_tokens":%d}' % counted))

    for prefix in ("", "/v1"):
        router.add_post(f"{prefix}{Endpoint.MESSAGES}", create_message)
        router.add_post(f"{prefix}{Endpoint.COUNT_TOKENS}", count_tokens)


def exit_stack(request: Request) -> AsyncExitStack:
    """What must end before the request does, also when the client leaves."""
    stack = visit_of(request)[EXIT_STACK]
    assert isinstance(stack, AsyncExitStack)  # noqa: S101 - put there by the visit
    return stack


async def read_request(request: Request, endpoint: Endpoint, seconds: float, door: Door) -> Ask | Response:
    """The request, parsed, and who asks; or the error that it gets: 408, 413, 400."""
    body = await read_body(request, seconds)
    if isinstance(body, Response):
        return body
    ask = await apart(read_ask, len(body), endpoint, body, client_headers(request), _beta(request))
    if isinstance(ask, Failure):
        return failure_response(request, ask)
    scope = visit_of(request)
    headers, client = scope["headers"], scope.get("client")
    return replace(ask, login=door.login(headers), local=door.is_local(headers, client[0] if client else None))


async def read_body(request: Request, seconds: float) -> bytes | Response:
    """The request's body, or the error that it gets: 408, 413."""
    declared = request.headers.get_first(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        return error_response(request, 413, "the request is larger than 32 MB", CLOSE)
    try:
        async with asyncio.timeout(seconds):
            body = await read_limited(request)
    except TimeoutError:
        return error_response(request, 408, f"the request's body did not come within {seconds:g} s", CLOSE)
    except MessageAborted:
        raise asyncio.CancelledError from None  # the client left in the middle of its request
    return error_response(request, 413, "the request is larger than 32 MB", CLOSE) if body is None else body


async def read_limited(request: Request) -> bytes | None:
    """The body; None once it is larger than we take."""
    pieces, size = [], 0
    chunks = cast("AsyncIterator[bytes]", request.stream())  # typed as if it had to be awaited
    async for chunk in chunks:
        if chunk:  # the last is empty, and most bodies come in one piece: that alone is not copied
            pieces.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
    return await apart(b"".join, size, pieces)


def client_headers(request: Request) -> Headers:
    """The client's headers, names in lower case, without ours."""
    named = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.values or ())
    return tuple((name, value) for name, value in named if name not in OURS)


def _beta(request: Request) -> bool:
    query = request.url.query
    return query is not None and b"beta=true" in query.split(b"&")


def told(exchange: Exchange) -> Headers:
    """What every answer to /v1/messages says of its way."""
    seat = exchange.account
    headers = [
        ("x-proxy-account", f"{seat.provider}/{seat.stored}" if seat else "none"),
        ("x-proxy-model", exchange.model or "none"),
        ("x-proxy-attempts", str(len(exchange.attempts))),
        ("x-proxy-reason", exchange.why.value),
    ]
    if exchange.upstream_id is not None:
        headers.append(("x-upstream-request-id", exchange.upstream_id))
    return tuple(headers)


def answer_response(exchange: Exchange, answer: Answer) -> Response:
    """The upstream's answer, streamed or whole."""
    kind = next((value for name, value in answer.headers if name == "content-type"), None)
    headers = encoded((*(pair for pair in answer.headers if pair[0] != "content-type"), *told(exchange)))
    if answer.frames is None:
        exchange.outcome = "ok"
        return Response(200, headers, Content(kind.encode("latin-1") if kind and "json" in kind else JSON, answer.held))

    async def frames() -> AsyncIterator[bytes]:
        async for whole in exchange.frames():
            if whole:  # an empty chunk would end the response
                yield whole

    as_events = kind if kind and kind.startswith("text/event-stream") else "text/event-stream; charset=utf-8"
    return Response(200, headers, StreamedContent(as_events.encode("latin-1"), frames))
