"""One client's visit, round the application: its leaving, its silence, its slowness, and our going down.

BlackSheep under uvicorn runs a response to its end after the client is gone, and nothing tells it. Here the
client's leaving cancels the work within one turn of the loop, wherever it stands.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeAlias

import structlog
from uvicorn.protocols.http.flow_control import FlowControl

from mcp_proxy.core.failure import error_type
from mcp_proxy.dialects.anthropic_answer import error_body, error_frame, ping_frame
from mcp_proxy.gateway.answer import CutShort

log = structlog.get_logger("mcp_proxy.server")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PING_SECONDS = 15.0
MAX_REQUESTS = 1024
"""Requests in work at once; one more is told to come back."""

CONNECTION = "proxy.connection"
EXIT_STACK = "proxy.exit_stack"
REQUEST_ID = "proxy.request_id"
NOT_TRIED = (
    (b"x-proxy-account", b"none"),
    (b"x-proxy-model", b"none"),
    (b"x-proxy-attempts", b"0"),
    (b"x-proxy-reason", b"first_choice"),
)
"""What an answer to /v1/messages says of its way where there was none."""

GOING_DOWN = "The proxy is shutting down, try again in a moment"


class Connection(Protocol):
    """The client's connection, under its requests: `guard.GuardedHttp`."""

    transport: asyncio.Transport
    flow: FlowControl
    on_left: Callable[[], None] | None

    def expect_taken(self, seconds: float) -> None:
        """Cut the client if it takes nothing for so long of answers that are over."""


class Edge:
    """The ASGI application that stands round the real one."""

    def __init__(self, app: App, write_seconds: float, max_requests: int = MAX_REQUESTS) -> None:
        self.app = app
        self.write_seconds = write_seconds
        self.max_requests = max_requests
        self.visits: set[Visit] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = Visit(self, scope, receive, send)
        try:
            if len(self.visits) >= min(self.max_requests, MAX_REQUESTS):
                await visit.refuse(529, "too many requests at once, try again", retry_after=1)
                return
            self.visits.add(visit)
            await visit.run()
        finally:
            self.visits.discard(visit)
            scope[CONNECTION].expect_taken(self.write_seconds)

    def end_all(self) -> None:
        """The grace is over: every answer still running ends now, and says so."""
        for visit in tuple(self.visits):
            visit.end()


