"""Faults that are refusals: statuses, bodies and headers as real hosts send them, by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from mcp_proxy.core.failure import status_of
from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.faults import Fault, Scene
from mcp_proxy.sandbox.replies import JSON, Reply, Step, document, honest
from mcp_proxy.sandbox.wrongs import anthropic_body, zai_body, zai_time

ZAI_CODES: dict[int, tuple[int, str]] = {
    500: (500, "Internal network failure, error id: 20260831"),
    1000: (401, "Authentication Failed"),
    1001: (401, "Header is not received"),
    1002: (401, "Authentication Token is invalid"),
    1003: (401, "Authentication Token has expired"),
    1110: (429, "Your account is inactive"),
    1113: (429, "Insufficient balance or no resource package. Please recharge."),
    1121: (429, "Your account has been locked for violations"),
    1210: (400, "API parameter error"),
    1211: (400, "Unknown model, please check the model code."),
    1220: (403, "You do not have permission to access this API"),
    1234: (500, "Network error, please contact customer service"),
    1261: (400, "Prompt exceeds max length"),
    1301: (400, "System detected potentially unsafe or sensitive content in input or generation."),
    1302: (429, "High concurrency usage of this API, please reduce concurrency or contact customer service"),
    1303: (429, "High frequency usage of this API, please reduce frequency"),
    1304: (429, "Daily call limit for this API reached"),
    1305: (429, "The model is currently overloaded, please try again later"),
    1308: (429, "Usage limit reached for 5 hour. Your limit will reset at {until}"),
    1309: (429, "Your GLM Coding Plan has expired"),
    1310: (429, "Weekly/Monthly Limit Exhausted. Your limit will reset at {until}"),
    1311: (429, "Your current subscription plan does not yet include access to this model"),
    1312: (429, "The model is busy, please try another model"),
    1313: (429, "Your usage pattern does not comply with the fair use policy"),
    1316: (429, "Usage limit reached for 5 hour and no extra usage balance. Your limit will reset at {until}"),
    1317: (429, "Usage limit reached for 7 day and no extra usage balance. Your limit will reset at {until}"),
}
"""Z.AI's codes: the HTTP status each comes with and its text; `{until}` is a time in UTC+8."""


def refuse(status: int, body: Any = None, headers: Headers = (), *, kind: str = JSON) -> Fault:
    """Any refusal. body: bytes and text as they are, anything else as JSON, None: nothing."""
    data = body.encode() if isinstance(body, str) else body
    if not isinstance(data, bytes):
        data = b"" if data is None else json.dumps(data).encode()
    reply = Reply(status, (("content-type", kind), *headers), (data,))
    return Fault(f"refuse {status}", lambda scene: honest(reply))


def api_error(status: int, kind: str, message: str, headers: Headers = (), **details: Any) -> Fault:
    """A refusal in Anthropic's shape, with the request's id."""

    def steps(scene: Scene) -> list[Step]:
        body = anthropic_body(kind, message, scene.trace)
        if details:
            body["error"]["details"] = details
        return list(honest(document(status, body, (("request-id", scene.trace), *headers))))

    return Fault(f"{status} {kind}", steps)


def overloaded(**how: Any) -> Fault:
    return api_error(529, "overloaded_error", "Overloaded", **how)


def internal() -> Fault:
    return api_error(500, "api_error", "Internal server error")


def timed_out() -> Fault:
    return api_error(504, "timeout_error", "The request timed out")


def rate_limited(
    retry_after: float | str | None = None,
    *,
    http_date: float | None = None,
    ms: int | None = None,
    should_retry: bool | None = None,
    message: str = "This request would exceed your account's rate limit. Please try again later.",
    headers: Headers = (),
) -> Fault:
    """A 429 whose hint is what you give it.

    retry_after  as written: whole or decimal seconds, negative ones, any text
    http_date    seconds from now, written as an HTTP date; negative: in the past
    ms           `retry-after-ms`
    Without any of them there is no hint.
    """

    def steps(scene: Scene) -> list[Step]:
        hints: list[tuple[str, str]] = [("request-id", scene.trace)]
        if retry_after is not None:
            hints.append(("retry-after", str(retry_after)))
        if http_date is not None:
            moment = datetime.fromtimestamp(scene.now + http_date, UTC)
            hints.append(("retry-after", format_datetime(moment, usegmt=True)))
        if ms is not None:
            hints.append(("retry-after-ms", str(ms)))
        if should_retry is not None:
            hints.append(("x-should-retry", str(should_retry).lower()))
        body = anthropic_body("rate_limit_error", message, scene.trace)
        return list(honest(document(429, body, (*hints, *headers))))

    return Fault("429 rate_limit_error", steps)


