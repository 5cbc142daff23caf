"""A caller's own login at Anthropic, through the real server: where it goes, and whose windows are whose."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts.model import Account as StoredAccount
from accounts.model import AccountId, CallersOwn, ClaudeCodeLogin, Works
from mcp_proxy.cli import accounts as commands
from mcp_proxy.cli.compose import serving
from mcp_proxy.sandbox import Account, Sandbox, Window, refusals
from tests.e2e.harness import KEY, Proxy, Stored, message, serving_accounts, settings, store
from tests.faults.secrets import MARK
from tests.faults.watch import WatchedClient

PLAN = "claude-subscription"
BETA = {"anthropic-beta": "oauth-2025-04-20,claude-code-20250219"}
UNIFIED = "anthropic-ratelimit-unified-"


def login(name: str) -> str:
    return f"sk-ant-oat01-{MARK}-login-of-{name}"


def caller(box: Sandbox, name: str, **how: Any) -> Account:
    """A person with a plan, at the sandbox."""
    return box.account(PLAN, alias=name, key=login(name), **how)


def template(box: Sandbox, **more: Any) -> Stored:
    return (PLAN, CallersOwn(), {"label": "plan", "base_url": box.url(PLAN), **more})


def stored(box: Sandbox, host: str, account: Account, **more: Any) -> Stored:
    return (host, account.key, {"label": account.alias, "base_url": box.url(host), **more})


async def ask(proxy: Proxy, who: str | None, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    """A request as Claude Code sends it: its own login, and the proxy's key beside it."""
    headers = {"x-proxy-api-key": KEY, **BETA, **fields.pop("headers", {})}
    if who is not None:
        headers["authorization"] = f"Bearer {who}"
    body = message(**fields)
    if path.endswith("count_tokens"):
        del body["max_tokens"]
    request = proxy.client.build_request("POST", path, json=body, headers=headers)
    del request.headers["x-api-key"]
    return await proxy.client.send(request)


def asked(box: Sandbox, host: str) -> list[str]:
    """The paths that a host was asked for."""
    return [each.path for each in box.received if each.host == host and "/v1/messages" in each.path]


def whoever_was_sent(box: Sandbox, secret: str) -> set[str]:
    """The hosts that received a secret, in a header or in a body."""
    return {
        each.host
        for each in box.received
        if secret in str(each.headers) or secret.encode() in each.body + each.target.encode()
    }


async def test_a_login_goes_on_as_it_came_to_anthropic_alone(tmp_path: Path) -> None:
    async with Sandbox([PLAN, "anthropic", "zai"]) as box:
        one, api, zai = caller(box, "one"), box.account("anthropic"), box.account("zai")
        accounts = [template(box), stored(box, "anthropic", api, tier=2), stored(box, "zai", zai)]
        async with serving_accounts(tmp_path, accounts) as proxy:
            for stream in (False, True):
                answer = await ask(proxy, login("one"), stream=stream)
                assert answer.status_code == 200
                assert answer.headers["x-proxy-account"] == f"{PLAN}/{proxy.ids['plan']}"
                assert answer.headers[f"{UNIFIED}status"] == "allowed"
                assert answer.headers[f"{UNIFIED}5h-utilization"]
            why = (await proxy.client.get("/why/last")).json()
            assert (why["account"], why["label"]) == (proxy.ids["plan"], "plan")
            got = one.received[-1]
            assert got.header("authorization") == f"Bearer {login('one')}" and got.header("x-api-key") is None
            assert got.header("anthropic-beta") == BETA["anthropic-beta"]
            counted = await ask(proxy, login("one"), "/v1/messages/count_tokens")
            assert counted.status_code == 200 and one.received[-1].path == "/v1/messages/count_tokens"
            one.script(refusals.overloaded())
            away = await ask(proxy, login("one"))
            assert away.headers["x-proxy-account"].startswith("anthropic/")
            why = (await proxy.client.get("/why/last")).json()
            known = {(each["account"], each["label"]) for each in why["accounts"]}
            assert known == {(proxy.ids[name], name) for name in ("plan", "anthropic-1", "zai-1")}, "ids as stored"
            assert "@" not in (await proxy.client.get("/metrics")).text
            assert not [name for name in away.headers if name.startswith(UNIFIED)]
            assert (await ask(proxy, login("one"), model="glm-4.7")).status_code == 200
            listed = await proxy.client.get("/account-limits?refresh=true")
            assert login("one") not in listed.text
            assert whoever_was_sent(box, login("one")) == {PLAN}
            assert whoever_was_sent(box, KEY) == set() and box.complaints == []
            assert not any(exchange.ask.login or exchange._asking.token for exchange in proxy.gateway.recent)


