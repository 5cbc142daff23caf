"""For who runs the proxy: liveness, readiness, health, limits and metrics; renewing tokens and resetting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from blacksheep import Content, Request, Response, Router, TextContent

from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.gateway.metrics import CONTENT_TYPE
from mcp_proxy.server.errors import JSON, error_response, visit_of
from mcp_proxy.server.limits_table import render
from mcp_proxy.server.messages import read_body

KEYED = "proxy.keyed"
METRICS = CONTENT_TYPE.encode()


def add_watching_routes(router: Router, gateway: Gateway, local_now: Callable[[], datetime]) -> None:
    """Those that tell how things are."""

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
            document["upstreams"] = gateway.upstreams()
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

    async def metrics(request: Request) -> Response:
        """GET /metrics: Prometheus text, from memory."""
        return Response(200, None, Content(METRICS, gateway.metrics().encode()))

    async def probe(request: Request) -> Response:
        """HEAD / and HEAD /api/hello: what Claude Code sends when it starts."""
        return Response(200)

    for path, handler in (("/livez", livez), ("/readyz", readyz), ("/health", health)):
        router.add_get(path, handler)
        router.add_head(path, handler)
    router.add_get("/account-limits", account_limits)
    router.add_get("/metrics", metrics)
    for path in ("/", "/api/hello"):
        router.add_head(path, probe)


def add_mending_routes(router: Router, gateway: Gateway, read_seconds: float) -> None:
    """Those by which an operator steps in."""

    async def refresh_token(request: Request) -> Response:
        """POST /refresh-token: every token that can be renewed is; keys are their own."""
        told = await gateway.refresh_tokens()
        failed = [{"account": account, "error": error} for account, error in told.items() if error is not None]
        refreshed = [account for account, error in told.items() if error is None]
        status = "failed" if failed and not refreshed else "partial" if failed else "ok"
        return _json(200, {"status": status, "refreshed": refreshed, "failed": failed})

    async def reset(request: Request) -> Response:
        """POST /reset {provider?, account?}: close breakers and forget limits; of all accounts where none is named."""
        asked = await read_reset(request, read_seconds)
        if isinstance(asked, Response):
            return asked
        document = await gateway.reset(asked.provider, asked.account)
        if document is None:
            return error_response(request, 404, "no such provider or account")
        if isinstance(document, list):
            return error_response(request, 400, f"account: {asked.account} fits several: {', '.join(document)}")
        return _json(200, document)

    router.add_post("/refresh-token", refresh_token)
    router.add_post("/reset", reset)


class Reset(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be reset: a provider's accounts, an account by id, label or `provider/label`; neither: everything."""

    provider: str | None = None
    account: str | None = None


async def read_reset(request: Request, seconds: float) -> Reset | Response:
    """What a request asks to be reset, or the error that it gets: a mistyped field must not reset everything."""
    body = await read_body(request, seconds)
    if isinstance(body, Response):
        return body
    try:
        return msgspec.json.decode(body or b"{}", type=Reset)
    except msgspec.MsgspecError as error:
        return error_response(request, 400, f"expected {{provider?, account?}}: {error}")


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(status, None, Content(JSON, msgspec.json.encode(document)))
