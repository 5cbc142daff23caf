"""What goes wrong: each a coroutine that makes it, waits, and puts it right; and the plan of it that a seed makes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from mcp_proxy.sandbox import Account, Fault, faults, lies, refusals

if TYPE_CHECKING:
    from benchmarks.soak.drive import Soak

Trouble = Callable[["Soak", random.Random], Awaitable[None]]

RELOAD_SECONDS = 1.5
"""How long an edit of the store may take until the running server has taken it over."""

FAULTS: tuple[Callable[[], Fault], ...] = (
    lambda: faults.hang(1.0),
    faults.drop,
    faults.reset,
    faults.garbage,
    faults.huge_head,
    faults.many_headers,
    faults.bad_header,
    faults.half_head,
    faults.html,
    faults.empty,
    faults.not_found_200,
    lambda: faults.redirect("http://169.254.169.254/latest"),
    lambda: faults.cut(10),
    lambda: faults.cut(400, reset=True),
    lambda: faults.cut(300, mid_chunk=True),
    lambda: faults.cut_events("content_block_delta"),
    lambda: faults.cut_events("content_block_delta", reset=True),
    faults.cut_before_content,
    faults.cut_after_block,
    lambda: faults.early_end("message_start"),
    lambda: faults.early_end("content_block_delta"),
    faults.error_event,
    lambda: faults.error_event("content_block_delta"),
    lambda: faults.error_event("content_block_stop"),
    lambda: faults.stall("content_block_delta", 1.0),
    lambda: faults.stall_bytes(350, 0.5),
    lambda: faults.drip(0.001, size=7),
    faults.shredded,
    faults.goodbye,
    faults.hints,
    lies.gzipped,
    lambda: lies.gzipped(keep=0.5),
    lies.not_gzipped,
    lies.truncated_json,
    lambda: lies.wrong_length(50),
    lambda: lies.wrong_length(-50),
    lies.two_lengths,
    lies.json_for_stream,
    lies.stream_for_json,
    lies.set_cookie,
    lies.no_content_type,
    lambda: lies.gzip_bomb(20 << 20),
    refusals.overloaded,
    refusals.internal,
    refusals.html_502,
    refusals.timed_out,
)


async def upstream_faults(soak: Soak, rng: random.Random) -> None:
    """Some accounts, or all, meet faults of every kind for a while."""
    with each_well(soak.accounts):
        for _ in range(rng.randint(2, 4)):
            for account in rng.sample(soak.accounts, rng.randint(1, len(soak.accounts))):
                account.always(rng.choice(FAULTS)())
            await asyncio.sleep(soak.pace * 0.5)


async def refusals_429(soak: Soak, rng: random.Random) -> None:
    """One account after the other, then all, say that they are asked too much."""
    with each_well(soak.accounts):
        for count in (1, len(soak.accounts) - 1, len(soak.accounts)):
            for account in rng.sample(soak.accounts, count):
                account.always(refusals.rate_limited(rng.choice((1, "0.5", 4))))
            await asyncio.sleep(soak.pace * 0.4)


async def hang_ups(soak: Soak, rng: random.Random) -> None:
    """A crowd of clients that leave: before the answer, in it, at its end; politely or not."""
    with each_well(soak.accounts):
        for slow in (None, faults.hang(3.0), faults.stall("content_block_delta", 3.0)):
            for account in soak.accounts[:2]:
                if slow is not None:
                    account.always(slow)
            await asyncio.gather(
                *(
                    soak.hang_up(rng.random() * 0.2, reset=rng.random() < 0.5, stream=rng.random() < 0.7)
                    for _ in range(40)
                )
            )


async def kill(soak: Soak, rng: random.Random) -> None:
    """The proxy is ended without a word, and started again."""
    with soak.outage():
        await soak.proxy.kill()
        await asyncio.sleep(rng.random() * 0.2)
        await soak.proxy.start()
        soak.another_process()


async def standstill(soak: Soak, rng: random.Random) -> None:
    """The proxy is stopped and goes on: a laptop's lid."""
    soak.proxy.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(soak.pace * rng.uniform(0.4, 0.8))
    finally:
        soak.proxy.signal(signal.SIGCONT)


async def disabled(soak: Soak, rng: random.Random) -> None:
    """An account is switched off by the command line: nobody may use it until it is switched on again."""
    account = rng.choice(soak.accounts)
    await soak.edit("disable", soak.name_of(account))
    await asyncio.sleep(RELOAD_SECONDS)
    before = len(account.received)
    await asyncio.sleep(soak.pace * 0.5)
    used = [each for each in account.received[before:] if each.method == "POST"]
    if used:
        soak.fault(f"{soak.name_of(account)} was used {len(used)} times while it was disabled")
    await soak.edit("enable", soak.name_of(account))


async def renamed(soak: Soak, rng: random.Random) -> None:
    """An account gets another name by the command line."""
    account = rng.choice(soak.accounts)
    name = f"{account.alias}-{rng.randrange(1000)}"
    await soak.edit("rename", soak.name_of(account), name)
    soak.names[account.alias] = name


async def edit_killed(soak: Soak, rng: random.Random) -> None:
    """The command line is ended in the middle of an edit: the account has the old name or the new one."""
    account = rng.choice(soak.accounts)
    old, new = soak.name_of(account), f"{account.alias}-{rng.randrange(1000)}"
    await soak.half_an_edit(rng.uniform(0.1, 1.0), "rename", old, new)
    held = await soak.labels()
    if held is not None:
        soak.names[account.alias] = new if new in held else old


async def few_descriptors(soak: Soak, rng: random.Random) -> None:
    """Hardly a descriptor is left to the proxy for a while."""
    use = soak.proxy.use()
    if use is not None:
        with soak.outage():
            async with limited(soak.proxy.pid, "RLIMIT_NOFILE", max(16, use.descriptors - rng.randint(-4, 20))):
                await asyncio.sleep(soak.pace * 0.6)


async def full_disk(soak: Soak, rng: random.Random) -> None:
    """No file of the proxy can grow for a while: every write fails, as on a full disk."""
    async with limited(soak.proxy.pid, "RLIMIT_FSIZE", 0):
        await asyncio.sleep(soak.pace * 0.6)


TROUBLES: dict[str, Trouble] = {
    "upstream faults": upstream_faults,
    "429s": refusals_429,
    "hang-ups": hang_ups,
    "kill": kill,
    "standstill": standstill,
    "disable": disabled,
    "rename": renamed,
    "killed edit": edit_killed,
    "few descriptors": few_descriptors,
    "full disk": full_disk,
}


def plan(seed: int, names: Iterable[str] = TROUBLES) -> Iterable[tuple[str, random.Random]]:
    """Without end: which trouble is next, and the chance within it. Each comes once before any comes again.

    The same seed makes the same plan.
    """
    rng = random.Random(seed)
    names = list(names)
    while True:
        for name in rng.sample(names, len(names)):
            yield name, random.Random(rng.random())


@contextlib.contextmanager
def each_well(accounts: Iterable[Account]) -> Any:
    """Afterwards no account meets faults any more."""
    try:
        yield
    finally:
        for account in accounts:
            account.well()


@contextlib.asynccontextmanager
async def limited(pid: int, what: str, soft: int) -> AsyncIterator[None]:
    """Another process has this limit while it lasts. Where the system cannot do that, nothing happens."""
    if sys.platform != "linux":
        yield
        return
    import resource

    number = getattr(resource, what)
    before = resource.prlimit(pid, number)
    resource.prlimit(pid, number, (soft, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, number, before)
