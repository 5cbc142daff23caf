"""What the journal tells: why a request went where it went, and what was used."""

from __future__ import annotations

from typing import Any

import msgspec
from blacksheep import Content, Request, Response, Router

from mcp_proxy.core.journal import By
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.gateway.usage import DEFAULT_DAYS, MOST_DAYS
from mcp_proxy.server.errors import JSON, error_response

LAST = "last"


def add_journal_routes(router: Router, gateway: Gateway) -> None:
    """`/why` and `/usage`."""

    async def why(request: Request) -> Response:
        """GET /why/{request_id|last}: our id of a request, or its upstream's."""
        asked = (request.route_values or {}).get("request", "")
        try:
            found = await gateway.why(None if asked == LAST else asked)
        except OSError as error:
            return _unreadable(request, error)
        if found is None:
            none = "no request has ended yet" if asked == LAST else "no such request is remembered"
            return error_response(request, 404, none)
        return _json(found)

    async def usage(request: Request) -> Response:
        """GET /usage?days=&by=account|model|provider|day|key&provider=."""
        query = {name: values[0] for name, values in request.query.items() if values}
        by, days, provider = query.get("by", By.MODEL), query.get("days", str(DEFAULT_DAYS)), query.get("provider")
        if by not in set(By):
            return error_response(request, 400, f"by: must be one of {', '.join(By)}")
        if not (days.isascii() and days.isdigit() and len(days) <= 4 and 1 <= int(days) <= MOST_DAYS):
            return error_response(request, 400, f"days: must be a whole number from 1 to {MOST_DAYS}")
        try:
            return _json(await gateway.usage(int(days), By(by), provider or None))
        except OSError as error:
            return _unreadable(request, error)

    router.add_get("/why/{request}", why)
    router.add_get("/usage", usage)


def _unreadable(request: Request, error: OSError) -> Response:
    return error_response(request, 503, f"the journal cannot be read now: {error}")


def _json(document: dict[str, Any]) -> Response:
    return Response(200, None, Content(JSON, msgspec.json.encode(document)))
