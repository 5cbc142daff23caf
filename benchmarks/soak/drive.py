"""All of it together: the sandbox and the clients in this process, the proxy in its own, and the trouble between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accounts.model import Account as Stored
from accounts.model import AccountId, ApiKey, Secret
from benchmarks.soak import client
from benchmarks.soak.history import End, Record, Reply, Spell, echo, faults, judged
from benchmarks.soak.proxy import Proxy, Use
from benchmarks.soak.trouble import TROUBLES, plan
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.sandbox import Account, Answer, Sandbox, say
from mcp_proxy.sandbox.voice import last_user_text
from mcp_proxy.settings import load

MODEL = "claude-sonnet-5"
PATIENCE = 20.0
"""Seconds a client says it waits for its answer's first content."""

LONGEST = 40.0
"""Seconds that any request may take, whatever happens."""

SETTLE = 5.0
WARM_SECONDS = 2.0
GROWTH = 64 << 20
"""Bytes that a process may be larger at the end than when it was warm."""

CONFIG = "[routing]\nmax_wait = 2\n"


@dataclass
class Sample:
    """How things were at a moment. at: seconds from the beginning; ends: of requests, since the last sample."""

    at: float
    requests: int
    ends: dict[str, int]
    use: Use | None
    upstream: int
    troubles: list[str]


