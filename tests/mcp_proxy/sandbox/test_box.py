from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import httpx
import pytest

from mcp_proxy.sandbox import HOSTS, Sandbox, faults
from tests.mcp_proxy.sandbox.asking import body, client, headers, post, wire


async def get(box: Sandbox, host: str, path: str, **fields: str | None) -> httpx.Response:
    named = headers(next(iter(box.host(host).accounts.values())), **fields)
    async with client() as asking:
        return await asking.get(box.url(host) + path, headers=named)


def sockets() -> int:
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
    return found


async def test_urls_are_on_loopback_and_have_the_prefix_of_their_host() -> None:
    async with Sandbox() as box:
        assert box.url("anthropic").startswith("http://127.0.0.1:")
        assert box.url("zai").startswith("http://127.0.0.1:") and box.url("zai").endswith("/api/anthropic")


async def test_what_came_is_kept_as_it_came() -> None:
    async with Sandbox(clock=lambda: 12.0) as box:
        account = box.account("anthropic")
        await post(box, account, body(), "/v1/messages?beta=true", X_Stainless_Lang="js")
        (seen,) = box.received
        assert account.received == box.host("anthropic").received == [seen]
        assert (seen.host, seen.method, seen.target) == ("anthropic", "POST", "/v1/messages?beta=true")
        assert (seen.path, seen.model, seen.json) == ("/v1/messages", "claude-opus-5-5", body())
        assert ("X-Stainless-Lang", "js") in seen.headers, "names keep their case"
        assert seen.header("Anthropic-Version") == "2023-06-01"
        assert (seen.at, seen.account, seen.answered, seen.done, seen.wrong, seen.fault) == (
            12.0,
            account,
            200,
            True,
            None,
            None,
        )
        assert seen.sent > 400 and seen.closed_after is None


async def test_only_the_latest_requests_are_remembered() -> None:
    async with Sandbox(keep=2) as box:
        account = box.account("anthropic")
        for number in range(3):
            await post(box, account, body(text=str(number)))
        assert [seen.json["messages"][0]["content"] for seen in account.received] == ["1", "2"]
        assert len(box.received) == 2


async def test_connections_are_counted_and_kept_for_several_requests() -> None:
    async with Sandbox() as box, client() as asking:
        account = box.account("anthropic")
        for stream in (True, False, True):
            sent = body(stream=stream)
            got = await asking.post(box.url("anthropic") + "/v1/messages", json=sent, headers=headers(account))
            assert got.status_code == 200
        assert (box.open, box.total, box.host("zai").total) == (1, 1, 0)
        await asking.aclose()
        await box.until(lambda: box.open == 0)