class Visit:
    """One request of one client, from its head to the end of its answer."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge, self._scope, self._receive, self._send = edge, scope, receive, send
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Message] = deque()
        self._body_over = False
        self._gone: asyncio.Event = asyncio.Event()
        self._connection: Connection = scope[CONNECTION]
        self._task: asyncio.Task[Any] | None = None
        self._started = self._complete = self._events = self._ended = False
        self._sending = 0
        self._last_sent = 0.0
        self._pinger: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self.request_id = new_request_id()
        scope[REQUEST_ID] = self.request_id
        if not _has_body(scope["headers"]):
            self._ready.append({"type": "http.request", "body": b"", "more_body": False})

    async def run(self) -> None:
        """Run the application; its exit stack is closed before this ends, whatever happens."""
        self._task = asyncio.current_task()
        self._connection.on_left = self._left
        if self._connection.transport.is_closing():
            self._loop.call_soon(self._left)
        stack = self._scope[EXIT_STACK] = AsyncExitStack()
        try:
            async with stack:
                await self._edge.app(self._scope, self._recv, self.send)
        except asyncio.CancelledError:
            if not (self._gone.is_set() or self._ended):
                raise
            if self._task is not None:
                self._task.uncancel()
        except CutShort as cut:
            await self._cut(told=cut.told)
        except Exception as exc:
            await self._broken(exc)
        finally:
            self._rest()
        if self._ended and not self._gone.is_set():
            await self._say_goodbye()

    def end(self) -> None:
        """End this answer now, telling the client why."""
        if not self._complete and not self._ended and self._task is not None:
            self._ended = True
            self._task.cancel()

    def _rest(self) -> None:
        for work in (self._pinger, self._pinging):
            if work is not None:
                work.cancel()
        self._task = None
        if self._connection.on_left == self._left:  # else the next request of the client has begun already
            self._connection.on_left = None

    # from the client

    async def _recv(self) -> Message:
        if self._ready:
            message = self._ready.popleft()
        elif self._body_over:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        else:
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
        if not message.get("more_body"):
            self._body_over = True
            self._connection.flow.resume_reading()  # a large body paused it, and who does not read hears of no end
        return message

    def _left(self) -> None:
        """The client has left: whatever is being done for it ends here."""
        self._gone.set()
        if self._task is not None and not self._complete:
            self._task.cancel()

    # to the client

    async def send(self, message: Message) -> None:
        """Pass a message on, under our request id, within the write deadline."""
        if message["type"] == "http.response.start":
            self._start(message)
        elif not message.get("more_body"):
            self._complete = True
        self._sending += 1
        try:
            if self._connection.transport.is_closing():
                await asyncio.sleep(0)  # what comes without a pause must let the loop tell that the client has left
            if self._connection.flow.write_paused:
                async with asyncio.timeout(self._edge.write_seconds):
                    await self._send(message)
            else:
                await self._send(message)  # does not wait
        except TimeoutError:
            log.warning("client reads nothing, cut", request_id=self.request_id, seconds=self._edge.write_seconds)
            self._gone.set()
            self._close(abort=True)
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()  # it was a ping that found out
            raise asyncio.CancelledError from None
        finally:
            self._sending -= 1
            self._last_sent = self._loop.time()

    def _start(self, message: Message) -> None:
        self._started = True
        headers = message["headers"] = list(message.get("headers", ()))
        headers.append((b"request-id", self.request_id.encode()))
        if _is_of_messages(self._scope) and not any(name == b"x-proxy-account" for name, _ in headers):
            headers.extend(NOT_TRIED)
        if any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers):
            self._events = True
            headers.append((b"cache-control", b"no-cache"))
            self._pinger = self._loop.call_later(PING_SECONDS, self._ping_if_silent)

    def _ping_if_silent(self) -> None:
        silent = self._loop.time() - self._last_sent
        if silent >= PING_SECONDS and not self._sending:
            self._pinging = self._loop.create_task(self._ping())
            silent = 0.0
        self._pinger = self._loop.call_later(max(PING_SECONDS - silent, 0.01), self._ping_if_silent)

    async def _ping(self) -> None:
        if not self._complete:
            await self.send({"type": "http.response.body", "body": ping_frame(), "more_body": True})

    # ends

    async def refuse(self, status: int, why: str, retry_after: int | None = None) -> None:
        """Answer with an error of ours, nothing having been sent yet."""
        body = error_body(error_type(status), why, self.request_id)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _say_goodbye(self) -> None:
        if not self._started:
            await self.refuse(529, GOING_DOWN, retry_after=1)
        elif self._events:
            frame = error_frame(error_type(529), GOING_DOWN, self.request_id)
            await self.send({"type": "http.response.body", "body": frame, "more_body": False})
        else:
            self._close()

    async def _cut(self, *, told: bool) -> None:
        """The upstream's answer ended before its end. The client retries by itself unless it holds a whole block."""
        if not told:
            self._close()
            return
        frame = error_frame(error_type(502), "the upstream's answer was cut short", self.request_id)
        await self.send({"type": "http.response.body", "body": frame, "more_body": False})

    async def _broken(self, exc: Exception) -> None:
        log.error("request failed", request_id=self.request_id, error=type(exc).__name__)
        log.debug("request failed", request_id=self.request_id, exc_info=exc)
        if self._started:
            self._close()
        elif not self._gone.is_set():
            await self.refuse(500, "internal error")

    def _close(self, *, abort: bool = False) -> None:
        """Close the connection without a final chunk: what is incomplete must look so."""
        self._complete = True
        if abort:
            self._connection.transport.abort()
        else:
            self._connection.transport.close()


def new_request_id() -> str:
    """An id in the form of Anthropic's."""
    return f"req_{secrets.token_hex(12)}"


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def _is_of_messages(scope: Scope) -> bool:
    return str(scope["path"]).rstrip("/").lower().endswith("/v1/messages")
