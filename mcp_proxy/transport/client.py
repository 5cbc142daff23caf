"""The HTTP client: httpx's transport interface over connections of our own, one per account, called directly.

Past `httpx.AsyncClient` there are no redirects, cookies, environment or hooks: a proxy must not have them.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import AsyncIterator
from functools import cache, lru_cache

import certifi
import httpx

from mcp_proxy.core.http import Headers, NetworkTrouble, Trouble, UpstreamRequest
from mcp_proxy.transport.connection import Incoming
from mcp_proxy.transport.http1 import Body, Http1Transport

CONNECT_SECONDS = 10.0
BROKEN = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


@cache
def tls() -> ssl.SSLContext:
    """One context for every account of the process (it costs 25 ms): certifi's roots and the system's."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


class Client:
    """Sends one account's requests. Implements `core.http.Transport`."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._transport = Http1Transport(verify)

    async def send(self, request: UpstreamRequest) -> Response:
        """Send, and wait for the head. A kept connection that turns out to be closed is replaced, once."""
        try:
            return Response(await self._transport.handle_async_request(_as_httpx(request)))
        except BROKEN as exc:
            # the cause may quote what was sent, so it is not chained
            raise network_trouble(exc) from None

    def retire(self) -> None:
        """Close what is idle now, and what is in use when it is done."""
        self._transport.retire()

    @property
    def busy(self) -> bool:
        """Whether any connection is open."""
        return self._transport.busy

    async def aclose(self) -> None:
        """Close the connections that are idle, and those in use."""
        await self._transport.aclose()


@lru_cache(maxsize=256)
def _url(address: str) -> httpx.URL:
    """Parsed once: the same few addresses are asked again and again, and parsing costs more than sending."""
    return httpx.URL(address)


def _as_httpx(request: UpstreamRequest) -> httpx.Request:
    url = _url(request.url)
    framing = [(b"host", url.netloc)]
    if request.body or request.method == "POST":
        framing.append((b"content-length", b"%d" % len(request.body)))
    return httpx.Request(
        request.method,
        url,
        headers=[
            *framing,
            *((name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers),
        ],
        stream=Body(request.body),
        extensions={"timeout": {"connect": CONNECT_SECONDS, "read": request.read_timeout}},
    )


class Response:
    """An upstream's response whose head is read. Implements `core.http.UpstreamResponse`."""

    def __init__(self, response: httpx.Response) -> None:
        stream = response.stream
        assert isinstance(stream, Incoming)  # noqa: S101 - what the transport always makes
        self._stream = stream
        self.status = response.status_code
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never an empty chunk. Raises `NetworkTrouble`."""
        try:
            async for chunk in self._stream:
                yield chunk
        except BROKEN as exc:
            raise network_trouble(exc) from None

    def expect_end(self) -> None:
        """What is still to come is of no weight: from now on a few seconds without it are a read timeout."""
        self._stream.expect_end()

    async def aclose(self) -> None:
        """Give the connection back (body read) or close it (not). Never raises, may be called twice."""
        await self._stream.aclose()


def network_trouble(exc: BaseException) -> NetworkTrouble:
    """What went wrong on the way, from httpx's exception and, where there was no connection, the system's behind it."""
    if isinstance(exc.__cause__, OSError) and exc.__cause__.errno in (errno.EMFILE, errno.ENFILE):
        return NetworkTrouble(Trouble.NO_FILES, sent=False)  # ours, not the upstream's
    # behind any other error it is trouble with a connection that there was, and that had carried the request
    for cause in (exc.__cause__, exc) if isinstance(exc, httpx.ConnectError) else (exc,):
        for kind, trouble, sent in _TROUBLES:
            if isinstance(cause, kind):
                return NetworkTrouble(trouble, sent=sent)
    return NetworkTrouble(Trouble.BAD_ANSWER, sent=True)


_TROUBLES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Trouble, bool], ...] = (
    (socket.gaierror, Trouble.DNS, False),
    (ssl.SSLError, Trouble.TLS, False),
    (httpx.ConnectTimeout, Trouble.CONNECT_TIMEOUT, False),
    (httpx.ConnectError, Trouble.REFUSED, False),
    (httpx.ReadTimeout, Trouble.READ_TIMEOUT, True),
    ((httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError), Trouble.BAD_ANSWER, False),
    (httpx.RemoteProtocolError, Trouble.BAD_ANSWER, True),
    (httpx.NetworkError, Trouble.CUT, True),
)
"""Most particular first: httpx's errors inherit from each other."""
