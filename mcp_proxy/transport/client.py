"""The HTTP client: httpx's transport interface over aiohttp, one per account, called directly.

Past `httpx.AsyncClient` there are no redirects, cookies, environment or hooks: a proxy must not have them. Plain
httpx loses a connection for ever in about one of a hundred cancelled requests, this one none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import lru_cache
from types import SimpleNamespace

import aiohttp
import certifi
import httpx
from httpx_aiohttp import AiohttpTransport

from mcp_proxy.core.http import Headers, NetworkTrouble, Trouble, UpstreamRequest

CONNECT_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 120.0
CLOSE_SECONDS = 3.0
MAX_HEADER_BYTES = 32 * 1024
STALE_SECONDS = 0.5
"""A kept connection that the upstream had closed says so at once; a later end may be an upstream that died at work."""

ADDED_BY_AIOHTTP = ("Content-Type", "User-Agent", "Accept", "Accept-Encoding")
BROKEN = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, TimeoutError, ValueError)

_reused: ContextVar[list[bool]] = ContextVar("_reused")


def tls() -> ssl.SSLContext:
    """One context for every account (each costs 16 ms): certifi's roots and the system's."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


class Client:
    """Sends one account's requests. Implements `core.http.Transport`."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._kept = AiohttpTransport(client=self._session, trust_env=False, verify=verify)
        self._fresh = AiohttpTransport(client=self._single_use_session, trust_env=False, verify=verify)

    def _session(self, *, single_use: bool = False) -> aiohttp.ClientSession:
        # limit=0 is no limit: the server's own cap bounds what is in flight
        connector = (
            aiohttp.TCPConnector(limit=0, ssl=self._verify, ttl_dns_cache=60, force_close=True)
            if single_use
            else aiohttp.TCPConnector(limit=0, ssl=self._verify, ttl_dns_cache=60, keepalive_timeout=KEEP_ALIVE_SECONDS)
        )
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=ADDED_BY_AIOHTTP,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            trace_configs=[trace],
            trust_env=False,
        )

    def _single_use_session(self) -> aiohttp.ClientSession:
        return self._session(single_use=True)

    async def send(self, request: UpstreamRequest) -> Response:
        """Send, and wait for the head. A kept connection that turns out to be closed is replaced, once."""
        loop = asyncio.get_running_loop()
        reused = [False]
        _reused.set(reused)
        begun = loop.time()
        try:
            return await _exchange(self._kept, request)
        except NetworkTrouble as trouble:
            if not (reused[0] and trouble.trouble is Trouble.CUT and loop.time() - begun < STALE_SECONDS):
                raise
        return await _exchange(self._fresh, request)

    async def aclose(self) -> None:
        """Close the connections that are idle, and those in use."""
        await self._kept.aclose()
        await self._fresh.aclose()


@lru_cache(maxsize=256)
def _url(address: str) -> httpx.URL:
    """Parsed once: the same few addresses are asked again and again, and parsing costs more than sending."""
    return httpx.URL(address)


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    _reused.get()[0] = True


async def _exchange(transport: AiohttpTransport, request: UpstreamRequest) -> Response:
    try:
        sent = httpx.Request(
            request.method,
            _url(request.url),
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers],
            content=request.body or None,
            extensions={"timeout": {"connect": CONNECT_SECONDS, "read": request.read_timeout}},
        )
        return Response(await transport.handle_async_request(sent))
    except BROKEN as exc:
        # the cause may quote what was sent, so it is not chained
        raise network_trouble(exc) from None


class Response:
    """An upstream's response whose head is read. Implements `core.http.UpstreamResponse`."""

    def __init__(self, response: httpx.Response) -> None:
        # only the stream: the response also holds its request, and that the whole body
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - what the transport always makes
        self._stream = stream
        self._closed = False
        self.status = response.status_code
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never an empty chunk. Raises `NetworkTrouble`."""
        try:
            async for chunk in self._stream:
                if chunk:
                    yield chunk
        except BROKEN as exc:
            if came := _unread(self._stream):
                yield came
            raise network_trouble(exc) from None

    async def aclose(self) -> None:
        """Give the connection back (body read) or close it (not). Never raises, may be called twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(*BROKEN):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._stream.aclose()


def _unread(stream: httpx.AsyncByteStream) -> bytes:
    """What had come before the connection broke, and was not read yet: aiohttp raises first and keeps it back."""
    content = getattr(getattr(stream, "_aiohttp_response", None), "content", None)
    try:
        return bytes(content._read_nowait(-1)) if content is not None else b""
    except (AttributeError, *BROKEN):
        return b""


def network_trouble(exc: BaseException) -> NetworkTrouble:
    """What went wrong on the way, from the exception of httpx or, behind it, of aiohttp."""
    cause = exc.__cause__ or exc
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return NetworkTrouble(Trouble.NO_FILES, sent=False)  # ours, not the upstream's
    for kind, trouble, sent in _TROUBLES:
        if isinstance(cause, kind):
            return NetworkTrouble(trouble, sent=sent)
    return NetworkTrouble(Trouble.BAD_ANSWER, sent=True)


_TROUBLES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Trouble, bool], ...] = (
    (aiohttp.ClientConnectorDNSError, Trouble.DNS, False),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), Trouble.TLS, False),
    (aiohttp.ConnectionTimeoutError, Trouble.CONNECT_TIMEOUT, False),
    (aiohttp.ClientConnectorError, Trouble.REFUSED, False),
    (aiohttp.SocketTimeoutError, Trouble.READ_TIMEOUT, True),
    ((TimeoutError, httpx.TimeoutException), Trouble.READ_TIMEOUT, True),
    ((aiohttp.InvalidURL, httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError), Trouble.BAD_ANSWER, False),
    (aiohttp.ClientResponseError, Trouble.BAD_ANSWER, True),
    ((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError, httpx.HTTPError), Trouble.CUT, True),
)
"""Most particular first: aiohttp's errors inherit from each other."""
