"""Bare sockets against a real server with a small application, so that every byte and every end is seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from uvicorn.server import ServerState

from mcp_proxy.server.guard import GuardedHttp
from mcp_proxy.server.serving import listen, make_server
from mcp_proxy.server.stream import EXIT_STACK, Edge, Receive, Scope, Send
from tests.faults.line import Line, open_sockets, until

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
FRAME = b"event: content_block_delta\ndata: {}\n\n"


@dataclass
class Stage:
    """A small application: what it does is in the path. It notes how each visit ended.

    ended  the path of each visit whose exit stack was closed, with how it ended
    """

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, how = scope["path"], "cancelled"
        scope[EXIT_STACK].callback(lambda: self.ended.append((path, how)))
        self.begun.append(path)
        try:
            await getattr(self, "play" + path.replace("/", "_"))(receive, send)
            how = "done"
        except Exception as exc:
            how = type(exc).__name__
            raise

    async def play_echo(self, receive: Receive, send: Send) -> None:
        """Reads the body, answers with it."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError  # as the real application does
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    async def play_hang(self, receive: Receive, send: Send) -> None:
        """Waits for an upstream's head."""
        await receive()
        await self.go.wait()
        await self._head(send)
        await send({"type": "http.response.body", "body": b""})

    async def play_stream(self, receive: Receive, send: Send) -> None:
        """One frame, then silence until `go`, then the end."""
        await receive()
        await self._head(send)
        await send({"type": "http.response.body", "body": FRAME, "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": FRAME, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def play_text(self, receive: Receive, send: Send) -> None:
        """The same, no events."""
        await receive()
        await self._head(send, (b"content-type", b"text/plain"))
        await send({"type": "http.response.body", "body": b"once", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b""})

    async def play_flood(self, receive: Receive, send: Send) -> None:
        """Frames for ever, as fast as they are taken."""
        await receive()
        await self._head(send)
        while True:
            await send({"type": "http.response.body", "body": FRAME * 2000, "more_body": True})
            await asyncio.sleep(0)  # an upstream, too, has to be read

    async def play_burst(self, receive: Receive, send: Send) -> None:
        """More at once than the way holds, then silence."""
        await receive()
        await self._head(send)
        await send({"type": "http.response.body", "body": FRAME * 500_000, "more_body": True})
        await self.go.wait()

    async def play_lingering(self, receive: Receive, send: Send) -> None:
        """A whole stream; closing the upstream behind it takes a while."""
        await receive()
        await self._head(send)
        await send({"type": "http.response.body", "body": FRAME})
        await self.go.wait()

    async def play_broken(self, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError("secret")

    async def play_broken_late(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._head(send)
        await send({"type": "http.response.body", "body": FRAME, "more_body": True})
        raise RuntimeError("secret")

    async def _head(self, send: Send, kind: tuple[bytes, bytes] = EVENTS) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})


@dataclass
class Served:
    """A server at work."""

    port: int
    stage: Stage
    edge: Edge
    state: ServerState
    lines: list[Line] = field(default_factory=list)

    async def line(self, **how: bool) -> Line:
        line = await Line(self.port).open(**how)
        self.lines.append(line)
        return line

    async def get(self, path: str, **how: bool) -> Line:
        """A line on which this was asked."""
        line = await self.line(**how)
        await line.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return line

    async def begun(self, count: int = 1) -> None:
        await until(lambda: len(self.stage.begun) >= count)

    async def ended(self, count: int = 1) -> list[tuple[str, str]]:
        await until(lambda: len(self.stage.ended) >= count)
        return self.stage.ended

    @property
    def connections(self) -> int:
        return len(self.state.connections)


@contextlib.asynccontextmanager
async def served(*, write_seconds: float = 30.0, idle: float = 30.0) -> AsyncIterator[Served]:
    """The edge round the stage, on a free port; at its end no socket and no task may be left over.

    The protocol and its configuration are the real ones; uvicorn's own loop, which looks ten times a second whether
    to stop, is left out.
    """
    tasks, sockets = set(asyncio.all_tasks()), open_sockets()
    stage, state = Stage(), ServerState()
    edge = Edge(stage, write_seconds)
    config = make_server(edge, lambda: None, idle).config
    config.load()
    with listen("127.0.0.1", 0) as bound:
        listening = await asyncio.get_running_loop().create_server(
            lambda: GuardedHttp(config=config, server_state=state, app_state={}), sock=bound, backlog=config.backlog
        )
        made = Served(bound.getsockname()[1], stage, edge, state)
        try:
            yield made
        finally:
            for line in made.lines:
                line.close()
            stage.go.set()
            listening.close()
        await until(lambda: not edge.visits and not state.connections)
    await until(lambda: set(asyncio.all_tasks()) <= tasks)
    await until(lambda: open_sockets() <= sockets)
