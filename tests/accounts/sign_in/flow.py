"""A sign-in that is under way: the person, the page that was shown, and the address that waits for the browser."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from accounts.model import BrowserSignIn
from accounts.sign_in.browser import SignedIn, sign_in
from tests.accounts.sign_in.google import CLIENT, browse

NOW = 1_800_000_000.0


@dataclass
class Person:
    """Is told things, and pastes what it is given; `None` is the end of the input."""

    told: list[str] = field(default_factory=list)
    pastes: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)

    def show(self, line: str) -> None:
        self.told.append(line)

    async def pasted(self, question: str) -> str | None:
        return await self.pastes.get()


@dataclass
class Flow:
    person: Person
    task: asyncio.Task[SignedIn]
    page: str

    @property
    def asked(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page).query).items()}

    @property
    def state(self) -> str:
        return self.asked["state"]

    @property
    def port(self) -> int:
        found = urlsplit(self.asked["redirect_uri"]).port
        assert found is not None
        return found

    async def visits(self, address: str) -> tuple[int, str]:
        """What a browser sees that goes there."""
        return await asyncio.to_thread(browse, address)

    async def knocks(self, head: str, host: str = "127.0.0.1") -> str:
        """What is answered to some raw bytes."""
        reader, writer = await asyncio.open_connection(host, self.port)
        try:
            writer.write(head.encode("utf-8", "surrogateescape"))
            return (await reader.read()).decode()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def signed_in(self) -> SignedIn:
        async with asyncio.timeout(20):
            return await self.task


@contextlib.asynccontextmanager
async def begun(
    recipe: BrowserSignIn, *, browser: bool = True, client: object = CLIENT, patience: float = 60.0
) -> AsyncIterator[Flow]:
    """A sign-in whose page was shown; what is left of it at the end is called off."""
    person, loop = Person(), asyncio.get_running_loop()
    opened: asyncio.Future[str] = loop.create_future()
    opener: Callable[[str], None] | None = opened.set_result if browser else None
    task = asyncio.create_task(
        sign_in(recipe, "Google", client, person, lambda: NOW, open_page=opener, patience=patience)  # type: ignore[arg-type]
    )
    try:
        while len(person.told) < 2 and not task.done():
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
        yield Flow(person, task, person.told[1])
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of the newer kind."""
    try:
        with socket.socket(socket.AF_INET6) as made:
            made.bind(("::1", 0))
    except OSError:
        return False
    return True


LOOPBACKS = ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",)


def closed(port: int) -> bool:
    """Whether nobody listens there any more."""
    for host in LOOPBACKS:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as made:
            if made.connect_ex((host, port)) == 0:
                return False
    return True


@contextlib.contextmanager
def taken(host: str = "127.0.0.1", port: int = 0):  # type: ignore[no-untyped-def]
    """A port on which somebody else listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as made:
        made.bind((host, port))
        made.listen()
        yield made.getsockname()[1]
