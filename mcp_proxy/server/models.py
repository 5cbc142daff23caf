"""GET /v1/models, from memory: never an upstream call."""

from __future__ import annotations

from typing import Any

import msgspec
from blacksheep import Content, Request, Response, Router

from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.server.errors import JSON, error_response

DEFAULT_PAGE, LARGEST_PAGE = 20, 1000
CLAUDE_CODE = b"claude-cli"


def add_model_routes(router: Router, gateway: Gateway) -> None:
    """The list and its entries."""

    async def list_models(request: Request) -> Response:
        """GET /v1/models?limit&after_id&before_id."""
        query = request.query
        limit = _one(query, "limit") or str(DEFAULT_PAGE)
        if not limit.isdecimal() or len(limit) > 9 or not 1 <= int(limit) <= LARGEST_PAGE:
            return error_response(request, 400, f"limit: must be a number from 1 to {LARGEST_PAGE}")
        entries = gateway.models(for_claude=_is_claude_code(request))
        document = page(entries, int(limit), _one(query, "after_id"), _one(query, "before_id"))
        return Response(200, None, Content(JSON, msgspec.json.encode(document)))

    async def show_model(request: Request) -> Response:
        """GET /v1/models/{id}."""
        name = (request.route_values or {}).get("model") or ""
        entry = next((entry for entry in gateway.models(for_claude=True) if entry["id"] == name), None)
        if entry is None and gateway.serves(name):
            entry = {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
        if entry is None:
            return error_response(request, 404, f"model: {name}")
        return Response(200, None, Content(JSON, msgspec.json.encode(entry)))

    for prefix in ("/v1", "/v1/v1"):
        router.add_get(f"{prefix}/models", list_models)
        router.add_get(f"{prefix}/models/{{path:model}}", show_model)


def page(entries: list[dict[str, Any]], limit: int, after: str | None, before: str | None) -> dict[str, Any]:
    """One page in Anthropic's list shape: the entries behind `after`, or the last ones before `before`."""
    ids = [entry["id"] for entry in entries]
    if after is not None:
        start = ids.index(after) + 1 if after in ids else len(ids)
        chosen, more = entries[start : start + limit], start + limit < len(ids)
    elif before is not None:
        end = ids.index(before) if before in ids else 0
        chosen, more = entries[max(0, end - limit) : end], end - limit > 0
    else:
        chosen, more = entries[:limit], limit < len(ids)
    return {
        "data": chosen,
        "first_id": chosen[0]["id"] if chosen else None,
        "last_id": chosen[-1]["id"] if chosen else None,
        "has_more": more,
    }


def _one(query: dict[str, list[str]], name: str) -> str | None:
    values = query.get(name)
    return values[0] if values else None


def _is_claude_code(request: Request) -> bool:
    return (request.headers.get_first(b"user-agent") or b"").startswith(CLAUDE_CODE)
