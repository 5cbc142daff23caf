"""uvicorn, told when to stop and how: new connections refused, the waiting answered, running streams the grace."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import uvicorn

from mcp_proxy.server.guard import MAX_CONNECTIONS, GuardedHttp
from mcp_proxy.server.stream import Edge
from mcp_proxy.server.terminal import Terminal

GRACE_SECONDS = 20.0
"""What running streams get at the end; the helm of a container waits longer (deploy/compose.yaml)."""

BACKLOG = 2048

LAST_SECONDS = 0.7
"""After a second signal: then the process ends, whatever a thread still waits for. Both stores survive a kill."""

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""What a closed terminal ends us by, as politely as the others; from anybody else it is a wish to read the settings."""

TOLD_BY = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class Server(uvicorn.Server):
    """Ends politely on the first signal, at once on the second, and leaves the exit status to its caller.

    reload    what SIGHUP asks for where no terminal was closed; None: to end, as the others do
    terminal  whether it was
    """

    def __init__(self, config: uvicorn.Config, edge: Edge, drain: Callable[[], None], grace: float) -> None:
        super().__init__(config)
        self._edge, self._drain, self._grace = edge, drain, grace
        self.greet: Callable[[], None] = lambda: None
        self.reload: Callable[[], None] | None = None
        self.terminal = Terminal()
        self._loop = asyncio.get_running_loop()
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then, with connections being accepted, `greet`."""
        await super().startup(sockets)
        if self.started:
            self.greet()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The handler of every signal that tells us something."""
        wish = self.reload if sig == HANGUP and self.reload is not None and not self.terminal.closed() else None
        if wish is not None:
            self._loop.call_soon_threadsafe(wish)
        else:
            self._loop.call_soon_threadsafe(self._told, sig)

    def _told(self, sig: int) -> None:
        if self.should_exit:
            self._loop.call_later(LAST_SECONDS, os._exit, 130 if sig == signal.SIGINT else 1)
        self.stop(sig)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Begin to drain; called again, end now."""
        if self.should_exit:
            self.interrupted = sig == signal.SIGINT
            self._edge.end_all()
            self.force_exit = True
            return
        self.should_exit = True
        self._drain()
        self._loop.call_later(self._grace, self._edge.end_all)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which after a second signal would leave the application's own end out, and its task behind."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signal is not raised again afterwards: we have ended, as we were told.

        What is left then is to save and to close, and whoever tells us once more wants no more of it. A signal
        that is ignored, as `nohup` has it, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [sig for sig in TOLD_BY if signal.getsignal(sig) != signal.SIG_IGN]
        for sig in heeded:
            signal.signal(sig, self.handle_exit)
        try:
            yield
        finally:
            for sig in heeded:
                signal.signal(sig, signal.SIG_DFL)


def make_server(
    edge: Edge,
    drain: Callable[[], None],
    idle_seconds: float,
    grace: float = GRACE_SECONDS,
    max_connections: int = MAX_CONNECTIONS,
) -> Server:
    """A server for an application; it is given its sockets when it serves."""
    config = uvicorn.Config(
        edge,
        http=partial(GuardedHttp, max_connections=max_connections),  # type: ignore[arg-type]  # it only calls it
        loop="auto",
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        date_header=True,
        access_log=False,
        log_config=None,
        timeout_keep_alive=math.ceil(idle_seconds),
        timeout_graceful_shutdown=math.ceil(grace) + 2,
        backlog=BACKLOG,
    )
    return Server(config, edge, drain, grace)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` where the port is in use or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named as TCP, or asyncio leaves Nagle's algorithm on and every answer is 40 ms late
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)  # two may bind a port, one may listen
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound
