"""Errors as the Anthropic API writes them."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, cast

from blacksheep import Content, Request, Response

from mcp_proxy.core.failure import Blame, Failure, error_type
from mcp_proxy.dialects.anthropic_answer import error_body
from mcp_proxy.server.stream import REQUEST_ID

JSON = b"application/json"
SHOWN_AS_WRITTEN = (Blame.REQUEST, Blame.MODEL)


def request_id(request: Request) -> str:
    """Our id of this request."""
    return str(visit_of(request)[REQUEST_ID])


def visit_of(request: Request) -> MutableMapping[str, Any]:
    """The ASGI scope, which also carries what the visit put beside the request."""
    return cast("MutableMapping[str, Any]", request.scope)


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Header fields as the server takes them; a value with a control character is left out."""
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers if value.isprintable()]


def error_response(
    request: Request, status: int, message: str, headers: Iterable[tuple[str, str]] = (), kind: str | None = None
) -> Response:
    """An error of ours."""
    body = error_body(kind or error_type(status), message, request_id(request))
    return Response(status, encoded(headers), Content(JSON, body))


def failure_response(request: Request, failure: Failure, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """A failure as the client sees it: a request fault as the upstream wrote it, anything else in our words."""
    own = [(name, value) for name, value in failure.headers if name != "content-type"]
    if failure.body is None or failure.blame not in SHOWN_AS_WRITTEN:
        return error_response(request, failure.status, failure.message, [*own, *headers], failure.type)
    kind = next((value for name, value in failure.headers if name == "content-type"), "application/json")
    return Response(failure.status, encoded([*own, *headers]), Content(kind.encode("latin-1"), failure.body))
