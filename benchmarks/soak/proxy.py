"""The proxy as a process of its own: started, killed, starved, watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (sys.executable, "-m", "mcp_proxy")
KEPT_LINES = 2000


@dataclass(frozen=True)
class Use:
    """What the process holds. rss: bytes; sockets: among its descriptors."""

    rss: int
    descriptors: int
    sockets: int


@dataclass
class Proxy:
    """`proxy serve` on a port that stays the same. said: the latest lines of its log."""

    home: Path
    key: str
    port: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    lines: int = 0
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", "--port", str(self.port), env=self._environment(), stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.get_running_loop().create_task(self._read(self._process))
        async with asyncio.timeout(30):
            while not await self._ready():
                assert self.alive, "\n".join(self.said)
                await asyncio.sleep(0.03)

    async def command(self, *words: str, killed_after: float | None = None) -> tuple[int, str, str]:
        """Another command of the program on the same home: exit code, stdout, stderr.

        killed_after  seconds after which it is ended without a word
        """
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *words,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        talk = asyncio.get_running_loop().create_task(process.communicate())
        if killed_after is not None:
            await asyncio.wait({talk}, timeout=killed_after)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        out, err = await talk
        return process.returncode or 0, out.decode(), err.decode()

    def signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def kill(self) -> None:
        """End it without a word."""
        self.signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> int:
        """End it politely: its exit code."""
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self._ended()

    async def _ended(self) -> int:
        assert self._process is not None and self._reading is not None
        code = await self._process.wait()
        await self._reading
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self.lines += 1
            self.said.append(line.decode("utf-8", "replace").rstrip())

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return (await reader.read()).startswith(b"HTTP/1.1 200 ")
        except ConnectionError:
            return False
        finally:
            writer.close()

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        return {
            **kept,
            "MCP_PROXY_HOME": str(self.home),
            "PROXY_API_KEY": self.key,
            "LOG_LEVEL": "warn",
            **self.environ,
        }

    def use(self) -> Use | None:
        """What it holds now; None where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            links = []
            for name in os.listdir(f"/proc/{self.pid}/fd"):  # noqa: PTH208 - names are all that is wanted
                with contextlib.suppress(OSError):
                    links.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))  # noqa: PTH115
        except OSError:
            return None
        return Use(pages * os.sysconf("SC_PAGE_SIZE"), len(links), sum(link.startswith("socket:") for link in links))
