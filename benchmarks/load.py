"""Who asks: closed loops, and streams whose every event is timed. Bytes over uvloop, no HTTP library.

Closed loops are left to wrk where it is installed: it uses a tenth of the processor that this file does, and the
fastest servers are measured too low without it.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from benchmarks.stage import KEY, Running

WRK = shutil.which("wrk")
STAMP = re.compile(rb"(\d{6,});")
SCRIPT = """
local body = io.open("{body}", "rb"):read("*a")
local asked = 0
request = function()
  asked = asked + 1
  return wrk.format("POST", "/v1/messages", {{
    ["x-api-key"] = "{key}", ["content-type"] = "application/json", ["anthropic-version"] = "2023-06-01",
    ["user-agent"] = "claude-cli/2.1.300 (external, cli)", ["x-claude-code-session-id"] = "session-" .. asked % 32
  }}, body)
end
done = function(summary, latency, requests)
  local wrong = summary.errors
  local failed = wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout
  io.stderr:write(string.format('{{"count": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
"""


@dataclass(frozen=True)
class Measured:
    """A closed loop. rate: requests a second; p50, p99: milliseconds; cpu: the server's milliseconds a request."""

    count: int
    rate: float
    p50: float
    p99: float
    cpu: float
    failed: int


def body(model: str, size: int, *, stream: bool) -> bytes:
    """A request of about `size` bytes; a large one has tools and a conversation, as a coding client sends them."""
    asked: dict[str, object] = {"model": model, "max_tokens": 1024, "stream": stream}
    if size < 1000:
        return json.dumps({**asked, "messages": [{"role": "user", "content": "hello"}]}).encode()
    word = "A sentence that says what a tool does, and what it does not do, at some length. "
    schema = {
        "type": "object",
        "properties": {f"field_{n}": {"type": "string", "description": word} for n in range(8)},
        "required": ["field_0"],
        "additionalProperties": False,
    }
    asked["metadata"] = {"user_id": "user_benchmark_account__session_00000000-0000-4000-8000-000000000000"}
    asked["system"] = [{"type": "text", "text": word * 100, "cache_control": {"type": "ephemeral"}}]
    asked["tools"] = [{"name": f"Tool{n}", "description": word * 10, "input_schema": schema} for n in range(25)]
    turns: list[dict[str, object]] = []
    asked["messages"] = turns
    while len(json.dumps(asked)) < size - 2000:
        number = len(turns)
        turns.append({"role": "user", "content": [{"type": "text", "text": f"{number} " + word * 12}]})
        turns.append({"role": "assistant", "content": [{"type": "text", "text": f"{number} " + word * 12}]})
    turns.append({"role": "user", "content": "And now?"})
    return json.dumps(asked).encode()


def head(length: int, session: str) -> bytes:
    return (
        f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n"
        "anthropic-version: 2023-06-01\r\nuser-agent: claude-cli/2.1.300 (external, cli)\r\n"
        f"x-claude-code-session-id: {session}\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


@dataclass
class Asker(asyncio.Protocol):
    """One client connection: asks, and calls back when the answer is whole.

    ended  with whether it was a whole 200
    heard  with every piece of the answer, as it comes
    """

    request: bytes
    ended: Callable[[Asker, bool], None]
    heard: Callable[[bytes], None] | None = None
    begun: float = 0.0
    _tail: bytes = b""
    _head: bytes = b""
    _left: int = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        self._head, self._tail, self._left = b"", b"", -1
        self.begun = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end == 3:
                return
            data, self._head = self._head[end:], self._head[:end]
            length = re.search(rb"(?i)content-length: (\d+)", self._head)
            self._left = int(length[1]) if length else 1 << 60
        if self.heard is not None:
            self.heard(data)
        self._left -= len(data)
        self._tail = (self._tail + data)[-5:]
        if self._left <= 0 or (self._left > 1 << 50 and self._tail == b"0\r\n\r\n"):
            self.ended(self, self._head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended(self, False)


@dataclass
class Loop:
    """A closed loop: each client asks again as soon as it is answered."""

    until: float
    times: list[float] = field(default_factory=list)
    failed: int = 0
    open: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def ended(self, asker: Asker, well: bool) -> None:
        now = time.perf_counter()
        if asker.transport.is_closing() and not well:
            self.failed += 1
        elif well:
            self.times.append(now - asker.begun)
        else:
            self.failed += 1
        if now < self.until and not asker.transport.is_closing():
            asker.ask()
            return
        asker.ended = lambda *_: None
        asker.transport.close()
        self.open -= 1
        if not self.open:
            self.over.set()


def closed_loop(server: Running, data: bytes, clients: int, seconds: float, *, plain: bool = False) -> Measured:
    """Ask without a pause. plain: with this file's own clients, also where wrk is installed."""
    before = server.used().cpu
    if WRK and not plain:
        found = _wrk(WRK, server.port, data, clients, seconds)
    else:
        found = asyncio.run(_closed_loop(server.port, data, clients, seconds))
    count, took, p50, p99, failed = found
    return Measured(count, count / took, p50, p99, (server.used().cpu - before) / max(count, 1) * 1000, failed)


async def _closed_loop(port: int, data: bytes, clients: int, seconds: float) -> tuple[int, float, float, float, int]:
    begun = time.perf_counter()
    loop = Loop(begun + seconds, open=clients)
    for number in range(clients):
        request = head(len(data), f"session-{number}") + data
        await asyncio.get_running_loop().create_connection(
            lambda request=request: Asker(request, loop.ended), "127.0.0.1", port
        )
    await loop.over.wait()
    took = time.perf_counter() - begun
    return len(loop.times), took, percentile(loop.times, 50) * 1e3, percentile(loop.times, 99) * 1e3, loop.failed


def _wrk(program: str, port: int, data: bytes, clients: int, seconds: float) -> tuple[int, float, float, float, int]:
    with tempfile.TemporaryDirectory() as folder:
        body_file, script = Path(folder, "body"), Path(folder, "post.lua")
        body_file.write_bytes(data)
        script.write_text(SCRIPT.format(body=body_file, key=KEY))
        took = subprocess.run(
            [
                program,
                "-t1",
                f"-c{clients}",
                f"-d{max(round(seconds), 1)}s",
                "-s",
                str(script),
                f"http://127.0.0.1:{port}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    said = json.loads(took.stderr)
    return said["count"], said["seconds"], said["p50"], said["p99"], said["failed"]


@dataclass(frozen=True)
class Streams:
    """Streams whose every event carried the moment at which it left. Delays in milliseconds.

    first   from the request to the first event
    merged  the most events that came in one read
    cpu     the server's milliseconds an event
    """

    streams: int
    complete: int
    events: int
    p50: float
    p99: float
    first: float
    merged: int
    cpu: float = 0.0


def timed_streams(server: Running, data: bytes, streams: int, expected: int) -> Streams:
    """Open this many at once and time every event. expected: events of a whole stream."""
    before = server.used().cpu
    found = asyncio.run(streams_of(server.port, data, streams, expected))
    return replace(found, cpu=(server.used().cpu - before) / max(found.events, 1) * 1000)


async def streams_of(port: int, data: bytes, streams: int, expected: int) -> Streams:
    """The same for a port, without the server's processor time."""
    delays: list[float] = []
    firsts: list[float] = []
    merged, complete, open_ = 0, 0, streams
    over = asyncio.Event()

    def ended(asker: Asker, well: bool) -> None:
        nonlocal complete, open_
        asker.ended = lambda *_: None
        complete += well and counts[id(asker)] == expected
        asker.transport.close()
        open_ -= 1
        if not open_:
            over.set()

    counts: dict[int, int] = {}
    tails: dict[int, bytes] = {}

    def connected(number: int) -> Asker:
        asker = Asker(head(len(data), f"session-{number}") + data, ended)
        counts[id(asker)], tails[id(asker)] = 0, b""

        def heard(piece: bytes) -> None:
            nonlocal merged
            now = time.monotonic_ns()
            whole = tails[id(asker)] + piece
            found = STAMP.findall(whole)
            tails[id(asker)] = whole[whole.rfind(b"\n") + 1 :]
            if not counts[id(asker)]:
                firsts.append(time.perf_counter() - asker.begun)
            counts[id(asker)] += len(found)
            merged = max(merged, len(found))
            delays.extend((now - int(stamp)) / 1e6 for stamp in found)

        asker.heard = heard
        return asker

    for number in range(streams):
        await asyncio.get_running_loop().create_connection(lambda number=number: connected(number), "127.0.0.1", port)
    await over.wait()
    return Streams(
        streams,
        complete,
        len(delays),
        percentile(delays, 50),
        percentile(delays, 99),
        percentile(firsts, 50) * 1e3,
        merged,
    )


def percentile(values: list[float], of_hundred: float) -> float:
    """0 where there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * of_hundred / 100), len(ordered) - 1)] if ordered else 0.0
