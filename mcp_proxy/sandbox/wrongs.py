"""What is wrong with a request, as a value, and the two dialects in which hosts say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from mcp_proxy.core.failure import error_type
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.replies import Reply, document


@dataclass(eq=False)
class Wrong(Exception):
    """A request this host does not take.

    message  in Anthropic's words where Anthropic has some
    code     Z.AI's number for it; None: its number for the status
    """

    message: str
    status: int = 400
    code: int | None = None


Refuse: TypeAlias = Callable[[Wrong, str], Reply]
"""From what is wrong and the request's trace id to the host's answer."""

EAST_8 = timezone(timedelta(hours=8))
"""The zone of every time that Z.AI writes, without saying so."""

STATUS_CODES = {400: 1210, 401: 1000, 403: 1220, 404: 1222, 405: 1212, 413: 1210, 500: 500}


def anthropic_body(kind: str, message: str, trace: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": trace}


def anthropic_refusal(wrong: Wrong, trace: str) -> Reply:
    return document(
        wrong.status, anthropic_body(error_type(wrong.status), wrong.message, trace), (("request-id", trace),)
    )


def zai_body(code: int, message: str, trace: str, status: int) -> Json:
    text = f"[{code}][{message}][{trace}]"
    return {
        "type": "error",
        "error": {"type": error_type(status), "code": str(code), "message": text},
        "request_id": trace,
    }


def zai_refusal(wrong: Wrong, trace: str) -> Reply:
    code = wrong.code or STATUS_CODES.get(wrong.status, 1210)
    return document(wrong.status, zai_body(code, wrong.message, trace, wrong.status))


def zai_time(moment: float) -> str:
    """A moment as Z.AI's prose has it: no zone, meaning UTC+8."""
    return datetime.fromtimestamp(moment, EAST_8).strftime("%Y-%m-%d %H:%M:%S")
