"""How an answer ended: Gemini's reasons as Anthropic's, and what is no answer at all."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from mcp_proxy.core.events import AnswerUsage, OutputDetails, StopReason
from mcp_proxy.core.failure import Blame, Failure, error_type

_REFUSED = frozenset({
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR",
})  # fmt: skip


def stop_reason(finish: str, called: bool) -> StopReason | None:
    """Anthropic's reason for a `finishReason`; None where it means that there is no answer.

    called  the answer holds a whole tool call: then running it is of more use than knowing that more was to come
    """
    if finish in _REFUSED:
        return "refusal"
    match finish:
        case "STOP" | "TOOL_USE":
            return "tool_use" if called else "end_turn"
        case "MAX_TOKENS":
            return "tool_use" if called else "max_tokens"
        case _:
            return None


def usage_of(told: Any) -> AnswerUsage:
    """Anthropic's counts from `usageMetadata`, as far as it goes."""
    counts = told if isinstance(told, dict) else {}
    prompt, cached = _count(counts, "promptTokenCount") or 0, _count(counts, "cachedContentTokenCount") or 0
    candidates, total = _count(counts, "candidatesTokenCount"), _count(counts, "totalTokenCount")
    thought = _count(counts, "thoughtsTokenCount")
    output = (candidates or 0) + (thought or 0)
    if candidates is None and total is not None:
        output = max(0, total - prompt)
    return AnswerUsage(
        input_tokens=max(0, prompt - cached),
        cache_read_input_tokens=cached,
        output_tokens=output,
        output_tokens_details=UNSET if thought is None else OutputDetails(thought),
    )


def _count(counts: dict[str, Any], name: str) -> int | None:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def broken(message: str) -> Failure:
    """The upstream's fault, and another try may do better."""
    return Failure(Blame.PROVIDER, 502, error_type(502), message)


def cut_short() -> Failure:
    """The stream ended before the answer did."""
    return Failure(Blame.NETWORK, 502, error_type(502), "the upstream's answer was cut short")


def unreadable() -> Failure:
    """What came is not what this wire says."""
    return Failure(Blame.NETWORK, 502, error_type(502), "the upstream's answer could not be read")


def outdated(notice: str) -> Failure:
    """Status 200, and in place of an answer a note that our client version is refused: for all accounts alike."""
    return Failure(
        Blame.CONFIG,
        502,
        error_type(502),
        f"the upstream refuses this client version; raise it in the settings: {notice}",
    )


def response_in(value: Any, document: bytes) -> dict[str, Any] | Failure:
    """The response object in one piece of an answer, or what stands there in its place.

    document  the bytes that `value` was read from
    """
    response = value.get("response", value) if isinstance(value, dict) else None
    if not isinstance(response, dict):
        return unreadable()
    found = next((outer for outer in (value, response) if "error" in outer), None)
    return response if found is None else refused(found["error"], document)


def refused(error: Any, document: bytes) -> Failure:
    """An error document from within a stream; its provider knows more of it (`body`)."""
    told = error if isinstance(error, dict) else {}
    code, message = told.get("code"), told.get("message")
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    blame = Blame.REQUEST if status == 400 else Blame.PROVIDER
    text = message if isinstance(message, str) and message else "the upstream gave an error in place of an answer"
    status = 529 if status == 503 else status
    return Failure(blame, status, error_type(status), text, body=document)
