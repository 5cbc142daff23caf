"""The processes of a benchmark: the upstream, nginx, the proxy; each pinned to a core, each asked what it used.

The one that is measured has core 0 to itself; who asks and who answers share core 1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accounts.model import Account, AccountId, ApiKey, Entry, OAuthClient, OAuthGrant, Secret, Token
from benchmarks.upstream import TRANSLATED
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.settings import load

KEY = "proxy-key-of-the-benchmarks"
TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid; daemon off;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 256k; keepalive_requests 1000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    proxy_read_timeout 300s; }} }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Used:
    """What a process and its children have used. cpu: seconds; rss: MB."""

    cpu: float
    rss: float


@dataclass
class Running:
    """A server under measurement, or the upstream itself (`direct`)."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def used(self) -> Used:
        pids = [self.process.pid, *_children(self.process.pid)]
        return Used(sum(map(_cpu, pids)), sum(map(_rss, pids)))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def pin(*cores: int) -> None:
    """Keep this process, and what it starts, on these cores; where there are fewer, on any."""
    available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if set(cores) <= available:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def _started(name: str, core: int, port: int, command: Sequence[str], **environ: str) -> Iterator[Running]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if name != "nginx" else None,
        preexec_fn=lambda: pin(core),
    )
    try:
        _wait_for(port, process)
        yield Running(name, port, process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} does not serve")


@contextlib.contextmanager
def upstream(*options: str) -> Iterator[Running]:
    """The answering end, on the core of who asks."""
    port = free_port()
    with _started("direct", 1, port, (sys.executable, "-m", "benchmarks.upstream", str(port), *options)) as running:
        yield running


@contextlib.contextmanager
def nginx(behind: Running) -> Iterator[Running | None]:
    """nginx as a plain reverse proxy with one worker; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, upstream=behind.port, port=port))
        with _started("nginx", 0, port, (program, "-c", str(config), "-p", folder, "-e", "stderr")) as running:
            yield running


def native(behind: Running, count: int) -> list[Entry]:
    """Accounts whose answers are passed on as they are."""
    base = f"http://127.0.0.1:{behind.port}"
    return [
        Entry(
            Account(id=AccountId(f"{number:06x}"), provider="anthropic", label=f"a{number}", base_url=base),
            ApiKey(Secret(f"key-of-the-benchmarks-{number}")),
        )
        for number in range(count)
    ]


def translated(behind: Running) -> list[Entry]:
    """Accounts whose answers come in Gemini's wire, one for each answer; with tokens that last."""
    token = Token(Secret("token-of-the-benchmarks"), 4e9)
    return [
        Entry(
            Account(
                id=AccountId(f"{number:06x}"),
                provider="antigravity",
                label=f"t{number}",
                base_url=f"http://127.0.0.1:{behind.port}/{path}",
                models=(model,),
                extra={"project": "benchmark"},
            ),
            OAuthGrant(Secret("grant-of-the-benchmarks"), OAuthClient("client-of-the-benchmarks"), token),
        )
        for number, (model, path) in enumerate(TRANSLATED.items(), start=1000)
    ]


@contextlib.contextmanager
def proxy(accounts: Sequence[Entry], toml: str = "", rows: int | None = None) -> Iterator[Running]:
    """The product as it is used: sealed accounts, the key asked for, a log line for every request.

    rows  so many more a second in its journal than it has requests; None: started by its own command
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir(0o700)
        (home / "config.toml").write_text(toml)
        port = free_port()
        environ = {"MCP_PROXY_HOME": str(home), "PROXY_API_KEY": KEY}
        vault = open_vault(load({}, environ))
        vault.edit(lambda _: tuple(accounts))
        command: tuple[str, ...] = (sys.executable, "-m", "mcp_proxy", "serve", "--port", str(port), "--no-soft-limit")
        if rows is not None:
            command = (sys.executable, "-m", "benchmarks.journal", str(port), str(rows))
        with _started("proxy", 0, port, command, **environ) as running:
            time.sleep(1.5)  # its models have been read
            yield running