async def test_requests_in_a_row_on_one_connection_are_answered_in_order() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.say("one")
        account.say("two")
        port = int(box.url("anthropic").rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"a"}]}'
        named = {"host": f"127.0.0.1:{port}", **headers(account), "content-length": str(len(data))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        writer.write((f"POST /v1/messages HTTP/1.1\r\n{lines}\r\n".encode() + data) * 2)
        got = b""
        async with asyncio.timeout(2):
            while b'"two"' not in got:
                got += await reader.read(65536)
        assert got.index(b'"one"') < got.index(b'"two"') and got.count(b"HTTP/1.1 200") == 2
        writer.close()
        await box.until(lambda: box.open == 0)


async def test_the_client_s_leaving_is_seen_at_once() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.script(faults.stall("message_start"))
        loop = asyncio.get_running_loop()
        await wire(box, account, body(stream=True), wait=0.1)
        left = loop.time()
        await box.until(lambda: account.received[0].closed_after is not None)
        assert loop.time() - left < 0.5
        assert 0.08 < (account.received[0].closed_after or 0) < 1
        assert account.in_flight == 0 and box.open == 0


async def test_waiting_for_what_does_not_come_ends() -> None:
    async with Sandbox() as box:
        with pytest.raises(TimeoutError):
            await box.until(lambda: False, timeout=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_leaving_ends_everything_at_once_whatever_is_open() -> None:
    loop = asyncio.get_running_loop()
    before, tasks = sockets(), len(asyncio.all_tasks())
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.always(faults.hang())
        asking = [loop.create_task(wire(box, account, body(), wait=5)) for _ in range(20)]
        await box.until(lambda: len(account.received) == 20)
        began = loop.time()
    assert loop.time() - began < 1
    assert {got.ended for got in await asyncio.gather(*asking)} <= {"reset", "fin"}
    await asyncio.sleep(0.01)
    assert (sockets(), len(asyncio.all_tasks())) == (before, tasks)


async def test_a_trouble_of_its_own_is_raised_at_the_end() -> None:
    def broken(asked: object) -> None:
        raise RuntimeError("no voice")

    with pytest.raises(RuntimeError, match="no voice"):
        async with Sandbox() as box:
            account = box.account("anthropic")
            account.speak(broken)  # type: ignore[arg-type]
            await wire(box, account, body())


async def test_models_are_listed_page_by_page_and_one_by_one() -> None:
    async with Sandbox() as box:
        box.account("anthropic", models=["claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5"])
        first = (await get(box, "anthropic", "/v1/models?limit=2")).json()
        assert [entry["id"] for entry in first["data"]] == ["claude-opus-5", "claude-sonnet-5"]
        assert (first["has_more"], first["last_id"]) == (True, "claude-sonnet-5")
        rest = (await get(box, "anthropic", "/v1/models?limit=2&after_id=claude-sonnet-5")).json()
        assert [entry["id"] for entry in rest["data"]] == ["claude-haiku-4-5"] and not rest["has_more"]
        back = (await get(box, "anthropic", "/v1/models?limit=1&before_id=claude-haiku-4-5")).json()
        assert [entry["id"] for entry in back["data"]] == ["claude-sonnet-5"] and back["has_more"]
        one = await get(box, "anthropic", "/v1/models/claude-opus-5")
        assert (one.status_code, one.json()["display_name"]) == (200, "Claude Opus 5")
        assert (await get(box, "anthropic", "/v1/models/nobody")).status_code == 404


async def test_a_path_that_is_not_there_is_404_or_zai_s_success() -> None:
    async with Sandbox() as box:
        box.account("anthropic")
        box.account("zai")
        assert (await get(box, "anthropic", "/v1/v1/messages")).status_code == 404
        assert (await get(box, "anthropic", "/v1/messages")).status_code == 405
        lost = await get(box, "zai", "/v1/models")
        assert (lost.status_code, lost.json()["success"]) == (200, False)
        assert box.complaints == [
            "anthropic /v1/v1/messages: no such path",
            "anthropic /v1/messages: Method Not Allowed",
        ]


async def test_a_vendor_of_one_s_own_is_a_row() -> None:
    row = HOSTS["custom"]
    own = type(row)(
        **{name: getattr(row, name) for name in row.__dataclass_fields__} | {"name": "acme", "prefix": "/acme"}
    )
    async with Sandbox([own]) as box:
        account = box.account("acme", models=["acme-1"])
        got = await post(box, account, body("acme-1"), at="acme")
        assert (got.status_code, box.url("acme")[-5:], got.json()["model"]) == (200, "/acme", "acme-1")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
async def test_standing_alone_it_prints_where_it_is_and_ends_with_an_interrupt() -> None:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcp_proxy.sandbox", "--host", "zai", "--accounts", "1", stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    name, url = (await running.stdout.readline()).decode().split()
    key = (await running.stdout.readline()).decode().strip()
    assert name == "zai" and url.startswith("http://127.0.0.1:")
    async with client() as asking:
        monitor = url.removesuffix("/api/anthropic") + "/api/monitor/usage/quota/limit"
        got = await asking.get(monitor, headers={"authorization": key, "accept-encoding": "identity"})
        assert got.json()["success"] is True
    running.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(running.wait(), 3) == 0
