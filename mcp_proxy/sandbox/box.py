"""The sandbox itself: a server on loopback for each host, what they saw, and a way to wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, overload

from mcp_proxy.sandbox.accounts import Account, Model, Window
from mcp_proxy.sandbox.google.account import GoogleAccount
from mcp_proxy.sandbox.google.service import GoogleService
from mcp_proxy.sandbox.hosts import Host
from mcp_proxy.sandbox.received import Received
from mcp_proxy.sandbox.replies import Step, honest
from mcp_proxy.sandbox.service import Service
from mcp_proxy.sandbox.strict import MAX_BODY, Rules
from mcp_proxy.sandbox.table import HOSTS, service_of
from mcp_proxy.sandbox.wire import Heard, Left, Line, Unreadable
from mcp_proxy.sandbox.wrongs import Wrong

LOOPBACK = "127.0.0.1"
POLL = 0.005
"""Seconds between two looks of `until`."""


def wall_clock() -> float:
    return time.time()  # noqa: TID251 - the sandbox is its own world and nobody's decision hangs on it


class Sandbox:
    """Simulated providers: `async with Sandbox() as box:`.

    hosts  names from the table, or rows of your own
    clock  seconds since the epoch; windows, reset times and dates follow it. Silence and pacing take real time
    ports  fixed ports by host name; others are chosen by the system
    rules  how strict to be with requests
    keep   how many of the latest requests to remember, bodies and all
    """

    def __init__(
        self,
        hosts: Iterable[str | Host] = ("anthropic", "zai"),
        *,
        clock: Callable[[], float] = wall_clock,
        ports: dict[str, int] | None = None,
        rules: Rules = Rules.ALL,
        keep: int = 10_000,
    ) -> None:
        rows = [HOSTS[host] if isinstance(host, str) else host for host in hosts]
        self._services = {row.name: service_of(row, rules) for row in rows}
        self._clock = clock
        self._ports = ports or {}
        self._keep = keep
        self._servers: list[asyncio.Server] = []
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._trouble: list[Exception] = []
        self.received: list[Received] = []

    # What is there

    def host(self, name: str) -> Service:
        """A host: to script it, to see what it received and how many connections it has."""
        return self._services[name]

    def url(self, name: str) -> str:
        """Its base URL, as a client is given it."""
        service = self._services[name]
        return f"http://{service.authority}{service.host.prefix}"

    @overload
    def account(self, host: Literal["antigravity"], **how: Any) -> GoogleAccount: ...

    @overload
    def account(
        self,
        host: str,
        *,
        key: str | None = None,
        alias: str | None = None,
        models: Iterable[str | Model] | None = None,
        windows: Iterable[Window] | None = None,
        concurrency: int | None = None,
    ) -> Account: ...

    def account(
        self,
        host: str,
        *,
        key: str | None = None,
        alias: str | None = None,
        models: Iterable[str | Model] | None = None,
        windows: Iterable[Window] | None = None,
        concurrency: int | None = None,
        **more: Any,
    ) -> Any:
        """A new account of a host; key, models and windows are the host's own kind where not given.

        more  what only this host's accounts have: fields of `GoogleAccount`
        """
        made = self._services[host].account(alias, key, models, windows, self._clock(), **more)
        made.concurrency = concurrency
        return made

    def google(self) -> GoogleService:
        """The simulated Google: who sits before its sign-in page, and what it gave out."""
        service = self._services["antigravity"]
        assert isinstance(service, GoogleService)  # noqa: S101 - the table makes no other
        return service

    def settings(self, host: str) -> dict[str, str]:
        """The environment with which the proxy asks this sandbox wherever it would ask the real host."""
        service = self._services[host]
        return service.settings() if isinstance(service, GoogleService) else {}

    @property
    def accounts(self) -> list[Account]:
        return [account for service in self._services.values() for account in service.accounts.values()]

    @property
    def complaints(self) -> list[str]:
        """What was malformed or ill-mannered in the requests so far, oldest first."""
        return [f"{each.host} {each.path}: {each.wrong}" for each in self.received if each.wrong]

    @property
    def open(self) -> int:
        """Connections now."""
        return sum(service.open for service in self._services.values())

    @property
    def total(self) -> int:
        """Connections ever."""
        return sum(service.total for service in self._services.values())

    async def until(self, holds: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until something is so. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout):
            while not holds():  # noqa: ASYNC110 - any condition at all; an event for each would be many
                await asyncio.sleep(POLL)

    # Its life

    async def __aenter__(self) -> Self:
        try:
            for service in self._services.values():
                await self._listen(service)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if self._trouble and trouble is None:
            raise self._trouble[0]

    async def _listen(self, service: Service) -> None:
        loop = asyncio.get_running_loop()

        def opened(line: Line) -> None:
            self._lines[line] = loop.create_task(self._serve(line, service))

        port = self._ports.get(service.host.name, 0)
        server = await loop.create_server(lambda: Line(opened), LOOPBACK, port, backlog=1024)
        self._servers.append(server)
        service.authority = f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        lines = dict(self._lines)
        for line, task in lines.items():
            task.cancel()
            line.reset()
        await asyncio.gather(*lines.values(), return_exceptions=True)
        await asyncio.gather(*(line.lost.wait() for line in lines))
        await asyncio.gather(*(server.wait_closed() for server in self._servers))

    # One connection

    async def _serve(self, line: Line, service: Service) -> None:
        service.open += 1
        service.total += 1
        try:
            try:
                while (heard := await line.hear(MAX_BODY)) and await self._exchange(line, heard, service):
                    pass
            except Unreadable as trouble:
                await line.play(honest(service.host.refuse(Wrong(f"not HTTP: {trouble}"), "req_sandbox")))
        except Left:
            pass
        except Exception as trouble:
            self._trouble.append(trouble)
        finally:
            try:
                await self._hang_up(line)
            finally:
                service.open -= 1
                del self._lines[line]

    async def _hang_up(self, line: Line) -> None:
        """Close, and wait until nothing is left; a client that does not read is not waited for."""
        await line.end()
        try:
            async with asyncio.timeout(1):
                await line.lost.wait()
        except TimeoutError:
            line.reset()

    async def _exchange(self, line: Line, heard: Heard, service: Service) -> bool:
        """Answer one request; whether the connection may carry another."""
        received = Received(service.host.name, heard, self._clock())
        began, sent = asyncio.get_running_loop().time(), line.sent
        steps = service.answer(received, received.at)
        account = received.account
        for seen in (self.received, service.received, *((account.received,) if account else ())):
            seen.append(received)
            del seen[: -self._keep]
        if account:
            account.in_flight += 1
        try:
            still = await line.play(self._watched(steps, received))
            received.done = True
        except Left:
            received.closed_after = asyncio.get_running_loop().time() - began
            raise
        finally:
            received.sent = line.sent - sent
            if account:
                account.in_flight -= 1
        wants = (heard.value("connection") or "").lower()
        return still and heard.whole and wants != "close"

    @staticmethod
    def _watched(steps: Iterable[Step], received: Received) -> Iterator[Step]:
        """The same steps; notes the status as it leaves."""
        for step in steps:
            if received.answered is None and isinstance(step, bytes) and step.startswith(b"HTTP/1.1 "):
                status = int(step[9:12])
                received.answered = status if status >= 200 else None
            yield step
