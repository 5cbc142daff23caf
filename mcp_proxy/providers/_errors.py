"""Reading an upstream's refusal: what its document says, and what an HTTP status alone means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mcp_proxy.core.failure import ERROR_TYPES, Blame, Failure, Refusal, error_type, status_of
from mcp_proxy.core.http import Headers
from mcp_proxy.core.provider import Offer, ReadFailure
from mcp_proxy.core.quota import BILLING, Bucket, absence, model_bucket
from mcp_proxy.core.time import Instant, after
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.native import returning_headers
from mcp_proxy.providers._times import HOUR, retry_after

LONGEST_MESSAGE = 2000
"""Characters of an upstream's message that are kept."""

_TYPES = frozenset(ERROR_TYPES.values())
_SECRETS = re.compile(
    r"\bbearer\s+[\w.~+/=-]+|\b(?:sk|tp|ak|pk|rk)-[\w*.-]{6,}|\b[0-9a-f]{32}\.[\w-]{6,}|\beyJ[\w-]{8,}\.[\w.-]+",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?:messages\.\d+\.content\.\d+: )?Invalid `?(?:signature|data)`? in `?(?:redacted_)?thinking`? block"
    r"|messages\.\d+\.content\.\d+\.thinking\.signature: Field required"
)
"""How Anthropic refuses a signature that it did not issue. Thoughts that were edited are told in other words: they are
the client's own doing."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Case:
    """A refusal taken apart, and the failures it can be.

    status   the HTTP status; after a 200, what the document's type or code stands for
    type     the error's type as written, code its vendor code as text; empty where there is none
    message  for people: no secrets, not over-long, never empty
    error    the document's `error` object; empty where there is none
    json     whether there was a JSON object at all
    native   whether it has Anthropic's shape, so that a client understands it as it is
    """

    refusal: Refusal
    offer: Offer
    now: Instant
    status: int
    type: str
    code: str
    message: str
    error: dict[str, Any]
    json: bool
    native: bool

    @property
    def retry_at(self) -> Instant | None:
        """When the headers say to come back."""
        return retry_after(self.refusal.headers, self.now)

    @property
    def headers(self) -> Headers:
        """What may go back with a document of our own."""
        return tuple(pair for pair in returning_headers(self.refusal.headers) if pair[0] != "content-type")

    def in_seconds(self, seconds: float) -> Instant:
        """When the headers say to come back, else in `seconds`."""
        return self.retry_at or after(self.now, seconds)

    def request(self, message: str | None = None) -> Failure:
        """The client's fault: back as it came, or with a `message` that the client understands better."""
        status = self.status if 400 <= self.status < 500 else 400
        kind = self.type if self.type in _TYPES else error_type(status)
        unsigned = status == 400 and _SIGNATURE.match(self.message) is not None
        if message is None and self.native:
            headers, body = returning_headers(self.refusal.headers), self.refusal.body
            return Failure(Blame.REQUEST, status, kind, self.message, body=body, headers=headers, unsigned=unsigned)
        return Failure(Blame.REQUEST, status, kind, message or self.message, headers=self.headers, unsigned=unsigned)

    def stale(self) -> Failure:
        """The token will not do: back as it came where it is the client's own, who knows how to renew it."""
        body = self.refusal.body if self.native else None
        headers = returning_headers(self.refusal.headers)
        return Failure(Blame.TOKEN, 401, "authentication_error", self.message, body=body, headers=headers)

    def refused(self) -> Failure:
        """The credential is dead."""
        return Failure(Blame.ACCOUNT, 401, "authentication_error", self.message)

    def billing(self) -> Failure:
        """The account has nothing left to pay with; nobody knows until when."""
        return Failure(Blame.ACCOUNT, 402, "billing_error", f"billing: {self.message}", BILLING, headers=self.headers)

    def limited(self, bucket: Bucket | None = None, until: Instant | None = None) -> Failure:
        """`bucket` (the model's own where none is named) is closed; None: we back off."""
        limit = model_bucket(self.offer.model) if bucket is None else bucket
        return Failure(Blame.ACCOUNT, 429, "rate_limit_error", self.message, limit, until, headers=self.headers)

    def model(self, until: Instant | None = None, status: int = 404) -> Failure:
        """This account does not have the model, until then (an hour where nobody says)."""
        limit, retry_at = absence(self.offer.model), until or after(self.now, HOUR)
        return Failure(Blame.MODEL, status, error_type(status), self.message, limit, retry_at, headers=self.headers)

    def trouble(self, status: int | None = None) -> Failure:
        """The upstream's own."""
        shown = status or self.status
        if shown not in (500, 502, 503, 504, 529):
            shown = 502
        return Failure(
            Blame.PROVIDER, shown, error_type(shown), self.message, retry_at=self.retry_at, headers=self.headers
        )

    def misdirected(self) -> Failure:
        """Nothing of the kind is served at this address."""
        message = f"no Messages API at this address (HTTP {self.refusal.status}): {self.message}"
        return Failure(Blame.CONFIG, 502, "api_error", message[:LONGEST_MESSAGE])

    def by_status(self) -> Failure:
        """What the status alone means, for vendors that keep to Anthropic's meaning."""
        match self.status:
            case 401:
                return self.refused()
            case 402:
                return self.billing()
            case 403:
                # Without a document it is a firewall's word, not the API's.
                return self.model(status=403) if self.json else self.trouble(502)
            case 404:
                return self.model() if self.error or self.native else self.misdirected()
            case 408:
                return self.trouble(504)
            case 429:
                return self.limited(until=self.retry_at)
            case status if 300 <= status < 400:
                return self.misdirected()
            case status if 400 <= status < 500:
                return self.request()
            case _:
                return self.trouble()


