"""What the journal tells of real requests, through the real server: who was asked, why, and what it cost."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
from mcp_proxy.core.journal import unpack
from mcp_proxy.sandbox import Sandbox, refusals
from tests.e2e.harness import KEY, Proxy, in_front_of, running
from tests.faults.line import until
from tests.faults.upstream import by_path, silent, upstream


async def why(proxy: Proxy, request: str = "last") -> dict[str, Any]:
    answer = await proxy.client.get(f"/why/{request}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def journalled(proxy: Proxy, answer: httpx.Response) -> dict[str, Any]:
    """What is told of an answer's request; its row comes a moment after its last byte."""
    ours = answer.headers["request-id"]

    for _ in range(200):
        if (await proxy.client.get(f"/why/{ours}")).status_code == 200:
            break
    return await why(proxy, ours)


async def test_a_failover_is_told_with_every_account_once_and_one_reason(tmp_path: Path) -> None:
    async with Sandbox(["anthropic", "zai"]) as box:
        full, sound, spare = (box.account("anthropic", alias=name, windows=()) for name in ("full", "sound", "spare"))
        other = box.account("zai", alias="other")
        full.always(refusals.rate_limited(retry_after=600))
        held = (
            ("anthropic", full, {"tier": 1}),
            ("anthropic", sound, {"tier": 2}),
            ("anthropic", spare, {"tier": 3}),
            ("zai", other, {"enabled": False}),
        )
        async with running(tmp_path, box, *held) as proxy:
            answer = await proxy.ask("what nobody may read later", session="a-session-to-hide")
            told = await journalled(proxy, answer)
            assert [(each["label"], each["verdict"], each["reason"]) for each in told["accounts"]] == [
                ("sound", "served", "failover"),
                ("full", "failed", "limited"),
                ("spare", "candidate", "tier"),
                ("other", "refused", "disabled"),
            ]
            assert [(each["label"], each["status"], each["outcome"]) for each in told["attempts"]] == [
                ("full", 429, "failed"),
                ("sound", None, "answered"),
            ]
            assert told["request_id"] == answer.headers["request-id"]
            assert await why(proxy, told["upstream_request_id"]) == told == await why(proxy)
            assert told["tokens"]["output"] == answer.json()["usage"]["output_tokens"]
            assert (told["asked"], told["outcome"], told["status"]) == ("claude-sonnet-5", "ok", 200)
            assert told["accounts"][0]["rank"]["tier"] == 2

            second = await proxy.ask("again", session="a-session-to-hide")
            told = await journalled(proxy, second)
            assert [each["reason"] for each in told["accounts"]] == ["sticky", "cold", "limited", "disabled"]
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
            rows = db.execute("SELECT * FROM journal").fetchall()
            details = [unpack(detail) for (detail,) in db.execute("SELECT detail FROM journal_detail")]
        assert len(rows) == len(details) == 2 and all(detail.attempts for detail in details)
        for secret in ("nobody may read", "a-session-to-hide", "sound", "spare"):
            assert secret not in f"{rows}{details}", secret


async def test_a_name_that_nobody_serves_is_told_of_every_account(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        on, off = box.account("zai", alias="on"), box.account("zai", alias="off")
        async with running(tmp_path, box, ("zai", on), ("zai", off, {"enabled": False})) as proxy:
            answer = await proxy.ask(model="no-such-model")
            assert answer.status_code == 404
            told = await journalled(proxy, answer)
            assert [(each["label"], each["verdict"], each["reason"]) for each in told["accounts"]] == [
                ("on", "refused", "not_served"),
                ("off", "refused", "disabled"),
            ]
            assert (told["account"], told["model"], told["outcome"], told["status"]) == (None, None, "failed", 404)


async def test_a_client_that_leaves_is_told_as_that(tmp_path: Path) -> None:
    async with upstream(by_path({"/v1/messages": silent})) as up, in_front_of(tmp_path, up) as proxy:
        asking = asyncio.get_running_loop().create_task(proxy.ask())
        await until(lambda: proxy.gateway.recent and proxy.gateway.recent[-1].attempts)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: proxy.gateway.recent[-1].outcome)
        told = await why(proxy)
        assert told["outcome"] == "client_gone"
        assert [(each["verdict"], each["reason"]) for each in told["accounts"]] == [("abandoned", "client_gone")]


