from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import httpx

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox import Account, Answer, Counts, Sandbox, Text, Window
from tests.mcp_proxy.sandbox.asking import body, client, post

NOW = 1_790_000_000.0
LARGE = Answer((Text("large"),), usage=Usage(input=600, output=300))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def limits(got: httpx.Response, family: str) -> tuple[int, int, float]:
    named = [got.headers[f"anthropic-ratelimit-{family}-{name}"] for name in ("limit", "remaining", "reset")]
    return int(named[0]), int(named[1]), datetime.fromisoformat(named[2]).timestamp()


async def monitor(box: Sandbox, account: Account, **fields: str) -> httpx.Response:
    url = box.url("zai").removesuffix("/api/anthropic") + "/api/monitor/usage/quota/limit"
    named = {"authorization": account.key, "accept-encoding": "identity", **fields}
    async with client() as asking:
        return await asking.get(url, headers=named)


async def test_each_answer_of_anthropic_tells_four_limits_that_go_down() -> None:
    async with Sandbox(clock=Clock()) as box:
        account = box.account("anthropic")
        account.speak(LARGE)
        for count in (1, 2):
            got = await post(box, account, body())
            assert limits(got, "requests") == (1000, 1000 - count, NOW + 60)
            assert limits(got, "input-tokens") == (2_000_000, round(2_000_000 - 600 * count, -3), NOW + 60)
            assert limits(got, "output-tokens") == (400_000, round(400_000 - 300 * count, -3), NOW + 60)
            assert limits(got, "tokens")[0] == 400_000, "the tightest of the two"


async def test_an_empty_window_refuses_until_it_starts_over() -> None:
    clock = Clock()
    async with Sandbox(clock=clock) as box:
        account = box.account("anthropic", windows=[Window("5h", 1000, 90.0)])
        account.speak(LARGE)
        assert (await post(box, account, body())).status_code == 200
        assert (await post(box, account, body())).status_code == 200, "what is left is enough to begin"
        clock.now += 10.5
        got = await post(box, account, body())
        assert (got.status_code, got.json()["error"]["type"]) == (429, "rate_limit_error")
        assert got.headers["retry-after"] == "80"
        assert limits(got, "tokens") == (1000, 0, NOW + 90)
        clock.now = NOW + 90
        assert (await post(box, account, body())).status_code == 200
        assert account.windows["5h"].resets_at == NOW + 90 + 5 * 3600


async def test_a_window_is_drained_by_hand_to_what_should_be_left() -> None:
    async with Sandbox(clock=Clock()) as box:
        account = box.account("anthropic", windows=[Window("rpm", 100, counts=Counts.REQUESTS)])
        account.drain("rpm", to=0.15)
        assert limits(await post(box, account, body()), "requests")[:2] == (100, 14)
        account.drain("rpm")
        assert (await post(box, account, body())).status_code == 429


async def test_zai_refuses_in_prose_with_the_time_of_its_own_zone_and_no_hint() -> None:
    async with Sandbox(clock=Clock()) as box:
        for name, code, seconds in (("5h", "1308", 600.0), ("7d", "1310", 90_000.0)):
            account = box.account("zai", key=f"key.{name}", windows=[Window(name, 1000, seconds)])
            account.drain(name)
            got = await post(box, account, body("glm-4.7"), at="zai")
            error = got.json()["error"]
            assert (got.status_code, error["code"], error["type"]) == (429, code, "rate_limit_error")
            assert "retry-after" not in got.headers
            written = re.search(r"reset at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", error["message"])
            assert written is not None
            until = datetime.strptime(written[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone(timedelta(hours=8)))
            assert until.timestamp() == NOW + seconds


async def test_zai_tells_what_is_used_on_its_monitor() -> None:
    async with Sandbox(clock=Clock()) as box:
        account = box.account("zai")
        account.level = "max"
        account.drain("5h", to=0.63)
        found = (await monitor(box, account)).json()
        assert (found["success"], found["data"]["level"]) == (True, "max")
        five, week, tools = found["data"]["limits"]
        assert five == {
            "type": "TOKENS_LIMIT",
            "unit": 3,
            "number": 5,
            "percentage": 37,
            "nextResetTime": int((NOW + 5 * 3600) * 1000),
        }
        assert (week["unit"], week["number"], week["percentage"]) == (6, 1, 0)
        assert tools["type"] == "TIME_LIMIT"
        assert (await monitor(box, account, authorization=f"Bearer {account.key}")).json()["success"] is True


async def test_zai_s_monitor_refuses_a_key_with_a_success() -> None:
    async with Sandbox() as box:
        got = await monitor(box, box.account("zai"), authorization="wrong")
        assert (got.status_code, got.json()["success"], got.json()["code"]) == (200, False, 401)


async def test_a_plan_tells_its_windows_with_every_answer() -> None:
    async with Sandbox(["claude-subscription"], clock=Clock()) as box:
        account = box.account("claude-subscription")
        start, beta = "anthropic-ratelimit-unified-", {"anthropic_beta": "oauth-2025-04-20"}
        assert (await post(box, account, body(), at="claude-subscription")).status_code == 401, "no beta"
        got = await post(box, account, body(), at="claude-subscription", **beta)
        assert (got.status_code, got.headers[start + "status"]) == (200, "allowed")
        account.drain("5h")
        got = await post(box, account, body(), at="claude-subscription", **beta)
        told = {
            name: got.headers[start + name] for name in ("status", "representative-claim", "5h-status", "7d-status")
        }
        assert list(told.values()) == ["rejected", "five_hour", "rejected", "allowed"]
        assert (got.status_code, got.headers["retry-after"]) == (429, str(5 * 3600))


async def test_more_at_once_than_the_account_may_have_is_refused() -> None:
    async with Sandbox(clock=Clock()) as box:
        account = box.account("zai", concurrency=0)
        got = await post(box, account, body("glm-4.7"), at="zai")
        assert (got.status_code, got.json()["error"]["code"]) == (429, "1302")
        account.concurrency = 1
        assert (await post(box, account, body("glm-4.7"), at="zai")).status_code == 200


async def test_a_long_time_without_requests_skips_the_windows_between() -> None:
    clock = Clock()
    async with Sandbox(clock=clock) as box:
        account = box.account("zai", windows=[Window("5h", 1000, 60.0)])
        account.drain("5h")
        clock.now += 7 * 24 * 3600
        assert (await post(box, account, body("glm-4.7"), at="zai")).status_code == 200
        assert datetime.fromtimestamp(account.windows["5h"].resets_at or 0, UTC).timestamp() == clock.now + 5 * 3600
