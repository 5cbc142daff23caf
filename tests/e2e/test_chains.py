"""What the README shows under "When things run out", pasted as it stands and run in front of the sandbox."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts.model import CallersOwn
from mcp_proxy.core.change import Tripped, breaker_of
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.routing import breaker
from mcp_proxy.sandbox import Account, Sandbox, Window, faults, refusals
from mcp_proxy.sandbox.google.account import GoogleAccount
from tests.e2e.harness import KEY, Proxy, Stored, message, serving_accounts
from tests.faults.secrets import MARK

README = (Path(__file__).parents[2] / "README.md").read_text()
PLAN = "claude-subscription"
LOGIN = f"sk-ant-oat01-{MARK}-login-of-the-caller"
HOSTS = ("anthropic", "zai", "antigravity", PLAN)
SONNET, HAIKU, OPUS = "claude-sonnet-5", "claude-haiku-4-5", "claude-opus-5-5"


def recipe(title: str) -> str:
    (found,) = re.findall(rf"```toml\n# {title}\n(.*?)```", README, re.DOTALL)
    return str(found)


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(HOSTS) as made:
        yield made


@contextlib.asynccontextmanager
async def chain(home: Path, box: Sandbox, toml: str, *accounts: Stored, **more: str) -> AsyncIterator[Proxy]:
    """The proxy with a recipe: every provider is at the sandbox, keys come from the variables that it names."""
    environ = box.settings("antigravity") | more
    for host in HOSTS:
        if host != "antigravity":
            environ[f"MCP_PROXY_PROVIDERS__{host.upper().replace('-', '_')}__BASE_URL"] = box.url(host)
    async with serving_accounts(home, accounts, toml, environ=environ) as proxy:
        yield proxy


def plan(label: str = "plan") -> Stored:
    return (PLAN, CallersOwn(), {"label": label})


def google(account: GoogleAccount) -> Stored:
    return ("antigravity", account.grant(), {"label": account.alias})


async def ask(proxy: Proxy, model: str = SONNET, login: str | None = LOGIN, **fields: Any) -> httpx.Response:
    """As Claude Code asks that is logged in itself: its login, and the proxy's key beside it."""
    headers = {"x-proxy-api-key": KEY, "anthropic-beta": "oauth-2025-04-20"}
    if login is not None:
        headers["authorization"] = f"Bearer {login}"
    request = proxy.client.build_request("POST", "/v1/messages", json=message(model=model, **fields), headers=headers)
    del request.headers["x-api-key"]
    return await proxy.client.send(request)


def served(answer: httpx.Response) -> tuple[str, str]:
    """Which provider answered, and by which model."""
    assert answer.status_code == 200, answer.text
    return answer.headers["x-proxy-account"].partition("/")[0], answer.headers["x-proxy-model"]


async def why(proxy: Proxy, answer: httpx.Response) -> dict[str, str]:
    """Each account's verdict or reason, from the journal."""
    document = (await proxy.client.get(f"/why/{answer.headers['request-id']}")).json()
    names = [each["account"] for each in document["accounts"]]
    assert len(names) == len(set(names)) == len(proxy.gateway.pool.seats)
    return {each["provider"]: each["reason"] for each in document["accounts"]}


async def test_the_next_provider_follows_whatever_the_first_one_suffers(tmp_path: Path, box: Sandbox) -> None:
    api, glm = box.account("anthropic"), box.account("zai")
    keys = {"ANTHROPIC_API_KEY": api.key, "ZAI_API_KEY": glm.key}
    async with chain(tmp_path, box, recipe("the next provider"), **keys) as proxy:
        assert served(await proxy.ask(model=HAIKU)) == ("anthropic", HAIKU)
        for fault in (refusals.overloaded(), refusals.rate_limited(90), refusals.html_502(), faults.reset()):
            api.well()
            await proxy.client.post("/reset", json={})
            api.always(fault)
            for model, by in ((HAIKU, "glm-4.5-air"), (SONNET, "glm-4.7"), (OPUS, "glm-4.7")):
                answer = await proxy.ask(model=model)
                assert (served(answer), answer.json()["model"]) == (("zai", by), model), fault
        assert (await why(proxy, answer))["zai"] in ("first_choice", "failover", "sticky")
        assert (await proxy.ask(model="glm-4.6")).status_code == 200, "its own names stay its own"


