"""What an upstream refusal becomes: read once by the provider, acted on by `blame` alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile

from mcp_proxy.core.http import Headers
from mcp_proxy.core.quota import Bucket
from mcp_proxy.core.time import Instant


class Blame(StrEnum):
    """Whose fault it is, which decides what happens next.

    REQUEST   the client's: goes back as the upstream wrote it, nobody else is tried
    TOKEN     the token's: a fresh one is minted, once; one that cannot be renewed counts as ACCOUNT
    ACCOUNT   this account's: with a `limit` it is closed until `retry_at`; without, its credential is refused
    MODEL     this model's, on this account
    PROVIDER  the upstream's own trouble (5xx, overload): the next seat is tried, the account is not blamed
    NETWORK   the way there: could not connect, cut, timed out, or what came back was no answer
    CONFIG    ours or the operator's: a wrong address, a wrong setting
    """

    REQUEST = "request"
    TOKEN = "token"  # noqa: S105 - the name of a blame, not a secret
    ACCOUNT = "account"
    MODEL = "model"
    PROVIDER = "provider"
    NETWORK = "network"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that gave no answer.

    status    the HTTP status the client would see if nobody else can serve (Anthropic's meaning)
    type      Anthropic's error type for it
    message   for people; never holds a secret
    limit     the bucket that is closed; None where this is no limit
    retry_at  when the upstream says to come back; None where it does not say (then we back off)
    body      the upstream's own error body, as it came; None where there was none
    headers   the upstream's response headers that may go back with it
    reached   False only if surely not one byte of the request reached the upstream
    unsigned  whether the same request would do without what the model signed earlier (`Ask.unsigned`)
    """

    blame: Blame
    status: int
    type: str
    message: str
    limit: Bucket | None = None
    retry_at: Instant | None = None
    body: bytes | None = None
    headers: Headers = ()
    reached: bool = True
    unsigned: bool = False


def scrubbed(failure: Failure, *secrets: str) -> Failure:
    """The failure without secrets that its upstream may have quoted back."""
    message, body = failure.message, failure.body
    for secret in secrets:
        message = hidden(message, secret)
        body = hidden_bytes(body, secret) if body is not None else None
    if (message, body) == (failure.message, failure.body):
        return failure
    return replace(failure, message=message, body=body)


TELLING = 16
"""So many characters of a secret are hidden too, with all that follows of it: what quotes it may have been cut."""


def hidden(text: str, secret: str) -> str:
    """The text without the secret, whole or cut short."""
    start = secret[:TELLING]
    if not start or start not in text:
        return text
    first, *rest = text.split(start)
    kept = [first]
    for piece in rest:
        pairs = zip(piece, secret[TELLING:], strict=False)
        quoted = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        kept.append(piece[quoted:])
    return "...".join(kept)


def hidden_bytes(data: bytes, secret: str) -> bytes:
    """The same of bytes."""
    return hidden(data.decode("latin-1"), secret.encode().decode("latin-1")).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upstream response that is no answer, as it came: what `read_failure` reads.

    status   the HTTP status; for an SSE `error` event after a 200, still 200
    headers  names in lower case
    body     the error document, at most 64 KiB of it; for an SSE `error` event, its data
    """

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


ERROR_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    414: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Status to Anthropic error type (docs: "Errors"); of several statuses the first is a type's own."""


def error_type(status: int) -> str:
    """Anthropic's error type for a status; an unknown 4xx is the request's, an unknown 5xx the API's."""
    return ERROR_TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def status_of(kind: str) -> int:
    """The status an Anthropic error type stands for; 500 for one we do not know."""
    return next((status for status, name in ERROR_TYPES.items() if name == kind), 500)