def throttled() -> Fault:
    """The bare 429 that says nothing but that it is one."""
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Error"}}
    return Fault("429 throttled", lambda scene: honest(document(429, body)))


def plan_limit(resets_in: float = 2094, *, claim: str = "five_hour") -> Fault:
    """A plan's window is spent: unified headers, the window of `claim` rejected and the other one open."""
    windows = {"five_hour": "5h", "seven_day": "7d"}

    def steps(scene: Scene) -> list[Step]:
        until, fields = int(scene.now + resets_in), [("retry-after", str(int(resets_in))), ("x-should-retry", "true")]
        start = "anthropic-ratelimit-unified"
        fields += [(f"{start}-status", "rejected"), (f"{start}-reset", str(until))]
        fields.append((f"{start}-representative-claim", claim))
        for name, window in windows.items():
            spent = name == claim
            fields.append((f"{start}-{window}-status", "rejected" if spent else "allowed"))
            fields.append((f"{start}-{window}-reset", str(until if spent else until + 400_000)))
            fields.append((f"{start}-{window}-utilization", "1.0" if spent else "0.42"))
        message = "This request would exceed your account's rate limit. Please try again later."
        body = anthropic_body("rate_limit_error", message, scene.trace)
        return list(honest(document(429, body, (("request-id", scene.trace), *fields))))

    return Fault(f"429 plan limit {claim}", steps)


def spend_limit(until: float = 86_400 * 3) -> Fault:
    """The organisation's spend limit: no `retry-after`, the day in the prose. until: seconds from now."""

    def steps(scene: Scene) -> list[Step]:
        day = datetime.fromtimestamp(scene.now + until, UTC).strftime("%Y-%m-%d")
        message = f"You have reached your API usage limits. You will regain access on {day} at 00:00 UTC."
        body = anthropic_body("rate_limit_error", message, scene.trace)
        body["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
        fields = (("request-id", scene.trace), ("x-should-retry", "false"))
        return list(honest(document(429, body, fields)))

    return Fault("429 spend limit", steps)


def own_spend_limit(until: float = 86_400 * 3) -> Fault:
    """The limit that the account's owner set: a 400, of all things."""

    def steps(scene: Scene) -> list[Step]:
        day = datetime.fromtimestamp(scene.now + until, UTC).strftime("%Y-%m-%d")
        message = f"You have reached your specified API usage limits. You will regain access on {day} at 00:00 UTC."
        body = anthropic_body("invalid_request_error", message, scene.trace)
        return list(honest(document(400, body, (("request-id", scene.trace),))))

    return Fault("400 own spend limit", steps)


def billing() -> Fault:
    return api_error(402, "billing_error", "Your account has a billing issue. Please check your payment details.")


def credit_low() -> Fault:
    """Billing trouble that wears the status of a bad request."""
    text = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
    return api_error(400, "invalid_request_error", text)


def disabled_organization() -> Fault:
    return api_error(400, "invalid_request_error", "This organization has been disabled.")


def unauthorized(message: str = "invalid x-api-key") -> Fault:
    return api_error(401, "authentication_error", message)


def forbidden(message: str = "Your API key does not have permission to use the specified resource.") -> Fault:
    return api_error(403, "permission_error", message)


def not_found_model(model: str) -> Fault:
    return api_error(404, "not_found_error", f"model: {model}")


def bad_request(message: str) -> Fault:
    return api_error(400, "invalid_request_error", message)


def prompt_too_long(tokens: int = 210_000, maximum: int = 200_000) -> Fault:
    return bad_request(f"prompt is too long: {tokens} tokens > {maximum} maximum")


def of_type(kind: str, message: str = "Something went wrong") -> Fault:
    """A refusal of any of Anthropic's error types, with the status that belongs to it."""
    return api_error(status_of(kind), kind, message)


def html_502() -> Fault:
    """What the edge says when the API behind it does not."""
    page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    return refuse(502, page, kind="text/html")


def html_413() -> Fault:
    page = "<html><head><title>413 Request Entity Too Large</title></head><body></body></html>"
    return refuse(413, page, kind="text/html")


def zai_error(code: int, message: str | None = None, *, status: int | None = None, resets_in: float = 3600) -> Fault:
    """One of Z.AI's numbers, with its status and text unless others are given."""
    known, text = ZAI_CODES.get(code, (400, "API call error"))

    def steps(scene: Scene) -> list[Step]:
        words = (message or text).replace("{until}", zai_time(scene.now + resets_in))
        body = zai_body(code, words, scene.trace, status or known)
        return list(honest(document(status or known, body)))

    return Fault(f"zai {code}", steps)
