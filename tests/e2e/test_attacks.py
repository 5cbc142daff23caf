"""What broke it once, from outside: each of these failed before it was mended."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from mcp_proxy.sandbox import Sandbox, faults
from tests.e2e.harness import KEY, Proxy, last_message, message, running
from tests.e2e.test_process import PROXY, environment, free_port


async def raw(proxy: Proxy, head: str, body: bytes = b"") -> bytes:
    """Send bytes, read what comes until the end of the connection."""
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE"])
async def test_an_offered_upgrade_costs_the_request_nothing(tmp_path: Path, name: str) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            body = json.dumps(message()).encode()
            came = await raw(
                proxy,
                f"POST /v1/messages HTTP/1.1\nHost: localhost\nx-api-key: {KEY}\n"
                f"Connection: {name}, HTTP2-Settings, close\n{name}: h2c\n"
                f"HTTP2-Settings: AAMAAABkAAQ\nContent-Length: {len(body)}",
                body,
            )
            assert came.startswith(b"HTTP/1.1 200 ") and b'"type": "message"' in came.replace(b'":"', b'": "')
            assert box.complaints == []


async def test_the_name_of_a_model_has_an_end(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            for name in ("sonnet" * 1000, "a\0b", "two\nlines"):
                answer = await proxy.ask(model=name)
                assert answer.status_code == 400 and len(answer.content) < 500
            assert (await proxy.ask(model="x" * 256)).status_code == 404


async def test_nothing_of_a_requests_content_is_remembered(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            mark = "a text to be found again " * 4000
            for fields in ({}, {"stream": True}, {"model": "nobody-knows-it"}):
                await proxy.ask(mark, **fields)
            a.received.clear()
            box.received.clear()
            box.host("anthropic").received.clear()
            await asyncio.sleep(0.05)
            gc.unfreeze()  # what stood before the test may hold it, too
            gc.collect()
            values = [value for each in gc.get_objects() if isinstance(each, dict) for value in each.values()]
            bodies = [value for value in values if isinstance(value, bytes) and len(value) > len(mark)]
            assert [body[:50] for body in bodies if mark[:50].encode() in body] == []
            assert all(each.ask.body == b"" and each.answer is None for each in proxy.gateway.recent)


async def test_a_store_that_vanishes_does_not_take_its_accounts_along(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path / "home", box, ("anthropic", a)) as proxy:
            shutil.rmtree(tmp_path / "home")
            await asyncio.sleep(1.2)
            assert (await proxy.ask()).status_code == 200


async def test_paths_in_other_spellings_are_not_found(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        async with running(tmp_path, box) as proxy:
            for path in ("/v1/%6dessages", "/v1%2fmessages", "/v1/messages//", "//v1/messages"):
                came = await raw(
                    proxy,
                    f"POST {path} HTTP/1.1\nHost: localhost\nx-api-key: {KEY}\nConnection: close\nContent-Length: 2",
                    b"{}",
                )
                assert came.startswith(b"HTTP/1.1 404 "), path


def test_of_two_servers_started_at_once_on_one_port_one_says_that_it_is_in_use(tmp_path: Path) -> None:
    port = str(free_port())
    both = [
        subprocess.Popen(
            [*PROXY, "serve", "--port", port], env=environment(tmp_path / name), stderr=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    try:
        for _ in range(200):
            if any(each.poll() is not None for each in both):
                break
            signal.sigtimedwait([], 0.05)
        ended = [each for each in both if each.poll() is not None]
        assert len(ended) == 1 and ended[0].returncode == 2
        assert "cannot listen" in (ended[0].communicate()[1] or "")
    finally:
        for each in both:
            if each.poll() is None:
                each.terminate()
                each.communicate(timeout=20)


async def test_headers_that_are_no_ascii_stay_here(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            answer = await proxy.client.post(
                "/v1/messages",
                json=message(),
                headers=[(b"user-agent", "клиент".encode()), (b"x-stainless-os", b"\xff\xe9"), (b"x-app", b"cli")],
            )
            assert answer.status_code == 200
            arrived = {name.lower() for name, _ in last_message(a).headers}
            assert "x-app" in arrived and not {"user-agent", "x-stainless-os"} & arrived


@pytest.mark.usefixtures("unbroken")
async def test_a_flood_of_cuts_is_no_flood_of_memory_or_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.always(faults.cut_before_content())
            for _ in range(50):
                assert (await proxy.ask(stream=True)).status_code == 502
            assert proxy.gateway.pool.seats[0].in_flight == 0
    assert len(capfd.readouterr().err) < 5000