async def test_a_restart_forgets_nothing_and_a_failed_request_is_told_too(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic", alias="a", windows=())
        account.always(refusals.bad_request("it quotes what was asked"))
        async with running(tmp_path, box, ("anthropic", account)) as proxy:
            answer = await proxy.ask()
            assert answer.status_code == 400
            told = await journalled(proxy, answer)
        async with running(tmp_path / "again", box, ("anthropic", account)) as other:
            assert (await other.client.get("/why/last")).status_code == 404
        (tmp_path / "accounts.json").unlink()
        async with running(tmp_path, box, ("anthropic", account)) as proxy:
            assert await why(proxy) == told
        assert (told["outcome"], told["status"]) == ("failed", 400)
        assert [(each["verdict"], each["reason"]) for each in told["accounts"]] == [("failed", "request")]
        assert "quotes" not in str(told)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """A command line, run in this process against a proxy."""

    def command(proxy: Proxy, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("PROXY_API_KEY", KEY)
        monkeypatch.setenv("MCP_PROXY_HOME", "/nonexistent")
        capsys.readouterr()
        code = run(app, (*words, "--url", proxy.url))
        return (code, *capsys.readouterr())

    return command


async def test_usage_sums_up_what_was_asked_with_what_it_would_have_cost(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    async with Sandbox(["anthropic", "zai"]) as box:
        full, sound = (box.account("anthropic", alias=name, windows=()) for name in ("full", "sound"))
        full.always(refusals.rate_limited(retry_after=600))
        held = (("anthropic", full, {"tier": 1}), ("anthropic", sound, {"tier": 2}))
        prices = '[prices]\n"of-ours" = { input = 1, output = 2 }\n'
        async with running(tmp_path, box, *held, toml=prices) as proxy:
            assert (await asyncio.to_thread(command, proxy, "usage"))[0] == 3
            assert (await asyncio.to_thread(command, proxy, "why"))[0] == 3
            counts = [0, 0]
            for number in range(3):
                answer = await proxy.ask(f"message {number}", stream=False)
                told = await journalled(proxy, answer)
                counts[0] += told["tokens"]["input"] + told["tokens"]["cache_read"] + told["tokens"]["cache_write"]
                counts[1] += told["tokens"]["output"]
            found = (await proxy.client.get("/usage?by=account&days=1")).json()
            assert [group["label"] for group in found["groups"]] == ["sound"]
            assert found["cost"]["overridden"] == ["of-ours"]
            total = found["total"]
            assert (total["requests"], total["failovers"], total["errors"]) == (3, 1, 0)
            assert total["tokens"]["output"] == counts[1] > 0
            spent = total["tokens"]
            cost = spent["input"] * 2 + spent["cache_read"] * 0.2 + spent["cache_write"] * 2.5 + spent["output"] * 10
            assert total["cost_usd"] == pytest.approx(cost / 1e6, abs=1e-6)
            assert total["median_seconds"]["total"] >= total["median_seconds"]["first_content"] > 0
            for by in ("account", "model", "provider", "day", "key"):
                found = (await proxy.client.get(f"/usage?by={by}")).json()
                assert found["total"] == {**total, "median_seconds": found["total"]["median_seconds"]}, by
                assert sum(group["requests"] for group in found["groups"]) == 3
            for query in ("by=label", "days=0", "days=x", "days=99999", "days=-1"):
                assert (await proxy.client.get(f"/usage?{query}")).status_code == 400, query
            code, out, _ = await asyncio.to_thread(command, proxy, "usage", "--by", "provider")
            assert code == 0 and "anthropic" in out and "list price" in out
            code, out, _ = await asyncio.to_thread(command, proxy, "usage", "-b", "zai")
            assert (code, "nothing was used" in out) == (3, True)
            code, out, _ = await asyncio.to_thread(command, proxy, "why")
            assert code == 0 and "anthropic/sound" in out and "limited" in out
            code, out, err = await asyncio.to_thread(command, proxy, "why", "req_unknown")
            assert (code, out, err.count("\n")) == (3, "", 1)
            code, _, _ = await asyncio.to_thread(command, proxy, "why", "--last", "req_x")
            assert code == 2
