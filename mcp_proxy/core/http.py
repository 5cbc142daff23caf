"""The port to the outside: one request, one response, and what can go wrong between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields in order; names in lower case wherever they are looked up."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is sent, complete: nothing is added but `host` and the framing.

    read_timeout  longest silence between two chunks, seconds
    translate     makes of its 2xx response one of Anthropic's, in events or whole as the client asked; None: it is
                  one. Of what is no answer it makes an `error` event, or an error document
    cleaned       what of the client's request was left out or changed because this upstream would refuse it, by name
    """

    method: str
    url: str
    headers: Headers
    body: bytes = b""
    read_timeout: float = 300.0
    translate: Callable[[UpstreamResponse], UpstreamResponse] | None = None
    cleaned: tuple[str, ...] = ()


class Trouble(StrEnum):
    """Why there is no (whole) response."""

    DNS = "name not resolved"
    REFUSED = "connection refused"
    NO_FILES = "no open file left for a connection"
    TLS = "TLS failed"
    CONNECT_TIMEOUT = "no connection in time"
    READ_TIMEOUT = "silent for too long"
    CUT = "connection cut"
    BAD_ANSWER = "not an HTTP answer we can read"
    TOO_LARGE = "answer too large"


class NetworkTrouble(Exception):
    """The response did not come, or not whole. Its text is ours and holds no header values.

    sent  False only if surely not one byte of the request reached the upstream
    """

    def __init__(self, trouble: Trouble, *, sent: bool) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble
        self.sent = sent


class UpstreamResponse(Protocol):
    """A response whose head is read. Whoever holds it closes it."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers:
        """Names in lower case, in order."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never an empty chunk. Raises `NetworkTrouble`. To be iterated once."""
        ...

    def expect_end(self) -> None:
        """What is still to come is of no weight: from now on a few seconds without it are a read timeout."""
        ...

    async def aclose(self) -> None:
        """Give the connection back (body read) or close it (not). Never raises, may be called twice."""
        ...


class Transport(Protocol):
    """Sends requests for one account: no cookies, no redirects, no environment, no retries of its own."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Raises `NetworkTrouble`."""
        ...


def header(headers: Headers, name: str) -> str | None:
    """The first value of `name` (lower case), or None."""
    return next((value for key, value in headers if key == name), None)


async def read_all(response: UpstreamResponse, limit: int) -> bytes:
    """The whole body, closing the response. Over `limit` bytes: `NetworkTrouble(TOO_LARGE)`."""
    body = bytearray()
    try:
        async for chunk in response.chunks():
            body += chunk
            if len(body) > limit:
                raise NetworkTrouble(Trouble.TOO_LARGE, sent=True)
    finally:
        await response.aclose()
    return bytes(body)
