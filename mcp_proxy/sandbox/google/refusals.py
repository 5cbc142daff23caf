"""Faults that are Google's refusals: statuses, bodies and notes as the real one sends them, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.faults import At, Fault, Scene, split, typed
from mcp_proxy.sandbox.google.host import go_duration, quota_used_up, retry_info
from mcp_proxy.sandbox.google.speech import data
from mcp_proxy.sandbox.google.wrongs import BARE, NO_CREDENTIALS, NOT_FOUND, error_info, google_body, nested
from mcp_proxy.sandbox.hosts import rfc3339
from mcp_proxy.sandbox.replies import SSE, Reply, Step, document, honest, page

VERIFY_URL = "https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=SANDBOX&flowName=GlifWebSignIn"
BANNED = (
    "This service has been disabled in this account for violation of Terms\n\t\tof Service. Please submit an appeal to "
    "continue using this product."
)


def refused(
    name: str, status: int, message: str | Callable[[Scene], str], *details: Json, headers: Headers = ()
) -> Fault:
    """Any of its error documents."""

    def steps(scene: Scene) -> list[Step]:
        text = message if isinstance(message, str) else message(scene)
        return list(honest(document(status, google_body(status, text, list(details)), headers)))

    return Fault(name, steps)


def as_list(fault: Fault) -> Fault:
    """The same refusal as the only member of a list, as the streaming endpoint has it now and then."""

    def steps(scene: Scene) -> list[Step]:
        head, body = fault.steps(scene)
        assert isinstance(head, bytes) and isinstance(body, bytes)  # noqa: S101 - a document is no more than that
        length, framed = str(len(body)).encode(), str(len(body) + 2).encode()
        return [head.replace(b"content-length: " + length, b"content-length: " + framed), b"[" + body + b"]"]

    return Fault(f"{fault.name} in a list", steps)


# The five kinds of 429


def quota_exhausted(resets_in: float = 256_527.791609974, model: str = "claude-opus-4-6-thinking") -> Fault:
    """A window is spent."""

    def steps(scene: Scene) -> list[Step]:
        message, *details = quota_used_up(resets_in, scene.now, model)
        return list(honest(document(429, google_body(429, str(message), list(details)))))

    return Fault("429 QUOTA_EXHAUSTED", steps)


def rate_limit(seconds: float = 0.479417207, model: str = "claude-sonnet-4-6") -> Fault:
    """Too fast, for a moment."""

    def steps(scene: Scene) -> list[Step]:
        info = error_info(
            "RATE_LIMIT_EXCEEDED",
            model=model,
            quotaResetDelay=go_duration(seconds),
            quotaResetTimeStamp=rfc3339(scene.now + seconds),
            uiMessage="true",
        )
        message = f"You have exhausted your capacity on this model. Your quota will reset after {int(seconds)}s."
        return list(honest(document(429, google_body(429, message, [info, retry_info(seconds)]))))

    return Fault("429 RATE_LIMIT_EXCEEDED", steps)


def bare_429() -> Fault:
    """A 429 without a word of why."""
    return refused("429 bare", 429, BARE)


def no_capacity(model: str = "claude-opus-4-6-thinking", *, status: int = 503) -> Fault:
    """The model has no room, for anybody. status: 503, 429 or 529."""
    info = error_info("MODEL_CAPACITY_EXHAUSTED", model=model)
    return refused(f"{status} capacity", status, f"No capacity available for model {model} on the server", info)


def no_credits() -> Fault:
    info = error_info("INSUFFICIENT_G1_CREDITS_BALANCE")
    return refused("429 credits", 429, "Insufficient credits to complete the request.", info)


# Who may not, and where


def verification_body(url: str | None = VERIFY_URL) -> Json:
    told = {} if url is None else {"validation_url": url, "validation_url_link_text": "Verify your account"}
    message = "Verify your account to continue."
    info = error_info("VALIDATION_REQUIRED", validation_error_message=message, **told)
    return google_body(403, message, [info])


def verification(url: str | None = VERIFY_URL) -> Fault:
    """The person has to click a link first."""
    return Fault("403 verification", lambda scene: honest(document(403, verification_body(url))))


def banned(message: str = BANNED) -> Fault:
    return refused("403 banned", 403, message)


def no_licence() -> Fault:
    message = "You lack a Gemini Code Assist license. Please contact your administrator. (#3501)"
    return refused("403 licence", 403, message)


def wrong_location() -> Fault:
    message = "Antigravity is not available in your location."
    return refused("403 location", 403, message, error_info("UNSUPPORTED_LOCATION"))


def denied(message: str = "The caller does not have permission") -> Fault:
    return refused("403 denied", 403, message)


def expired_token() -> Fault:
    return refused("401 expired", 401, NO_CREDENTIALS, error_info("ACCESS_TOKEN_EXPIRED"))


def not_found() -> Fault:
    return refused("404 model", 404, NOT_FOUND)


# What is wrong with a request, said of one that is in order


def bad_request(message: str = "Request contains an invalid argument.") -> Fault:
    return refused("400", 400, message)


def anthropic_said(message: str) -> Fault:
    """A refusal of Anthropic's within one of Google's."""
    return refused("400 nested", 400, nested(message).message)


def bad_signature() -> Fault:
    return anthropic_said("messages.1.content.0: Invalid `signature` in `thinking` block")


def bad_thought_signature() -> Fault:
    return refused("400 thought signature", 400, "Thought signature is not valid")


def prompt_too_long(tokens: int = 210_000, most: int = 200_000) -> Fault:
    return anthropic_said(f"prompt is too long: {tokens} tokens > {most} maximum")


# Its own trouble


def internal() -> Fault:
    return refused("500", 500, "Internal error encountered.")


def unavailable() -> Fault:
    return refused("503", 503, "The service is currently unavailable.")


def html_502() -> Fault:
    text = "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p>Please try again in 30 seconds."
    return Fault("502 html", lambda scene: honest(page(502, text)))


# The token endpoint


def oauth(kind: str, message: str = "", *, status: int = 400, headers: Headers = ()) -> Fault:
    """A refusal of RFC 6749."""
    body = {"error": kind, "error_description": message} if message else {"error": kind}
    return Fault(f"oauth {kind}", lambda scene: honest(document(status, body, headers)))


def invalid_grant(message: str = "Token has been expired or revoked.") -> Fault:
    return oauth("invalid_grant", message)


def invalid_client() -> Fault:
    return oauth("invalid_client", "The OAuth client was not found.", status=401)


def too_many_tokens(retry_after: int = 30) -> Fault:
    return oauth("rate_limit_exceeded", status=429, headers=(("retry-after", str(retry_after)),))


def token_trouble(status: int = 500) -> Fault:
    return oauth("internal_failure", "Backend Error", status=status)


# A success that is none


def instead(name: str, *responses: Json) -> Fault:
    """A stream of these responses in place of the answer."""
    parts = tuple(data({"response": response}) for response in responses)
    reply = Reply(200, (("content-type", SSE),), parts, 0.0, True)
    return Fault(name, lambda scene: honest(reply))


def candidate(*parts: Json, **more: Any) -> Json:
    content: Json = {"content": {"role": "model", "parts": list(parts)} if parts else {}}
    usage = {"promptTokenCount": 300, "totalTokenCount": 300}
    return {"candidates": [{**content, **more}], "usageMetadata": usage}


def upgrade_text() -> Fault:
    """The note to upgrade where an answer should be."""
    text = "This version of Antigravity is no longer supported. Please update/upgrade to receive the latest features!"
    return instead("200 upgrade", candidate({"text": text}, finishReason="STOP"))


def empty_answer() -> Fault:
    """No parts at all, and a proper end."""
    return instead("200 empty", candidate(finishReason="STOP"))


def malformed_call() -> Fault:
    told = "Malformed function call: print(default_api.get_weather(city="
    return instead("200 malformed", candidate(finishReason="MALFORMED_FUNCTION_CALL", finishMessage=told))


def blocked() -> Fault:
    """The prompt itself was not let through."""
    return instead("200 blocked", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})


def stream_error(after: At = 1, status: int = 503, message: str = "The service is currently unavailable.") -> Fault:
    """An error document after some of a stream, which then ends properly."""

    def steps(scene: Scene) -> list[Step]:
        reply = scene.reply
        before, _ = split(reply, after) if reply.chunked else ((), ())
        error = data(google_body(status, message))
        stream = replace(reply, headers=typed(reply, SSE), chunked=True, parts=(*before, error))
        return list(honest(stream))

    return Fault(f"error after {after}", steps)


def no_finish() -> Fault:
    """A stream that ends as HTTP should, but without a `finishReason`."""

    def steps(scene: Scene) -> list[Step]:
        reply = scene.reply
        return list(honest(replace(reply, parts=reply.parts[:-1])))

    return Fault("no finish", steps)
