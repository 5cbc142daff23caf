"""Breakers through the real server: a sick account is left alone, told of, let in by one request, and reset."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.change import Tripped, breaker_of
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.routing import breaker
from mcp_proxy.sandbox import Sandbox, refusals
from mcp_proxy.state.sqlite import SqliteStore
from tests.e2e.harness import Proxy, message, running, settings


def time_is_over(proxy: Proxy, label: str) -> None:
    """Say of the account's breaker that it need not stay open any longer."""
    seat, now = proxy.gateway.pool.seat(AccountId(proxy.ids[label])), proxy.gateway.now()
    assert seat is not None
    over = seat.breaker._replace(until=now, at=Instant(seat.breaker.at + 1e-5))
    proxy.gateway.pool.apply([Tripped(breaker_of(seat.id), over)])


async def test_a_sick_account_is_left_alone_and_comes_back_by_one_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "STUMBLED_SECONDS", 0.0)
    monkeypatch.setattr(breaker, "DEGRADED_SECONDS", 0.0)
    monkeypatch.setattr(breaker, "SPARED_SECONDS", 0.0)
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 120.0)
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a", windows=()), box.account("anthropic", alias="b", windows=())
        async with running(tmp_path, box, ("anthropic", a, {"tier": 1}), ("anthropic", b, {"tier": 2})) as proxy:
            a.always(refusals.overloaded())
            for number in range(5):
                answer = await proxy.ask(session=f"s{number}")
                assert (proxy.named(answer), answer.headers["x-proxy-attempts"]) == ("b", "2")
            answer = await proxy.ask(session="s5")
            assert (proxy.named(answer), answer.headers["x-proxy-attempts"]) == ("b", "1"), "nobody asks it now"
            health = (await proxy.client.get("/health")).json()
            told = {each["label"]: each["breaker"]["state"] for each in health["accounts"]}
            assert (health["status"], told) == ("degraded", {"a": "open", "b": "closed"})
            assert [each["state"] for each in health["upstreams"]] == ["closed"], "an overload is not the address's"
            metrics = await proxy.client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert f'name="anthropic/{proxy.ids["a"]}",state="open"}} 1' in metrics.text
            a.well()
            time_is_over(proxy, "a")
            answer = await proxy.ask(session="s6")
            assert (proxy.named(answer), answer.headers["x-proxy-attempts"]) == ("a", "1")
            assert (await proxy.client.get("/health")).json()["status"] == "ok"


async def test_reset_by_its_owner_is_at_once_and_in_the_store(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.always(refusals.rate_limited(3000))
            assert (await proxy.ask()).status_code == 429
            a.well()
            assert (await proxy.ask()).headers["x-proxy-attempts"] == "0"
            for wrong in (b"[]", b"{", b'{"acount": "a"}', b'{"account": 7}'):
                assert (await proxy.client.post("/reset", content=wrong)).status_code == 400, wrong
            assert (await proxy.client.post("/reset", json={"account": "nobody"})).status_code == 404
            assert (await proxy.ask()).headers["x-proxy-attempts"] == "0", "nothing was reset by mistake"
            told = (await proxy.client.post("/reset", json={"account": "anthropic/a"})).json()
            assert [each["label"] for each in told["reset"]] == ["a"] and told["reset"][0]["forgotten"]
            kept = SqliteStore(settings(tmp_path).paths.state_file, read_only=True)
            assert "forgotten by hand" in repr(kept.load(proxy.gateway.now()))
            kept.close()
            assert (await proxy.ask()).status_code == 200


async def test_a_count_is_no_probe(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            counted = {key: value for key, value in message().items() if key != "max_tokens"}
            opened = Breaker(5, 1, proxy.gateway.now(), proxy.gateway.now(), 500, "down")
            proxy.gateway.pool.apply([Tripped(breaker_of(AccountId(proxy.ids["a"])), opened)])
            for asked in (0, 1):
                answer = await proxy.client.post("/v1/messages/count_tokens", json=counted)
                assert answer.status_code == 200 and answer.json()["input_tokens"] > 0
                assert [each.path for each in a.received].count("/v1/messages/count_tokens") == asked
                assert (await proxy.ask()).status_code == 200


async def test_a_label_of_several_accounts_resets_none_of_them(tmp_path: Path) -> None:
    async with Sandbox(["anthropic", "zai"]) as box:
        one, other = box.account("anthropic", alias="same"), box.account("zai", alias="same")
        async with running(tmp_path, box, ("anthropic", one), ("zai", other)) as proxy:
            told = await proxy.client.post("/reset", json={"account": "same"})
            assert told.status_code == 400
            assert told.json()["error"]["message"] == "account: same fits several: anthropic/same, zai/same"
            for named in ({"account": "zai/same"}, {"account": "same", "provider": "zai"}):
                told = await proxy.client.post("/reset", json=named)
                assert [each["provider"] for each in told.json()["reset"]] == ["zai"]