async def test_what_the_list_of_statuses_leaves_out_goes_back_as_it_came(tmp_path: Path, box: Sandbox) -> None:
    api, glm = box.account("anthropic"), box.account("zai")
    api.always(refusals.overloaded())
    toml = recipe("the next provider") + "[routing]\nfailover_on = [429, 502]\n"
    async with chain(tmp_path, box, toml, ANTHROPIC_API_KEY=api.key, ZAI_API_KEY=glm.key) as proxy:
        answer = await proxy.ask()
        assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
        api.well()
        api.always(refusals.plan_limit())
        assert served(await proxy.ask())[0] == "zai", "a quota that is used up is never the end"


async def test_rows_of_ones_own_say_who_stands_in(tmp_path: Path, box: Sandbox) -> None:
    account, glm = box.account("antigravity", alias="g"), box.account("zai")
    asked = "claude-opus-4-6-thinking"
    async with chain(
        tmp_path, box, recipe("another model"), google(account), ("zai", glm.key, {"label": "z"})
    ) as proxy:
        for spent, by in ((None, asked), ("3p", "gemini-pro-agent"), ("gemini", "glm-5.2")):
            if spent is not None:
                account.drain(f"{spent}-5h")
            answer = await proxy.ask(model=asked)
            assert (served(answer)[1], answer.json()["model"]) == (by, asked)
        assert (await proxy.ask(model="gemini-3-flash")).status_code == 429, "nobody stands in for it"


@pytest.mark.parametrize("by_variables", [False, True])
async def test_haiku_goes_elsewhere_while_all_else_passes_the_callers_login_on(
    tmp_path: Path, box: Sandbox, by_variables: bool
) -> None:
    glm, mine = box.account("zai"), box.account(PLAN, key=LOGIN)
    variables = {
        "HAIKU_PROVIDER_BASE_URL": box.url("zai"),
        "HAIKU_PROVIDER_API_KEY": glm.key,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-4.5-air",
    }
    toml, more = ("", variables) if by_variables else (recipe("haiku elsewhere"), {"ZAI_API_KEY": glm.key})
    async with chain(tmp_path, box, toml, plan(), **more) as proxy:
        for model, by in ((HAIKU, ("zai", "glm-4.5-air")), (SONNET, (PLAN, SONNET)), (OPUS, (PLAN, OPUS))):
            answer = await ask(proxy, model)
            assert (served(answer), answer.json()["model"]) == (by, model)
        assert {each.header("authorization") for each in mine.received} == {f"Bearer {LOGIN}"}
        assert not any(LOGIN in str(each.headers) for each in glm.received), "the login goes to nobody else"
        mine.revoked = True
        assert (await ask(proxy, OPUS)).status_code == 401, "and Claude Code renews it"
        assert served(await ask(proxy, HAIKU))[0] == "zai"
    assert box.complaints == []


def on_budget(tokens: int) -> str:
    return recipe("a weekly budget").replace("20_000_000", str(tokens))


