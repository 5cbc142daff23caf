"""An error document of Google's API taken apart, and what kind of trouble it is. Nothing here raises.

Wire: cloud.google.com/apis/design/errors; reasons and wording as observed, 2026-01 to 2026-10. What is searched for
words is the error's own message only: a document may quote anything a client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mcp_proxy.core.failure import ERROR_TYPES, status_of
from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.profile import profile_of
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.providers._errors import clean
from mcp_proxy.providers.antigravity.durations import told_in


class Kind(StrEnum):
    """What kind of trouble it is, which decides what it closes and for how long."""

    RATE = "rate"
    QUOTA = "quota"
    BARE_429 = "bare 429"
    CAPACITY = "capacity"
    TOKEN = "token"  # noqa: S105 - the name of a kind
    DEAD = "dead"
    VERIFICATION = "verification"
    BANNED = "banned"
    LICENCE = "licence"
    LOCATION = "location"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not found"
    MISDIRECTED = "misdirected"
    SIGNATURE = "signature"
    TOO_LONG = "too long"
    REQUEST = "request"
    VERSION = "version"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Told:
    """What a document says.

    status   the HTTP status meant; of an error inside a 200 the one it names
    type     Anthropic's type, where Claude's own error stands within Google's; else empty
    message  for people, never empty
    reasons  what `ErrorInfo` gives as reason
    metadata what it says beside
    details  all details
    top      the document
    json     whether there was one
    url      where a person can verify the account; only an address of Google's sign-in
    """

    status: int
    type: str
    message: str
    reasons: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    details: Sequence[Mapping[str, Any]] = ()
    top: Mapping[str, Any] = field(default_factory=dict)
    json: bool = False
    url: str = ""

    @property
    def model(self) -> str:
        """The model it speaks of; empty where it does not say."""
        named = self.metadata.get("model")
        return named if isinstance(named, str) else ""


_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_TYPES = frozenset(ERROR_TYPES.values())
_DEAD = re.compile(r"invalid_grant|token has been expired or revoked|token[ _]revoked|credentials are invalid")
_SIGNATURE = re.compile(
    r"invalid `?signature`? in `?thinking`?|thinking\.signature: field required|thought signature is not valid"
    r"|expected `?thinking`? or `?redacted_thinking`?|missing a `?thought_signature`?"
)
_TOO_LONG = re.compile(r"prompt is too long|input token count.{0,80}exceed|exceeds the maximum number of tokens")
_LICENCE = re.compile(r"lack a gemini code assist license|\(#3501\)")
_LOCATION = re.compile(r"unsupported_location|not available in your location|location is not supported")
_VERIFY = re.compile(r"^verify your account|to continue, verify your account")
_SIGN_IN = re.compile(r"(?<![!-~])https://accounts\.google\.com/[!#-;=?-~]*")
_LONGEST_URL = 1800
_NOTICES = profile_of(ModelId("")).notices


def read(status: int, body: bytes) -> Told:
    """A document taken apart, whatever it is."""
    document = loads(body)
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    top = document if isinstance(document, dict) else {}
    if "error" not in top and isinstance(top.get("response"), dict):
        top = top["response"]
    error = top.get("error")
    if isinstance(error, str):  # as the token's endpoint has it (RFC 6749, 5.2)
        error = {"message": f"{error}: {_text(top.get('error_description'))}"}
    error = error if isinstance(error, dict) else {}
    kind, message = _text(error.get("type")), _text(error.get("message"))
    nested = loads(message.encode("utf-8", "surrogatepass")) if message.startswith("{") else None
    inner = nested.get("error") if isinstance(nested, dict) else None
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        kind, message = _text(inner.get("type")), inner["message"]
    meant = _status(status, error, kind)
    given = error.get("details")
    details = [detail for detail in given if isinstance(detail, dict)] if isinstance(given, list) else []
    metadata: dict[str, Any] = {}
    for detail in details:
        metadata |= told if isinstance(told := detail.get("metadata"), dict) else {}
    return Told(
        status=meant,
        type=kind if kind in _TYPES else "",
        message=clean(message) or f"HTTP {meant} from Google",
        reasons=frozenset(_text(detail.get("reason")) for detail in details) - {""},
        metadata=metadata,
        details=details,
        top=top,
        json=isinstance(document, dict),
        url=_verification(metadata, message),
    )


def _status(status: int, error: Mapping[str, Any], kind: str) -> int:
    if not 200 <= status < 300:
        return status
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    named = error.get("status")
    if isinstance(named, str) and named in _STATUSES:
        return _STATUSES[named]
    return status_of(kind) if kind in _TYPES else 502


def _verification(metadata: Mapping[str, Any], message: str) -> str:
    """A page of Google's own sign-in; any other is a trap."""
    for text in (_text(metadata.get("validation_url")), message):
        if found := _SIGN_IN.search(text):
            return found[0].rstrip(".,;)") if len(found[0]) <= _LONGEST_URL else ""
    return ""


def kind(told: Told) -> Kind:
    """What kind of trouble a document tells of."""
    message = " ".join(told.message.lower().split())
    if any(notice in told.message for notice in _NOTICES):
        return Kind.VERSION
    if told.status in (429, 503, 529) and (found := _exhausted(told, message)) is not None:
        return found
    if told.type == "overloaded_error":
        return Kind.CAPACITY
    match told.status:
        case 400:
            return _malformed(message)
        case 401:
            return Kind.DEAD if _DEAD.search(message) else Kind.TOKEN
        case 403:
            return _forbidden(told, message) if told.json else Kind.SERVER
        case 404:
            return Kind.NOT_FOUND if told.top.get("error") else Kind.MISDIRECTED
        case 408:
            return Kind.SERVER
        case status if 300 <= status < 400:
            return Kind.MISDIRECTED
        case status if 400 <= status < 500:
            return Kind.REQUEST
        case _:
            return Kind.SERVER


def _exhausted(told: Told, message: str) -> Kind | None:
    if "MODEL_CAPACITY_EXHAUSTED" in told.reasons or message.startswith("no capacity available"):
        return Kind.CAPACITY
    if told.status != 429:
        return None
    if told.reasons & {"QUOTA_EXHAUSTED", "INSUFFICIENT_G1_CREDITS_BALANCE"} or message.startswith("individual quota"):
        return Kind.QUOTA
    timed = any("retryDelay" in detail for detail in told.details) or told_in(told.message) is not None
    if timed or "RATE_LIMIT_EXCEEDED" in told.reasons or told.type == "rate_limit_error":
        return Kind.RATE
    return Kind.BARE_429


def _malformed(message: str) -> Kind:
    if _SIGNATURE.search(message):
        return Kind.SIGNATURE
    if _TOO_LONG.search(message):
        return Kind.TOO_LONG
    if _DEAD.match(message):
        return Kind.DEAD
    return Kind.LOCATION if "location is not supported" in message else Kind.REQUEST


def _forbidden(told: Told, message: str) -> Kind:
    if "VALIDATION_REQUIRED" in told.reasons or _VERIFY.search(message):
        return Kind.VERIFICATION
    if "has been disabled" in message and "violation of terms of service" in message:
        return Kind.BANNED
    if told.reasons & {"ACCOUNT_DISABLED", "USER_DISABLED"} or re.search(r"account_disabled|user_disabled", message):
        return Kind.DEAD
    if _LICENCE.search(message):
        return Kind.LICENCE
    if "UNSUPPORTED_LOCATION" in told.reasons or _LOCATION.search(message):
        return Kind.LOCATION
    return Kind.FORBIDDEN


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
