"""The application: the door, the routes, and what answers when nothing else does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

import structlog
from blacksheep import Application, Request, Response, Router
from rodi import Container

from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.server.auth import Cors, Denial, Door, Visitor
from mcp_proxy.server.errors import encoded, error_response, request_id, visit_of
from mcp_proxy.server.images import add_image_routes
from mcp_proxy.server.journal import add_journal_routes
from mcp_proxy.server.knocks import Knocks
from mcp_proxy.server.messages import add_message_routes
from mcp_proxy.server.models import add_model_routes
from mcp_proxy.server.ops import KEYED, add_mending_routes, add_watching_routes

log = structlog.get_logger("mcp_proxy.server")

Handler = Callable[[Request], Awaitable[Response]]

PATHS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(/v1)?/v1/messages(/count_tokens)?"), "POST"),
    (re.compile(r"/v1/images/generate"), "POST"),
    (re.compile(r"(/v1)?/v1/models(/.+)?"), "GET"),
    (re.compile(r"/health|/livez|/readyz"), "GET, HEAD"),
    (re.compile(r"/account-limits|/metrics"), "GET"),
    (re.compile(r"/refresh-token|/reset"), "POST"),
    (re.compile(r"/usage|/why/[^/]+"), "GET"),
    (re.compile(r"/|/api/hello"), "HEAD"),
)
"""Every path we serve and its methods: a known path with another method is 405, which the router does not know."""


def build_app(gateway: Gateway, door: Door, read_seconds: float, local_now: Callable[[], datetime]) -> Application:
    """The BlackSheep application in front of a gateway."""
    router = Router()
    add_message_routes(router, gateway, read_seconds, door)
    add_image_routes(router, gateway, read_seconds)
    add_model_routes(router, gateway)
    add_watching_routes(router, gateway, local_now)
    add_mending_routes(router, gateway, read_seconds)
    add_journal_routes(router, gateway)
    router.fallback = _nothing_here
    # both given: the defaults are shared by every application of the process
    app = Application(router=router, services=Container())
    app.middlewares.append(_at_the_door(door, Knocks()))
    app.exceptions_handlers[Exception] = _unexpected
    return app


def _at_the_door(door: Door, knocks: Knocks) -> Callable[[Request, Handler], Awaitable[Response]]:
    async def admit(request: Request, handler: Handler) -> Response:
        scope = visit_of(request)
        visitor = door.admit(request.method, scope["path"], scope["headers"])
        if isinstance(visitor, Denial):
            visitor = _slowed(visitor, knocks, scope.get("client")) if visitor.guess else visitor
            response = error_response(request, visitor.status, visitor.message, visitor.headers)
        else:
            scope[KEYED] = visitor.keyed
            response = Response(204) if visitor.preflight else await handler(request)
        if visitor.origin is not None and door.cors is not None:
            for name, value in encoded(_cors_headers(door.cors, visitor)):
                response.add_header(name, value)
        return response

    return admit


def _slowed(denial: Denial, knocks: Knocks, client: tuple[str, int] | None) -> Denial:
    """A wrong key's denial; one too many of a peer has to come back later, and on a new connection."""
    peer = client[0] if client else ""
    too_many = knocks.wrong_key(peer, asyncio.get_running_loop().time())
    if too_many is None:
        return denial
    if too_many.first:
        log.warning("too many wrong keys, slowed", peer=peer, seconds=too_many.retry_after)
    more = (("retry-after", str(too_many.retry_after)), ("connection", "close"))
    return replace(denial, status=429, message="too many invalid API keys", headers=(*denial.headers, *more))


def _cors_headers(cors: Cors, visitor: Visitor | Denial) -> list[tuple[str, str]]:
    everyone = "*" in cors.origins
    headers = [("access-control-allow-origin", "*" if everyone else visitor.origin or "")]
    if not everyone:
        headers += [("vary", "origin"), ("access-control-allow-credentials", "true")]
    if isinstance(visitor, Visitor) and visitor.preflight:
        headers += [
            ("access-control-allow-methods", cors.methods),
            ("access-control-allow-headers", cors.headers),
            ("access-control-max-age", str(cors.max_age)),
        ]
    return headers


async def _nothing_here(request: Request) -> Response:
    """404, or 405 where only the method is wrong."""
    path = visit_of(request)["path"].rstrip("/").lower() or "/"
    for pattern, methods in PATHS:
        if pattern.fullmatch(path) and request.method not in methods.split(", "):
            return error_response(request, 405, f"method not allowed; use {methods}", (("allow", methods),))
    return error_response(request, 404, "no such endpoint")


async def _unexpected(app: Application, request: Request, exc: Exception) -> Response:
    """What nobody expected: its kind to the log, its text to nobody, since it may hold what was sent."""
    log.error("request failed", request_id=request_id(request), error=type(exc).__name__)
    log.debug("request failed", request_id=request_id(request), exc_info=exc)
    return error_response(request, 500, "internal error")