async def test_a_weekly_budget_runs_out_then_the_plan_and_then_glm_serves(tmp_path: Path, box: Sandbox) -> None:
    api, glm = box.account("anthropic", windows=()), box.account("zai")
    mine = box.account(PLAN, key=LOGIN, windows=(Window("5h", 100_000, 3600.0), Window("7d", 900_000, 86_400.0)))
    keys = {"ANTHROPIC_API_KEY": api.key, "ZAI_API_KEY": glm.key}
    course = []
    async with chain(tmp_path, box, on_budget(400), plan(), **keys) as proxy:
        for _ in range(40):
            answer = await ask(proxy)
            course.append(served(answer)[0])
            if course[-1] != "anthropic":
                break
        assert course.index(PLAN) == len(course) - 1 > 1, course
        assert (await why(proxy, answer))["anthropic"] in ("limited", "soft_limited")
        assert served(await ask(proxy, login=None))[0] in ("anthropic", "zai"), "who brings no login has no plan"
        mine.drain("5h")
        assert served(await ask(proxy)) == ("zai", "glm-4.7")
        limits = (await proxy.client.get("/account-limits")).json()
        (told,) = [each for each in limits["accounts"] if each["provider"] == "anthropic"]
        windows = told["limits"][f"anthropic/{SONNET}"]["windows"]
        (left,) = [each["remaining_fraction"] for each in windows if each["name"] == "budget-7d"]
        assert left <= 0.1 + 1e-6
    async with chain(tmp_path, box, on_budget(1), **keys) as proxy:  # the plan is stored already
        answer = await proxy.ask()
        assert served(answer)[0] == "zai", "what was counted outlives the process"
        assert (await why(proxy, answer))["anthropic"] == "limited"
        usage = (await proxy.client.get("/usage?by=provider")).json()
        assert {each["group"] for each in usage["groups"]} >= {"anthropic", "zai", PLAN}
    assert not any(LOGIN in str(each.headers) for each in (*api.received, *glm.received))


def over(proxy: Proxy, label: str) -> None:
    """Say of an account's breaker that it need not stay open any longer."""
    seat, now = proxy.gateway.pool.seat(AccountId(proxy.ids[label])), proxy.gateway.now()
    assert seat is not None and seat.breaker.trips
    ended = seat.breaker._replace(until=now, at=Instant(seat.breaker.at + 1e-5))
    proxy.gateway.pool.apply([Tripped(breaker_of(seat.id), ended)])


async def test_plans_then_antigravity_then_glm_with_a_breaker_that_opens_and_closes(
    tmp_path: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STUMBLED_SECONDS", "DEGRADED_SECONDS", "SPARED_SECONDS"):
        monkeypatch.setattr(breaker, name, 0.0)
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 120.0)
    mine, glm, other = box.account(PLAN, key=LOGIN), box.account("zai"), box.account("antigravity", alias="g")
    async with chain(
        tmp_path, box, recipe("plans, antigravity, glm"), plan(), google(other), ZAI_API_KEY=glm.key
    ) as proxy:
        assert served(await ask(proxy, OPUS)) == (PLAN, OPUS)
        mine.always(refusals.plan_limit())
        assert served(await ask(proxy, OPUS)) == ("antigravity", "claude-opus-4-6-thinking")
        other.always(refusals.overloaded())
        attempts = []
        for _ in range(7):
            answer = await ask(proxy, OPUS)
            assert served(answer)[0] == "zai"
            attempts.append(answer.headers["x-proxy-attempts"])
        assert attempts[-1] == "1" and "2" in attempts, "nobody asks it any more"
        assert (await why(proxy, answer))["antigravity"] == "breaker_open"
        assert "g: open" in str(await states(proxy))
        other.well()
        over(proxy, "g")
        assert served(await ask(proxy, OPUS))[0] == "antigravity", "one request has let it in"
        assert "g: closed" in str(await states(proxy))


async def states(proxy: Proxy) -> list[str]:
    health = (await proxy.client.get("/health")).json()
    return [f"{each['label']}: {each['breaker']['state']}" for each in health["accounts"]]


def drained(box: Sandbox, alias: str, **left: float) -> Account:
    account = box.account("zai", alias=alias)
    for window, fraction in left.items():
        account.drain(window.removeprefix("w"), to=fraction)
    return account


@pytest.mark.parametrize(
    ("left", "first"),
    [({"w5h": 0.15}, True), ({"w5h": 0.05}, False), ({"w7d": 0.35}, True), ({"w7d": 0.25}, False), ({}, True)],
)
async def test_each_window_has_its_own_reserve(
    tmp_path: Path, box: Sandbox, left: dict[str, float], first: bool
) -> None:
    low, full = drained(box, "low", **left), drained(box, "full")
    held = [("zai", low.key, {"label": "low", "tier": 1}), ("zai", full.key, {"label": "full", "tier": 2})]
    async with chain(tmp_path, box, recipe("reserves"), *held) as proxy:
        await proxy.client.get("/account-limits?refresh=true")
        assert proxy.named(await proxy.ask(model="glm-4.7")) == ("low" if first else "full")
