"""How Google says no: its API's error document, OAuth's, and a page where a person looks on."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.replies import Reply, document, page
from mcp_proxy.sandbox.wrongs import Wrong, anthropic_body

DOMAIN = "cloudcode-pa.googleapis.com"
STATES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
NOT_FOUND = "Requested entity was not found."
NO_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
BARE = "Resource has been exhausted (e.g. check quota)."


@dataclass(eq=False)
class Denied(Wrong):
    """A request that Google's API does not take.

    details  members of the error document's `details`
    blame    what is written down of it, where the answer itself says nothing; empty: the message
    """

    details: list[Json] = field(default_factory=list)
    blame: str = ""


@dataclass(eq=False)
class OAuthDenied(Wrong):
    """A request that the token endpoint does not take.

    kind  `error` of RFC 6749, 5.2
    dead  what it is about is no longer good, which the program could not know
    """

    kind: str = "invalid_request"
    dead: bool = False


@dataclass(eq=False)
class Misled(Wrong):
    """A sign-in page that Google does not show; whoever sits before it reads why."""

    kind: str = "invalid_request"


def google_body(status: int, message: str, details: list[Json] | None = None, state: str | None = None) -> Json:
    error: Json = {"code": status, "message": message, "status": state or STATES.get(status, "UNKNOWN")}
    return {"error": {**error, "details": details} if details else error}


def error_info(reason: str, **metadata: str) -> Json:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": DOMAIN,
        "metadata": metadata,
    }


def google_error(status: int, message: str, *details: Json, headers: Headers = ()) -> Reply:
    return document(status, google_body(status, message, list(details)), headers)


def oauth_error(status: int, kind: str, message: str = "") -> Reply:
    told = {"error": kind, "error_description": message} if message else {"error": kind}
    return document(status, told, (("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),))


def google_refusal(wrong: Wrong, trace: str) -> Reply:
    """What is wrong, in the shape that belongs to the place where it was."""
    if isinstance(wrong, OAuthDenied):
        return oauth_error(wrong.status, wrong.kind, wrong.message)
    if isinstance(wrong, Misled):
        told = f"<h1>Access blocked</h1><p>Error {wrong.status}: {wrong.kind}</p><p>{html.escape(wrong.message)}</p>"
        return page(wrong.status, f"<!doctype html><title>Error</title>{told}")
    details = wrong.details if isinstance(wrong, Denied) else []
    return document(
        wrong.status, google_body(wrong.status, wrong.message, details), (("x-cloudaicompanion-trace-id", trace),)
    )


def violation(where: str, message: str) -> Denied:
    """A 400 that names the field."""
    fields = [{"field": where, "description": message}]
    return Denied(message, details=[{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields}])


def unknown_name(name: str, where: str) -> Denied:
    at = f" at '{where}'" if where else ""
    return violation(where, f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')


def nested(message: str, kind: str = "invalid_request_error") -> Denied:
    """What Anthropic said, which Google hands on as the text of its own error."""
    return Denied(json.dumps(anthropic_body(kind, message, "req_vrtx_011sandbox")))


def clueless(why: str) -> Denied:
    """A 400 that does not say what is wrong. why: for who reads the sandbox's complaints."""
    return Denied("Request contains an invalid argument.", blame=why)


def told_of(wrong: Any) -> str | None:
    """What is wrong, for the list of complaints; None where nobody is to blame."""
    if isinstance(wrong, OAuthDenied) and wrong.dead:
        return None
    return (wrong.blame if isinstance(wrong, Denied) else "") or str(wrong.message)
