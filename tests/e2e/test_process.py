"""The program itself, as its own process: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mcp_proxy.sandbox import Account, Sandbox
from tests.e2e.harness import KEY, message

PROXY = [sys.executable, "-m", "mcp_proxy"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {**kept, "MCP_PROXY_HOME": str(home), "PROXY_API_KEY": KEY, **more}


def proxy(home: Path, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROXY, *words], env=environment(home, **environ), input=stdin, capture_output=True, text=True, timeout=30
    )


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    client: httpx.Client

    def end(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(sig)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextlib.contextmanager
def served(home: Path, **environ: str) -> Iterator[Running]:
    """`proxy serve` on a free port, ready."""
    port = free_port()
    process = subprocess.Popen(
        [*PROXY, "serve", "--port", str(port)],
        env=environment(home, **environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, headers={"x-api-key": KEY}, trust_env=False, timeout=20) as client:
            for _ in range(200):
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        break
                time.sleep(0.05)
            yield Running(process, url, client)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
async def upstream() -> object:
    async with Sandbox(["anthropic"]) as box:
        yield box, box.account("anthropic", alias="a")


Box = tuple[Sandbox, Account]


def add(home: Path, upstream: Box, label: str = "a") -> subprocess.CompletedProcess[str]:
    box, account = upstream
    words = ("accounts", "add", "--provider", "anthropic", "--label", label, "--base-url", box.url("anthropic"))
    return proxy(home, *words, "--api-key-stdin", stdin=account.key + "\n")


async def in_thread(work: object, *args: object, **more: object) -> object:
    import asyncio

    return await asyncio.to_thread(work, *args, **more)  # type: ignore[arg-type]


def test_without_a_key_it_says_what_to_type(tmp_path: Path) -> None:
    for environ in ({"PROXY_API_KEY": ""}, {}):
        env = environment(tmp_path, **environ)
        if not environ:
            del env["PROXY_API_KEY"]
        run = subprocess.run([*PROXY, "serve"], env=env, capture_output=True, text=True, timeout=30)
        assert run.returncode == 2 and "PROXY_API_KEY=" in run.stderr and "Traceback" not in run.stderr


def test_a_port_in_use_is_a_usage_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = proxy(tmp_path, "serve", "--port", str(taken.getsockname()[1]))
    assert run.returncode == 2 and "cannot listen" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("content", "code"), [(b"", 7), (b"garbage\n", 7), (b'{"accounts": []}', 7)], ids=["empty", "garbage", "foreign"]
)
def test_a_store_that_cannot_be_opened_ends_the_start_and_is_left_as_it_is(
    tmp_path: Path, content: bytes, code: int
) -> None:
    store = tmp_path / "accounts.json"
    tmp_path.chmod(0o700)
    store.write_bytes(content)
    store.chmod(0o600)
    run = proxy(tmp_path, "serve", "--port", str(free_port()))
    assert run.returncode == code and "Traceback" not in run.stderr, run.stderr
    assert store.read_bytes() == content


async def test_a_wrong_key_is_told_apart_and_the_store_left_as_it_is(tmp_path: Path, upstream: Box) -> None:
    added = await in_thread(add, tmp_path, upstream)
    assert added.returncode == 0, added.stderr  # type: ignore[attr-defined]
    before = (tmp_path / "accounts.json").read_bytes()
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    assert (await in_thread(add, other, upstream)).returncode == 0  # type: ignore[attr-defined]
    (tmp_path / "vault.key").write_bytes((other / "vault.key").read_bytes())
    for words in (("serve", "--port", str(free_port())), ("accounts", "list")):
        run = await in_thread(proxy, tmp_path, *words)
        assert run.returncode == 8, run.stderr  # type: ignore[attr-defined]
    assert (tmp_path / "accounts.json").read_bytes() == before


@pytest.mark.slow
async def test_an_account_added_while_it_runs_serves_the_next_request(tmp_path: Path, upstream: Box) -> None:
    def scenario() -> None:
        with served(tmp_path) as running:
            assert running.client.post("/v1/messages", json=message()).status_code == 503
            assert add(tmp_path, upstream).returncode == 0
            for _ in range(60):
                answer = running.client.post("/v1/messages", json=message())
                if answer.status_code == 200:
                    break
                time.sleep(0.05)
            assert answer.status_code == 200
            assert proxy(tmp_path, "accounts", "disable", "a").returncode == 0
            time.sleep(1.2)
            assert running.client.post("/v1/messages", json=message()).status_code == 503
            assert proxy(tmp_path, "accounts", "remove", "a", "--yes").returncode == 0
            assert running.end()[0] == 0

    await in_thread(scenario)


def test_the_framework_takes_no_orders_from_the_environment(tmp_path: Path) -> None:
    with served(tmp_path, APP_SHOW_ERROR_DETAILS="1", APP_ROUTE_PREFIX="/elsewhere") as running:
        assert running.client.get("/livez").status_code == 200


@pytest.mark.slow
def test_the_container_asks_the_program_for_its_health(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        assert proxy(tmp_path, "status", "--live", "--url", running.url).returncode == 0
    assert proxy(tmp_path, "status", "--live", "--url", running.url).returncode == 6


def test_the_demo_shows_what_it_promises_and_touches_nothing_of_the_users(tmp_path: Path) -> None:
    home = tmp_path / "untouched"
    env = environment(home, HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), TMPDIR=str(tmp_path))
    run = subprocess.run(
        [*PROXY, "demo"], env=env, capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    for reason in ("first_choice", "sticky", "failover", "soft_limited", "fallback_model", "waited"):
        assert f"  {reason}  " in run.stdout
    assert ": open since 20" in run.stdout and "\nproxy why req_" in run.stdout and "\nproxy usage" in run.stdout
    assert "Account Limits (" in run.stdout and "0% (wait 14m)" in run.stdout
    assert list(tmp_path.iterdir()) == []
