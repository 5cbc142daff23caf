"""The real server takes over other settings while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_proxy.cli import reload
from mcp_proxy.sandbox import Account as Upstream
from mcp_proxy.sandbox import Received, Sandbox
from tests.e2e.harness import Proxy, message, running
from tests.faults.line import until


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_SECONDS", 0.005)


async def rewrite(home: Path, proxy: Proxy, toml: str, taken: Callable[[], object] | None = None) -> None:
    """Put another config file in place, and wait until it holds."""
    policy = proxy.gateway.policy
    (home / "config.toml").write_text(toml)
    await until(taken or (lambda: proxy.gateway.policy is not policy), 10.0)


def asked(account: Upstream, path: str) -> list[Received]:
    return [each for each in account.received if each.path.endswith(path)]


async def model_for(proxy: Proxy, name: str) -> tuple[int, str | None]:
    answer = await proxy.ask(model=name)
    return answer.status_code, answer.headers.get("x-proxy-model")


async def test_tiers_aliases_and_a_providers_own_aliases_come_and_go(tmp_path: Path) -> None:
    async with Sandbox(["anthropic", "zai"]) as box:
        a, z = box.account("anthropic", alias="a"), box.account("zai", alias="z")
        async with running(tmp_path, box, ("anthropic", a), ("zai", z)) as proxy:
            assert await model_for(proxy, "claude-haiku-4-5") == (200, "claude-haiku-4-5")
            await rewrite(tmp_path, proxy, '[routing.tiers]\nhaiku = "zai/glm-4.7"\n')
            assert await model_for(proxy, "claude-haiku-4-5") == (200, "glm-4.7")
            await rewrite(tmp_path, proxy, '[routing.aliases]\n"mine" = "glm-4.5-air"\n')
            assert await model_for(proxy, "claude-haiku-4-5") == (200, "claude-haiku-4-5")
            assert await model_for(proxy, "mine") == (200, "glm-4.5-air")
            body = {"model": "mine", "messages": message()["messages"]}
            count = await proxy.client.post("/v1/messages/count_tokens", json=body)
            assert count.status_code == 200
            await rewrite(
                tmp_path, proxy, '[providers.zai.aliases]\n"claude-haiku-*" = "glm-4.7"\ntheirs = "glm-4.7"\n'
            )
            assert await model_for(proxy, "theirs") == (200, "glm-4.7")
            assert await model_for(proxy, "mine") == (404, "none")
            assert (await proxy.client.get("/v1/models/mine")).status_code == 404


async def test_configured_accounts_come_go_and_change_their_keys(tmp_path: Path) -> None:
    async with Sandbox(["zai", "anthropic"]) as box:
        one, two, claude = box.account("zai", alias="one"), box.account("zai", alias="two"), box.account("anthropic")
        environ = {"ONE": one.key, "TWO": two.key, "CLAUDE": claude.key}

        def provider(name: str, key: str) -> str:
            return f'[providers.{name}]\nbase_url = "{box.url(name)}"\napi_key = "${{{key}}}"\n'

        async with running(tmp_path, box, toml=provider("zai", "ONE"), environ=environ) as proxy:
            assert await model_for(proxy, "glm-4.7") == (200, "glm-4.7")
            await rewrite(tmp_path, proxy, provider("zai", "TWO") + provider("anthropic", "CLAUDE"))
            assert await model_for(proxy, "glm-4.7") == (200, "glm-4.7")
            assert [len(asked(each, "/v1/messages")) for each in (one, two)] == [1, 1]
            assert (await proxy.ask()).headers["x-proxy-account"] == "anthropic/config-anthropic"
            await rewrite(tmp_path, proxy, provider("anthropic", "CLAUDE"))
            assert await model_for(proxy, "glm-4.7") == (404, "none")
            assert [account["id"] for account in (await proxy.limits()).values()] == ["config-anthropic"]


async def test_an_address_that_changes_moves_the_accounts_there(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as first, Sandbox(["anthropic"]) as second:
        a = first.account("anthropic", alias="a")
        b = second.account("anthropic", alias="b", key=a.key)
        toml = '[providers.anthropic]\nbase_url = "{}"\napi_key = "${{KEY}}"\n'
        at = toml.format(first.url("anthropic"))
        async with running(tmp_path, first, toml=at, environ={"KEY": a.key}) as proxy:
            assert (await proxy.ask()).status_code == 200
            await rewrite(tmp_path, proxy, toml.format(second.url("anthropic")))
            assert (await proxy.ask()).status_code == 200
            assert [len(asked(each, "/v1/messages")) for each in (a, b)] == [1, 1]


async def test_a_broken_file_changes_nothing_and_a_repaired_one_does(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        async with running(tmp_path, box, ("anthropic", box.account("anthropic", alias="a"))) as proxy:
            before = proxy.gateway.policy
            (tmp_path / "config.toml").write_text("[routing]\nmax_attempts = 'many'\n")
            await asyncio.sleep(0.05)  # ten looks
            assert proxy.gateway.policy is before
            assert (await proxy.ask()).status_code == 200
            await rewrite(tmp_path, proxy, "[routing]\nmax_attempts = 3\n")
            assert proxy.gateway.policy.max_attempts == 3


async def test_requests_under_way_end_with_what_they_began_with(tmp_path: Path) -> None:
    """Its account is taken away under a running answer, and the policy under a request that is looking for one."""
    async with Sandbox(["zai"]) as box:
        zai = box.account("zai", alias="z")
        toml = f'[providers.zai]\nbase_url = "{box.url("zai")}"\napi_key = "${{ZAI}}"\n'
        async with running(tmp_path, box, toml=toml, environ={"ZAI": zai.key}) as proxy:
            async with proxy.client.stream(
                "POST",
                "/v1/messages",
                json={
                    "model": "glm-4.7",
                    "max_tokens": 9,
                    "stream": True,
                    "messages": [{"role": "user", "content": "x"}],
                },
            ) as answer:
                exchange = proxy.gateway.recent[-1]
                await rewrite(tmp_path, proxy, "")
                text = "".join([part async for part in answer.aiter_text()])
            assert text.endswith('"message_stop"}\n\n')
            assert exchange.around.policy is not proxy.gateway.policy
            await until(lambda: exchange.outcome == "ok")
            assert await model_for(proxy, "glm-4.7") == (503, "none")


async def test_a_size_class_has_an_account_of_its_own_and_the_others_go_elsewhere(tmp_path: Path) -> None:
    async with Sandbox(["anthropic", "zai"]) as box:
        a, z = box.account("anthropic", alias="a"), box.account("zai")
        environ = {"HAIKU_PROVIDER_BASE_URL": box.url("zai"), "HAIKU_PROVIDER_API_KEY": z.key}
        toml = f'[providers.zai]\nbase_url = "{box.url("zai")}"\n'
        async with running(tmp_path, box, ("anthropic", a), toml=toml, environ=environ) as proxy:
            served = {
                name: (await proxy.ask(model=name)).headers["x-proxy-account"].partition("/")[0]
                for name in ("claude-haiku-4-5", "claude-sonnet-5", "claude-opus-5")
            }
            assert served == {"claude-haiku-4-5": "zai", "claude-sonnet-5": "anthropic", "claude-opus-5": "anthropic"}
            assert len(asked(z, "/v1/messages")) == 1