async def test_each_caller_has_windows_of_its_own_and_keeps_them_over_a_restart(tmp_path: Path) -> None:
    async with Sandbox([PLAN]) as box:
        one = caller(box, "one", windows=(Window("5h", 40_000, 3600.0), Window("7d", 400_000, 86_400.0)))
        caller(box, "two")
        at = settings(tmp_path)
        store(at, [template(box)])
        async with serving(at, 2.0) as (url, gateway, server), WatchedClient(base_url=url, trust_env=False) as client:
            proxy = Proxy(url, gateway, server, client)
            client.headers["x-api-key"] = KEY
            for who in ("one", "two"):
                assert (await ask(proxy, login(who))).status_code == 200
            one.drain("5h")
            refused = await ask(proxy, login("one"))
            assert refused.status_code == 429 and "RESOURCE_EXHAUSTED" in refused.text
            assert refused.headers[f"{UNIFIED}5h-status"] == "rejected", "its own windows are told to it"
            assert (await ask(proxy, login("two"))).status_code == 200
            (limits,) = (await proxy.client.get("/account-limits")).json()["accounts"]
            assert sorted(each["status"] for each in limits["callers"]) == ["ok", "rate_limited"]
            assert limits["status"] == "ok" and limits["last_used"]
            names = {each["caller"] for each in limits["callers"]}
        seen = len(one.received)
        async with serving(at, 2.0) as (url, gateway, server), WatchedClient(base_url=url, trust_env=False) as client:
            proxy = Proxy(url, gateway, server, client)
            client.headers["x-api-key"] = KEY
            again = await ask(proxy, login("one"))
            assert again.status_code == 429 and len(one.received) == seen, "it is known to be closed"
            assert (await ask(proxy, login("two"))).status_code == 200
            assert {seat.caller for seat in gateway.pool.callers} == names


async def test_a_login_that_is_refused_is_told_as_it_was_and_nobody_else_is_asked(tmp_path: Path) -> None:
    async with Sandbox([PLAN, "anthropic"]) as box:
        one, api = caller(box, "one"), box.account("anthropic")
        accounts = [template(box), stored(box, "anthropic", api, tier=2)]
        async with serving_accounts(tmp_path, accounts) as proxy:
            one.revoked = True
            for path in ("/v1/messages", "/v1/messages/count_tokens"):
                answer = await ask(proxy, login("one"), path)
                assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
                assert answer.json()["error"]["message"].startswith("OAuth token has expired")
                assert answer.json()["request_id"].startswith("req_sandbox"), "its own body"
                assert "x-should-retry" not in answer.headers
            assert asked(box, "anthropic") == []
            one.revoked = False
            assert (await ask(proxy, login("one"))).status_code == 200, "it was not closed for that"
            alone = (
                "This credential is only authorized for use with Claude Code and cannot be used for other API requests."
            )
            for fault in (refusals.bad_request(alone), refusals.forbidden(alone)):
                one.script(fault)
                answer = await ask(proxy, login("one"))
                assert answer.status_code in (400, 403) and alone in answer.text
            assert asked(box, "anthropic") == []
            assert (await proxy.limits())["plan"]["error"] is None


async def test_a_plan_that_is_used_up_goes_on_at_another_provider_without_its_login(tmp_path: Path) -> None:
    async with Sandbox([PLAN, "anthropic", "zai"]) as box:
        one, api, zai = caller(box, "one"), box.account("anthropic"), box.account("zai")
        accounts = [
            stored(box, "anthropic", api, tier=1),
            template(box, tier=2),
            stored(box, "zai", zai, tier=3),
        ]
        async with serving_accounts(tmp_path, accounts, "[routing]\nfallback = true\n") as proxy:
            api.always(refusals.rate_limited(3600))
            answer = await ask(proxy, login("one"), headers={"x-claude-code-session-id": "s1"})
            assert answer.headers["x-proxy-account"].startswith(PLAN)
            one.script(refusals.plan_limit())
            answer = await ask(proxy, login("one"), headers={"x-claude-code-session-id": "s1"})
            assert answer.headers["x-proxy-account"].startswith("zai/") and answer.status_code == 200
            assert not [name for name in answer.headers if name.startswith(UNIFIED)]
            assert whoever_was_sent(box, login("one")) == {PLAN}
            assert box.complaints == []


