"""How things are: liveness, readiness, health, limits, and renewing tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from blacksheep import Content, Request, Response, Router, TextContent

from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.server.errors import JSON, error_response, visit_of
from mcp_proxy.server.limits_table import render

KEYED = "proxy.keyed"


def add_ops_routes(router: Router, gateway: Gateway, local_now: Callable[[], datetime]) -> None:
    """Every endpoint that is not Anthropic's."""

    async def livez(request: Request) -> Response:
        """GET /livez: the process runs."""
        return _json(200, {"status": "ok"})

    async def readyz(request: Request) -> Response:
        """GET /readyz: able to serve."""
        return _json(200 if gateway.ready else 503, {"status": "ok" if gateway.ready else "down"})

    async def health(request: Request) -> Response:
        """GET /health: short without a key, all with one. Never an upstream call."""
        state = gateway.health()
        document: dict[str, Any] = {"status": state}
        if visit_of(request).get(KEYED):
            document |= {"soft_limit": gateway.policy.soft_limit, "draining": gateway.draining.is_set()}
            document |= gateway.limits()
        return _json(503 if state == "down" else 200, document)

    async def account_limits(request: Request) -> Response:
        """GET /account-limits?format=json|table&refresh=true."""
        query = request.query
        kind = (query.get("format") or ["json"])[0]
        if kind not in ("json", "table"):
            return error_response(request, 400, "format: must be json or table")
        if (query.get("refresh") or [""])[0].lower() in ("true", "1"):
            await gateway.refresh_quotas()
        document = gateway.limits()
        if kind == "table":
            return Response(200, None, TextContent(render(document, local_now())))
        return _json(200, document)

    async def refresh_token(request: Request) -> Response:
        """POST /refresh-token: every token that can be renewed is; keys are their own."""
        told = await gateway.refresh_tokens()
        failed = [{"account": account, "error": error} for account, error in told.items() if error is not None]
        refreshed = [account for account, error in told.items() if error is None]
        status = "failed" if failed and not refreshed else "partial" if failed else "ok"
        return _json(200, {"status": status, "refreshed": refreshed, "failed": failed})

    async def probe(request: Request) -> Response:
        """HEAD / and HEAD /api/hello: what Claude Code sends when it starts."""
        return Response(200)

    for path, handler in (("/livez", livez), ("/readyz", readyz), ("/health", health)):
        router.add_get(path, handler)
        router.add_head(path, handler)
    router.add_get("/account-limits", account_limits)
    router.add_post("/refresh-token", refresh_token)
    for path in ("/", "/api/hello"):
        router.add_head(path, probe)


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(status, None, Content(JSON, msgspec.json.encode(document)))
