"""The proxy as its own process, with accounts in its store: starved, stopped and killed without harm to the tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from accounts.vault.vault import Vault
from mcp_proxy.cli.adapters import open_vault
from tests.e2e.harness import KEY, message, settings, store
from tests.faults import line, speech
from tests.faults.upstream import Play, Upstream, by_path

PROXY = (sys.executable, "-m", "mcp_proxy")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a proxy of a test sees of the environment; an empty value leaves a name out."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    given = {**kept, "MCP_PROXY_HOME": str(home), "PROXY_API_KEY": KEY, "NO_COLOR": "1", **more}
    return {name: value for name, value in given.items() if value}


def proxy(
    home: Path, *words: str, stdin: str = "", program: tuple[str, ...] = PROXY, **environ: str
) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [*program, *words], env=environment(home, **environ), input=stdin, capture_output=True, text=True, timeout=30
    )


def accounts(home: Path, *upstreams: Upstream) -> dict[str, str]:
    """Put an account for each upstream into the store: `a0`, `a1` …, asked in that order; their ids by label."""
    return store(
        settings(home),
        [
            ("anthropic", f"key-of-a{n}-sk-fake", {"label": f"a{n}", "base_url": each.url(""), "tier": n + 1})
            for n, each in enumerate(upstreams)
        ],
    )


@dataclass
class Process:
    """A proxy at work, and a client that has its key."""

    popen: subprocess.Popen[bytes]
    port: int
    client: httpx.AsyncClient
    log: Path

    def said(self, what: str = "") -> list[str]:
        """The lines on its stderr so far that hold this."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if what in line]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    async def ended(self, seconds: float = 10.0) -> int:
        """Wait for its end; the exit code. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while self.popen.poll() is None:
                await asyncio.sleep(0.01)
        return self.popen.returncode

    async def ask(self, text: str = "hello", **fields: object) -> httpx.Response:
        return await self.client.post("/v1/messages", json=message(text, **fields))

    def descriptors(self) -> int:
        """How many files and sockets it holds."""
        return len(os.listdir(f"/proc/{self.popen.pid}/fd"))

    def tracebacks(self) -> list[str]:
        """Lines of a kind that no user should see."""
        return [line for line in self.said() if re.search(r"Traceback|Exception|Error\b.*:|never awaited", line)]


@contextlib.asynccontextmanager
async def served(
    home: Path,
    *,
    limits: Callable[[], None] | None = None,
    words: tuple[str, ...] = (),
    program: tuple[str, ...] = PROXY,
    **environ: str,
) -> AsyncIterator[Process]:
    """`proxy serve` on a free port, ready. limits: called in the new process before the program is started."""
    port = free_port()
    descriptor, name = tempfile.mkstemp(suffix=".log")
    log = Path(name)
    with open(descriptor, "wb") as err:
        popen = subprocess.Popen(
            [*program, "serve", "--port", str(port), *words],
            env=environment(home, **environ),
            stdin=subprocess.DEVNULL,
            stdout=err,
            stderr=err,
            preexec_fn=limits,
        )
    headers = {"x-api-key": KEY}
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60
        ) as client:
            made = Process(popen, port, client, log)
            async with asyncio.timeout(20):
                while not made.said("serving "):
                    assert popen.poll() is None, f"ended with {popen.returncode}: {log.read_text()}"
                    await asyncio.sleep(0.02)
            yield made
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        log.unlink()


WHOLE = speech.answer(speech.message())


def messages(part: Play) -> Play:
    return by_path({"/v1/messages": part})


def vault_of(home: Path) -> Vault:
    return open_vault(settings(home))


def store_is_whole(home: Path, labels: set[str]) -> None:
    """Both stores open, and the accounts are all there."""
    assert {entry.account.label for entry in vault_of(home).entries()} == labels
    with contextlib.closing(sqlite3.connect(home / "state.db")) as state:
        assert state.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert list(home.rglob("*.tmp")) == []


def closed_to(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """As `line.until`, with the patience that other processes need on a busy machine."""
    await line.until(holds, seconds)