@dataclass
class Soak:
    """One run.

    pace      seconds from one trouble to the next; troubles last about so long
    least     how many troubles there are at least, however long that takes
    pause     seconds that a client thinks between two requests, in the mean
    warm      what the proxy's process held two seconds after it had begun; None: it has just begun
    """

    folder: Path
    seed: int
    clients: int = 50
    pace: float = 5.0
    least: int = 0
    pause: float = 0.2
    troubles: tuple[str, ...] = tuple(TROUBLES)
    records: list[Record] = field(default_factory=list)
    outages: list[Spell] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    warm: Use | None = None
    exit_code: int | None = None
    _warm_at: float = 0.0
    _number: int = 0
    _sampled: int = 0
    _told: int = 0

    def __post_init__(self) -> None:
        self.key = f"sk-fake-{secrets.token_hex(8)}"
        self.proxy = Proxy(self.folder, self.key)
        self.accounts: list[Account] = []
        self._rng = random.Random(self.seed)
        self._begun = time.monotonic()

    # The parts

    async def run(self, seconds: float, every: float = 10.0, tell: Callable[[Sample], None] = lambda _: None) -> None:
        """All of it for so long. `tell` is given a sample every so often."""
        async with self._world() as box:
            await self.proxy.start()
            self.another_process()
            self._begun = time.monotonic()
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            crowd = [loop.create_task(self._client(number, stop)) for number in range(self.clients)]
            watch = loop.create_task(self._watch(box, every, tell))
            nemesis = loop.create_task(self._nemesis(seconds))
            try:
                await asyncio.wait({nemesis, *crowd}, return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                await nemesis
                await asyncio.gather(*crowd)
                await self._calm(box)
            finally:
                for task in (nemesis, watch, *crowd):
                    task.cancel()
                await asyncio.gather(nemesis, watch, *crowd, return_exceptions=True)
                if self.proxy.alive:
                    self.exit_code = await self.proxy.stop()
            tell(self._sample(box))
            await self._check_store()
        self.found += faults(self.records, self.outages, LONGEST)
        self.found += [f"in the log: {line}" for line in self.proxy.said if _is_defect(line)]
        self.found += [] if self.exit_code == 0 else [f"ended with {self.exit_code}"]

    @contextlib.asynccontextmanager
    async def _world(self) -> AsyncIterator[Sandbox]:
        async with Sandbox(["anthropic"], keep=500) as box:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.folder / "config.toml").write_text(CONFIG)
            vault = open_vault(load({}, {"MCP_PROXY_HOME": str(self.folder)}))
            for number, alias in enumerate("abcd"):
                account = box.account("anthropic", alias=alias, key=f"sk-fake-{secrets.token_hex(8)}", windows=())
                account.speak(_answer)
                stored = Stored(
                    AccountId(f"{number:06x}"), "anthropic", alias, base_url=box.url("anthropic"), models=(MODEL,)
                )
                vault.add(stored, ApiKey(Secret(account.key)))
                self.accounts.append(account)
                self.names[alias] = alias
            yield box

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        rng = random.Random(f"{self.seed} {number}")
        while not stop.is_set():
            record = await self.request(f"client-{number}", stream=rng.random() < 0.6)
            thinks = rng.uniform(0, 2 * self.pause) + (0.3 if record.end is End.DROPPED else 0.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(thinks):
                    await stop.wait()

    async def request(self, session: str, *, stream: bool) -> Record:
        """One request of one client, noted."""
        canary, data = self._prompt(session, stream=stream)
        began = time.monotonic()
        try:
            reply: Reply | None = await client.ask(self.proxy.port, data, LONGEST)
        except TimeoutError:
            reply = None
        end, why = (End.WRONG, "no end") if reply is None else judged(reply, canary, stream=stream)
        record = Record(canary, stream, began, time.monotonic(), end, reply.status if reply else 0, why)
        self.records.append(record)
        return record

    async def hang_up(self, after: float, *, reset: bool, stream: bool) -> None:
        """One client that does not stay."""
        _, data = self._prompt("who-leaves", stream=stream)
        await client.hang_up(self.proxy.port, data, after, reset=reset)

    def _prompt(self, session: str, *, stream: bool) -> tuple[str, bytes]:
        self._number += 1
        canary = f"canary-{self._number}-{self._rng.getrandbits(32):08x}"
        message = {"role": "user", "content": f"prompt number {self._number}: {canary}"}
        body = {"model": MODEL, "max_tokens": 1000, "stream": stream, "messages": [message]}
        return canary, client.request(self.key, session, body, PATIENCE)

    # The trouble

    async def _nemesis(self, seconds: float) -> None:
        deadline = self._begun + seconds
        for name, rng in plan(self.seed, self.troubles):
            begun = time.monotonic()
            self.done.append(name)
            await TROUBLES[name](self, rng)
            enough = len(self.done) >= self.least
            left = min(begun + self.pace, deadline if enough else begun + self.pace) - time.monotonic()
            await asyncio.sleep(max(left, 0.0))
            if enough and time.monotonic() + 0.05 >= deadline:
                return

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """While this lasts, and a moment longer, a connection may end without an answer."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.outages.append((begun, time.monotonic() + 0.5))

    def another_process(self) -> None:
        """The proxy is one that has just begun to serve."""
        self.warm, self._warm_at = None, time.monotonic() + WARM_SECONDS

    async def edit(self, *words: str) -> None:
        """A command that changes the store; it has to work."""
        code, _, err = await self.proxy.command("accounts", *words)
        if code != 0:
            self.fault(f"accounts {' '.join(words)}: exit {code}: {err.strip()}")

    async def half_an_edit(self, after: float, *words: str) -> None:
        """A command that changes the store, killed after so many seconds."""
        await self.proxy.command("accounts", *words, killed_after=after)

    async def labels(self) -> dict[str, tuple[bool, str | None]] | None:
        """What the store holds: label, whether enabled, what is wrong; None, and a fault, where it cannot be read."""
        code, out, err = await self.proxy.command("accounts", "list", "--json")
        if code != 0:
            self.fault(f"the store cannot be read: exit {code}: {err.strip()}")
            return None
        return {each["label"]: (each["enabled"], each["error"]) for each in json.loads(out)["accounts"]}

    def name_of(self, account: Account) -> str:
        """What the store calls an account now."""
        return self.names[account.alias]

    def fault(self, what: str) -> None:
        self.found.append(what)

    # How it went

    async def _calm(self, box: Sandbox) -> None:
        """After all trouble: everybody is served, and nothing is left over."""
        deadline = time.monotonic() + 20
        while (ends := [await self.request("calm", stream=bool(n % 2)) for n in range(8)]) and any(
            record.end is not End.COMPLETE for record in ends
        ):
            if time.monotonic() > deadline:
                self.fault(f"not served after the trouble: {[(r.end.value, r.why) for r in ends]}")
                break
            await asyncio.sleep(0.5)
        self.warm = self.warm or self.proxy.use()
        deadline = time.monotonic() + SETTLE
        while (left := self._left_over(box)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self.found += left

    def _left_over(self, box: Sandbox) -> list[str]:
        """What is still held although nobody asks anything."""
        busy = [f"{account.alias}: {account.in_flight} in flight" for account in box.accounts if account.in_flight]
        use = self.proxy.use()
        # one listens; the loop has a pair of its own and one for signals; the rest are kept connections to upstreams
        if use is not None and use.sockets - box.open > 6:
            busy.append(f"{use.sockets} sockets in the proxy, {box.open} of them known upstream")
        if use is not None and self.warm is not None and use.rss - self.warm.rss > GROWTH:
            busy.append(f"grown from {self.warm.rss >> 20} to {use.rss >> 20} MB")
        return busy

    async def _watch(self, box: Sandbox, every: float, tell: Callable[[Sample], None]) -> None:
        while True:
            next_at = time.monotonic() + every
            while (left := next_at - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 0.5))
                if self.warm is None and self.proxy.alive and time.monotonic() > self._warm_at:
                    self.warm = self.proxy.use()
            tell(self._sample(box))

    def _sample(self, box: Sandbox) -> Sample:
        new = self.records[self._sampled :]
        self._sampled = len(self.records)
        troubles, self._told = self.done[self._told :], len(self.done)
        use = self.proxy.use() if self.proxy.alive else None
        ends = dict(Counter(record.end.value for record in new))
        sample = Sample(time.monotonic() - self._begun, len(self.records), ends, use, box.open, troubles)
        self.samples.append(sample)
        return sample

    async def _check_store(self) -> None:
        if (held := await self.labels()) is None:
            return
        wanted = dict.fromkeys(self.names.values(), (True, None))
        if held != wanted:
            self.fault(f"the store holds {held}, and not {wanted}")
        with contextlib.closing(sqlite3.connect(self.folder / "state.db")) as db:
            if (said := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self.fault(f"state.db: {said[:3]}")
        self.found += [f"left behind: {path.name}" for path in self.folder.rglob("*.tmp")]

    def summary(self) -> dict[str, Any]:
        """What there is to tell at the end."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        uses = [sample.use for sample in self.samples if sample.use is not None]
        complete = sorted(record.ended - record.began for record in self.records if record.end is End.COMPLETE)
        return {
            "schema_version": 1,
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "clients": self.clients,
            "requests": len(self.records),
            "per_second": round(len(self.records) / seconds, 1),
            "ends": dict(Counter(record.end.value for record in self.records)),
            "errors": dict(Counter(record.why for record in self.records if record.end in (End.ERROR, End.CUT))),
            "median_ms": round(_at(complete, 0.5) * 1000, 1),
            "p99_ms": round(_at(complete, 0.99) * 1000, 1),
            "troubles": dict(Counter(self.done)),
            "rss_mb": [round(use.rss / 2**20, 1) for use in uses],
            "descriptors": [use.descriptors for use in uses],
            "log_lines": self.proxy.lines,
            "faults": self.found,
        }


def _at(values: list[float], fraction: float) -> float:
    return values[min(len(values) - 1, int(len(values) * fraction))] if values else 0.0


def _answer(body: dict[str, Any]) -> Answer:
    """What every account says: the canary of the question, again and again."""
    return say(echo(last_user_text(body).rpartition(" ")[2]), pieces=6, delay=0.01)


def _is_defect(line: str) -> bool:
    return any(sign in line for sign in ("Traceback", "request failed", "job failed", "internal error", "sk-fake"))