Special: TypeAlias = Callable[[Case], Failure | None]
"""What a vendor means by its own codes; None where the status tells."""


def reader(special: Special | None = None) -> ReadFailure:
    """A provider's `read_failure`: its own codes first, then the status. Total."""

    def read_failure(refusal: Refusal, offer: Offer, now: Instant) -> Failure:
        case = read(refusal, offer, now)
        return (special(case) if special is not None else None) or case.by_status()

    return read_failure


def read(refusal: Refusal, offer: Offer, now: Instant) -> Case:
    """The refusal taken apart. Never raises."""
    document = loads(refusal.body)
    json = isinstance(document, dict)
    top: dict[str, Any] = document if isinstance(document, dict) else {}
    error = top["error"] if isinstance(top.get("error"), dict) else {}
    base = top["base_resp"] if isinstance(top.get("base_resp"), dict) else {}
    kind = _text(error.get("type")) or _text(top.get("type") if not error else None)
    code = _first(error.get("code"), top.get("code"), base.get("status_code"))
    said = _first(error.get("message"), top.get("error"), top.get("message"), top.get("msg"), base.get("status_msg"))
    status = _status(refusal.status, kind, code)
    return Case(
        refusal=refusal,
        offer=offer,
        now=now,
        status=status,
        type=kind,
        code=code,
        message=clean(said) or f"HTTP {refusal.status} {error_type(status)}",
        error=error,
        json=json,
        native=top.get("type") == "error" and isinstance(error.get("message"), str) and bool(kind),
    )


def clean(text: str) -> str:
    """A message for people: without what looks like a key, without control characters, cut where it is long."""
    shown = _CONTROL.sub(" ", text[: LONGEST_MESSAGE * 4]).encode("utf-8", "replace").decode()
    return _SECRETS.sub("***", shown)[:LONGEST_MESSAGE].strip()


def _status(status: int, kind: str, code: str) -> int:
    """The status meant: an error inside a 200 names it by its type, or by a code that is one."""
    if not 200 <= status < 300:
        return status
    if kind in _TYPES:
        return status_of(kind)
    return int(code) if code.isascii() and code.isdigit() and len(code) == 3 and 400 <= int(code) < 600 else 502


def _first(*values: Any) -> str:
    return next((text for value in values if (text := _text(value))), "")


def _text(value: Any) -> str:
    """A string, or a whole number as one; empty for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**15 else ""
    return value if isinstance(value, str) else ""