OTHERS = (None, f"{MARK}-some-other-token", f"sk-ant-api03-{MARK}-a-key", f"sk-ant-oat01-{MARK} two words")
"""What is no login at Anthropic, or none that can be."""


async def test_without_a_login_such_an_account_is_not_there(tmp_path: Path) -> None:
    async with Sandbox([PLAN, "zai"]) as box:
        caller(box, "one")
        accounts = [template(box), stored(box, "zai", box.account("zai"))]
        async with serving_accounts(tmp_path / "both", accounts) as proxy:
            for bearer in OTHERS:
                answer = await ask(proxy, bearer)
                assert (answer.status_code, answer.headers["x-proxy-account"][:4]) == (200, "zai/")
        async with serving_accounts(tmp_path / "alone", accounts[:1]) as proxy:
            for bearer in OTHERS:
                answer = await ask(proxy, bearer)
                assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
                assert "no login of its caller's own" in answer.text
                assert (await ask(proxy, bearer, "/v1/messages/count_tokens")).status_code == 200, "an estimate"
        assert asked(box, PLAN) == []


# Claude Code's own login, read where it lies


def written(path: Path, token: str, seconds: float = 3600.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {
        "accessToken": token,
        "refreshToken": f"sk-ant-ort01-{MARK}",
        "expiresAt": int((time.time() + seconds) * 1000),
    }
    path.write_text(json.dumps({"claudeAiOauth": held, "mcpOAuth": {"of": "others"}}))
    return path


def at_hand(box: Sandbox, path: Path) -> Stored:
    return (PLAN, ClaudeCodeLogin(str(path)), {"label": "mine", "base_url": box.url(PLAN)})


@pytest.fixture
def credentials(tmp_path: Path) -> Iterator[Path]:
    """Where Claude Code keeps its login: outside of what is searched for secrets, and gone afterwards."""
    path = tmp_path / "claude" / ".credentials.json"
    yield path
    path.unlink(missing_ok=True)


async def test_the_login_of_this_machine_serves_its_own_programs_alone(tmp_path: Path, credentials: Path) -> None:
    async with Sandbox([PLAN]) as box:
        mine = caller(box, "mine")
        path = written(credentials, login("mine"))
        before = path.read_bytes()
        async with serving_accounts(tmp_path / "proxy", [at_hand(box, path)]) as proxy:
            answer = await proxy.ask(headers={"anthropic-beta": "claude-code-20250219"})
            assert (answer.status_code, answer.headers[f"{UNIFIED}status"]) == (200, "allowed")
            assert mine.received[-1].header("anthropic-beta") == "claude-code-20250219,oauth-2025-04-20"
            seen = len(box.received)
            for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
                refused = await proxy.ask(headers={name: "192.0.2.1"})
                assert (refused.status_code, "on this machine only" in refused.text) == (503, True)
            assert len(box.received) == seen
            (seat,) = proxy.gateway.pool.seats
            assert (seat.tier, seat.local, path.read_bytes()) == (1000, True, before)
        remote = {"BIND_ADDRESS": "0.0.0.0"}
        async with serving_accounts(tmp_path / "open", [at_hand(box, path)], environ=remote) as proxy:
            assert (await proxy.ask()).status_code == 503
        assert len(box.received) == seen and box.complaints == []


async def test_a_login_is_verified_by_its_own_page_and_never_marked(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sandbox([PLAN]) as box:
        mine = caller(box, "mine")
        monkeypatch.setenv("MCP_PROXY_HOME", str(tmp_path / "home"))
        commands.settings.cache_clear()
        provider, held, fields = at_hand(box, written(credentials, login("mine")))
        assert isinstance(held, ClaudeCodeLogin)
        account = StoredAccount(AccountId("a"), provider, **fields)
        assert (await asyncio.to_thread(commands.verify, account, held)).works is Works.YES
        assert [(each.path, each.header("authorization")) for each in mine.received] == [
            ("/api/oauth/usage", f"Bearer {login('mine')}")
        ]
        mine.revoked = True
        refused = await asyncio.to_thread(commands.verify, account, held)
        assert refused.works is Works.REFUSED and MARK not in refused.detail
        written(credentials, login("mine"), seconds=-1)
        assert "run `claude` once" in (await asyncio.to_thread(commands.verify, account, held)).detail
        own = await asyncio.to_thread(commands.verify, account, CallersOwn())
        assert own.works is Works.YES and box.complaints == []
        commands.settings.cache_clear()


def renewed_meanwhile(proxy: Proxy, box: Sandbox, path: Path, token: str) -> None:
    """As if Claude Code wrote another login at the moment at which the old one is refused."""
    read, refused = proxy.gateway._tokens.login, sum(each.answered == 401 for each in box.received)

    def reading(of: ClaudeCodeLogin) -> Any:
        if sum(each.answered == 401 for each in box.received) > refused:
            written(path, token)
        return read(of)

    proxy.gateway._tokens.login = reading


async def test_a_login_that_claude_code_renewed_is_read_again(tmp_path: Path, credentials: Path) -> None:
    async with Sandbox([PLAN]) as box:
        old = caller(box, "old")
        path = written(credentials, login("old"))
        async with serving_accounts(tmp_path / "proxy", [at_hand(box, path)]) as proxy:
            assert (await proxy.ask()).status_code == 200
            caller(box, "new")
            old.revoked = True
            renewed_meanwhile(proxy, box, path, login("new"))
            assert (await proxy.ask()).status_code == 200
            assert [each.answered for each in box.received] == [200, 401, 200]


async def test_a_login_that_will_not_do_says_who_can_renew_it_and_others_serve(
    tmp_path: Path, credentials: Path
) -> None:
    async with Sandbox([PLAN, "anthropic"]) as box:
        api = box.account("anthropic")
        mine = at_hand(box, written(credentials, login("old")))
        both = [(*mine[:2], {**mine[2], "tier": 1}), stored(box, "anthropic", api, tier=2)]
        async with serving_accounts(tmp_path / "other", both) as proxy:
            assert proxy.named(await proxy.ask()) == api.alias
            limits = (await proxy.limits())["mine"]
            assert (limits["status"], limits["error"]) == ("rate_limited", None)
        async with serving_accounts(tmp_path / "alone", both[:1]) as proxy:
            renewed_meanwhile(proxy, box, credentials, login("nobody"))
            answer = await proxy.ask()
            assert answer.status_code == 429 and "run `claude` once to renew your login" in answer.text
            assert answer.headers["x-should-retry"] == "false", "no client waits for that"
        written(credentials, login("old"), seconds=-1)
        async with serving_accounts(tmp_path / "expired", both[:1]) as proxy:
            seen = len(box.received)
            answer = await proxy.ask()
            assert answer.status_code == 429 and "run `claude` once to renew your login" in answer.text
            assert len(box.received) == seen


async def test_callers_are_told_of_and_counted_as_the_account_they_use(tmp_path: Path) -> None:
    async with Sandbox([PLAN]) as box:
        async with serving_accounts(tmp_path, [template(box)]) as proxy:
            for who in ("one", "two", "three"):
                caller(box, who)
                assert (await ask(proxy, login(who))).status_code == 200
            why = (await proxy.client.get("/why/last")).json()
            told = {(each["account"], each["provider"], each["label"]) for each in (why, *why["accounts"])}
            assert told == {(proxy.ids["plan"], PLAN, "plan")} and why["caller"]
            assert why["attempts"][0]["label"] == "plan"
            (used,) = (await proxy.client.get("/usage?by=account")).json()["groups"]
            assert (used["group"], used["label"], used["requests"]) == (proxy.ids["plan"], "plan", 3)
            metrics = (await proxy.client.get("/metrics")).text
            assert f'attempts_total{{account="{PLAN}/{proxy.ids["plan"]}",outcome="answered"}} 3' in metrics
            assert "@" not in metrics, "a line for each login would be without end"
