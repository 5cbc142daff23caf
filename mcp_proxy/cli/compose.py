"""The root: settings become adapters, adapters a gateway, the gateway an application that serves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from accounts.exits import Exit, Trouble
from mcp_proxy.cli import claude_code
from mcp_proxy.cli.adapters import announced, configured_accounts, make_catalog, make_policy, make_prices, open_vault
from mcp_proxy.cli.callers_key import callers_key
from mcp_proxy.cli.clock import SystemClock, local_now
from mcp_proxy.cli.ledger import VaultLedger
from mcp_proxy.cli.logs import configure
from mcp_proxy.cli.reload import Reload, reconfigure
from mcp_proxy.gateway.callers import Callers
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.journal.sqlite import SqliteJournal
from mcp_proxy.server.app import build_app
from mcp_proxy.server.auth import Cors, Door, is_loopback
from mcp_proxy.server.guard import MAX_CONNECTIONS
from mcp_proxy.server.serving import GRACE_SECONDS, Server, listen, make_server
from mcp_proxy.server.stream import MAX_REQUESTS, Edge
from mcp_proxy.settings import Settings
from mcp_proxy.settings.model import Cors as CorsSettings
from mcp_proxy.state.sqlite import SqliteStore
from mcp_proxy.transport.pool import Clients

log = structlog.get_logger("mcp_proxy")

OWN_FILES = 32
"""What the program itself has open, 21 of them always, the rest while it saves and looks into its journal."""


def make_gateway(settings: Settings) -> Gateway:
    """The gateway of these settings, not yet started."""
    return Gateway(
        ledger=VaultLedger(open_vault(settings)),
        fixed=configured_accounts(settings),
        store=SqliteStore(settings.paths.state_file, say=lambda text: log.warning(text), patient=True),
        catalog=make_catalog(settings),
        clients=Clients(),
        policy=make_policy(settings),
        clock=SystemClock(),
        rng=random.Random(),  # noqa: S311 - jitter, not a secret
        login=claude_code.read,
        callers=Callers(callers_key(settings.paths.state_file)),
        journal=_journal(settings) if settings.journal.enabled else None,
        retention_days=settings.journal.retention_days,
        prices=make_prices(settings),
    )


def _journal(settings: Settings) -> SqliteJournal:
    return SqliteJournal(settings.paths.state_file, say=lambda text: log.warning(text))


def make_door(settings: Settings) -> Door:
    """Who may ask."""
    cors = settings.server.cors
    return Door(
        key=settings.server.required_key().reveal().encode(),
        allowed_hosts=frozenset(host.lower() for host in settings.server.allowed_hosts),
        cors=_cors(cors) if cors else None,
        loopback=is_loopback(settings.server.host),
    )


def _cors(cors: CorsSettings) -> Cors:
    return Cors(cors.allow_origins, ", ".join(cors.allow_methods), ", ".join(cors.allow_headers), int(cors.max_age))


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections are taken, and how many requests of theirs are in work, at once."""

    connections: int = MAX_CONNECTIONS
    requests: int = MAX_REQUESTS

    @classmethod
    def within(cls, files: int) -> Room:
        """What that many open files allow: a connection is one, a request's upstream another."""
        spare = max(files - OWN_FILES, 3)
        requests = min(MAX_REQUESTS, spare // 3)
        return cls(min(MAX_CONNECTIONS, spare - requests), requests)


AMPLE = Room()


def make_application(settings: Settings, gateway: Gateway, room: Room = AMPLE) -> Edge:
    """The ASGI application in front of a gateway."""
    app = build_app(gateway, make_door(settings), float(settings.server.read_timeout), local_now)
    return Edge(app, float(settings.server.write_timeout), room.requests)


def serve(settings: Settings) -> int:
    """Serve until told to stop; the exit code."""
    configure(settings.log.level, settings.log.format)
    files = allow_many_files()
    room = AMPLE if files is None else Room.within(files)
    if room != AMPLE:
        log.warning(f"{files} open files are allowed (ulimit -n), enough for {room.requests} requests at once")
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(_serve(settings, room))


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one: there is none for Windows."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(settings: Settings, room: Room) -> int:
    host, port = settings.server.host, settings.server.port
    with listening(host, port) as bound, announced(settings.paths.accounts_file, port):
        async with started(settings, room=room) as (gateway, server):
            _spare_the_collector()
            server.greet = lambda: _greet(settings, gateway, bound.getsockname()[1])
            await server.serve(sockets=[bound])
    log.info("stopped")
    return Exit.INTERRUPTED if server.interrupted else Exit.OK


def listening(host: str, port: int) -> socket.socket:
    """A listening socket, or the trouble that a person can put right."""
    try:
        return listen(host, port)
    except OSError as exc:
        raise Trouble(f"cannot listen on {host} port {port}: {exc.strerror or exc}", Exit.USAGE) from None


@contextlib.asynccontextmanager
async def started(
    settings: Settings, grace: float = GRACE_SECONDS, room: Room = AMPLE
) -> AsyncIterator[tuple[Gateway, Server]]:
    """A gateway at work and the server in front of it, not yet serving."""
    gateway = make_gateway(settings)
    try:
        await gateway.start()
        edge = make_application(settings, gateway, room)
        server = make_server(edge, gateway.drain, float(settings.server.idle_timeout), grace, room.connections)
        reload = Reload(settings, lambda new: reconfigure(gateway, new), server.terminal.look)
        server.reload = reload.ask
        gateway.background("settings", reload.follow)
        yield gateway, server
    finally:
        await gateway.stop()


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, grace: float = GRACE_SECONDS, port: int = 0
) -> AsyncIterator[tuple[str, Gateway, Server]]:
    """The whole proxy in this event loop on loopback: its address, and what it is made of. port 0: any free one."""
    with listening("127.0.0.1", port) as bound:
        async with started(settings, grace) as (gateway, server), asyncio.TaskGroup() as tasks:
            tasks.create_task(server._serve(sockets=[bound]))  # without taking over the process's signals
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it by a flag alone
                await asyncio.sleep(0.001)
            try:
                yield f"http://127.0.0.1:{bound.getsockname()[1]}", gateway, server
            finally:
                server.stop()


def _greet(settings: Settings, gateway: Gateway, port: int) -> None:
    host = settings.server.host
    shown = f"[{host}]" if ":" in host else host
    log.info(
        "serving",
        url=f"http://{shown}:{port}",
        accounts=len(gateway.pool.seats),
        soft_limit=settings.routing.soft_limit if settings.routing.soft_limit is not None else "off",
        fallback=settings.routing.fallback,
    )
    for what in unused(settings):
        log.warning(f"{what} has no effect in this version")
    if not gateway.pool.seats:
        log.warning("no accounts yet: `proxy accounts add` stores one, and this server takes it up by itself")


def unused(settings: Settings) -> list[str]:
    """What is set, and checked, but nothing here acts on."""
    found = []
    for name, provider in settings.providers.items():
        found += [f"[providers.{name}] base_urls after the first"] if len(provider.base_urls) > 1 else []
    return found


def _spare_the_collector() -> None:
    """What stands after the start stays: not to be looked through again and again, which took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def allow_many_files() -> int | None:
    """Each stream takes two descriptors, and the usual soft limit is 1024. How many there may be; None: any number."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
