"""Who serves: conversations keep their account, the last fifth is saved, the dead are passed over."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from mcp_proxy.cli.compose import serving
from mcp_proxy.gateway import asking, quotas
from mcp_proxy.sandbox import Fault, Place, Sandbox, faults, refusals
from tests.e2e.harness import KEY, message, running, settings

ZAI = "glm-4.7"


async def test_a_conversation_keeps_its_account_for_fifty_turns(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstreams = [("anthropic", box.account("anthropic", alias=f"a{n}")) for n in range(4)]
        async with running(tmp_path, box, *upstreams) as proxy:
            answers = [await proxy.ask(f"turn {turn}", session="s") for turn in range(50)]
            assert len({proxy.named(answer) for answer in answers}) == 1
            reasons = [answer.headers["x-proxy-reason"] for answer in answers]
            assert reasons == ["first_choice"] + ["sticky"] * 49


async def test_three_conversations_at_once_each_keep_their_account(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstreams = [("anthropic", box.account("anthropic", alias=f"a{n}")) for n in range(3)]
        async with running(tmp_path, box, *upstreams) as proxy:

            async def talk(session: str) -> set[str]:
                return {proxy.named(await proxy.ask(f"turn {turn}", session=session)) for turn in range(20)}

            served = await asyncio.gather(*(talk(session) for session in ("one", "two", "three")))
            assert [len(accounts) for accounts in served] == [1, 1, 1]


async def test_an_exhausted_account_hands_its_conversation_on(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            first = await proxy.ask(session="s")
            held = {"a": a, "b": b}[proxy.named(first)]
            held.drain("input-tokens")
            second = await proxy.ask(session="s")
            assert second.status_code == 200
            assert proxy.named(second) != proxy.named(first)
            assert (second.headers["x-proxy-reason"], second.headers["x-proxy-attempts"]) == ("failover", "2")
            third = await proxy.ask(session="s")
            assert (proxy.named(third), third.headers["x-proxy-reason"]) == (proxy.named(second), "sticky")
            assert third.headers["x-proxy-attempts"] == "1", "what is closed is not asked again"


async def test_the_soft_limit_moves_new_conversations_at_once_and_a_running_one_at_its_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "REFRESH_SECONDS", 0.0)
    async with Sandbox(["zai"]) as box:
        a, b = box.account("zai", alias="a"), box.account("zai", alias="b")
        held = {"a": a, "b": b}
        async with running(tmp_path, box, ("zai", a), ("zai", b)) as proxy:
            first = await proxy.ask(model=ZAI, session="s")
            low = proxy.named(first)
            held[low].drain("5h", to=0.15)
            await proxy.client.get("/account-limits?refresh=true")
            assert (await proxy.limits())[low]["status"] == "soft_limited"
            moved = await proxy.ask(model=ZAI, session="s")
            assert proxy.named(moved) != low
            assert moved.headers["x-proxy-reason"] == "soft_limited"
            fresh = [await proxy.ask(model=ZAI, session=f"n{n}") for n in range(6)]
            assert {proxy.named(answer) for answer in fresh} == {proxy.named(moved)}
            held[proxy.named(moved)].always(refusals.zai_error(1308, resets_in=900))
            last = await proxy.ask(model=ZAI, session="s")
            assert (last.status_code, proxy.named(last)) == (200, low), "the saved rest is there when all else is gone"


async def test_a_soft_limit_is_read_in_the_background_without_anybody_asking(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        a = box.account("zai", alias="a")
        a.drain("7d", to=0.2)
        async with running(tmp_path, box, ("zai", a)) as proxy:
            async with asyncio.timeout(5):
                while (await proxy.limits())["a"]["status"] != "soft_limited":
                    await asyncio.sleep(0.05)
            limits = (await proxy.limits())["a"]["limits"][f"zai/{ZAI}"]
            assert limits["remaining"] == "20%" and limits["soft_limited"] is True
            assert [window["name"] for window in limits["windows"]] == ["5h", "7d"]


@pytest.mark.parametrize("death", ["refused key", "no server", "exhausted", "hangs up", "overloaded"])
async def test_after_six_dead_accounts_the_seventh_answers(tmp_path: Path, death: str) -> None:
    toml = "[routing]\nmax_attempts = 7\n" if death in ("hangs up", "overloaded") else ""
    async with Sandbox(["anthropic"]) as box:
        dead = [box.account("anthropic", alias=f"dead{n}") for n in range(6)]
        fields: dict[str, object] = {"tier": 1}
        for account in dead:
            match death:
                case "refused key":
                    account.revoked = True
                case "exhausted":
                    account.drain("input-tokens")
                case "hangs up":
                    account.always(faults.drop())
                case "overloaded":
                    account.always(refusals.overloaded())
        upstreams = [
            (
                "anthropic",
                each,
                fields | ({"base_url": f"http://127.0.0.1:{number + 1}"} if death == "no server" else {}),
            )
            for number, each in enumerate(dead)
        ]
        seventh = ("anthropic", box.account("anthropic", alias="alive"), {"tier": 2})
        async with running(tmp_path, box, *upstreams, seventh, toml=toml) as proxy:
            answer = await proxy.ask()
            assert answer.status_code == 200, answer.text
            assert proxy.named(answer) == "alive"
            assert answer.headers["x-proxy-attempts"] == "7"
            again = await proxy.ask()
            assert again.headers["x-proxy-attempts"] == "1", "the dead are not walked twice"


async def test_all_exhausted_waits_when_the_reset_is_near(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            a.script(refusals.rate_limited(60))
            b.script(refusals.rate_limited(1))
            begun = time.monotonic()
            answer = await proxy.ask()
            assert answer.status_code == 200
            assert 0.9 < time.monotonic() - begun < 4
            assert (proxy.named(answer), answer.headers["x-proxy-reason"]) == ("b", "waited")


async def test_all_exhausted_for_long_is_a_true_429_at_once(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            a.script(refusals.rate_limited(2000))
            b.script(refusals.rate_limited(900))
            begun = time.monotonic()
            answer = await proxy.ask()
            assert time.monotonic() - begun < 2
            assert answer.status_code == 429
            assert 895 <= int(answer.headers["retry-after"]) <= 900
            assert answer.headers["x-should-retry"] == "false"
            error = answer.json()["error"]
            assert error["type"] == "rate_limit_error"
            assert "claude-sonnet-5" in error["message"] and "RESOURCE_EXHAUSTED" in error["message"]
            again = await proxy.ask()
            assert again.status_code == 429 and again.headers["x-proxy-attempts"] == "0", "nobody is asked in vain"
            assert len([each for each in box.received if each.path == "/v1/messages"]) == 2


async def test_a_wait_that_would_pass_the_clients_own_timeout_is_not_begun(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(refusals.rate_limited(30))
            begun = time.monotonic()
            answer = await proxy.ask(headers={"x-stainless-timeout": "20"})
            assert answer.status_code == 429 and time.monotonic() - begun < 2


async def test_limits_survive_a_restart(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(refusals.rate_limited(900))
            assert (await proxy.ask()).status_code == 429
        async with serving(settings(tmp_path), 1.0) as (url, _, _):
            async with httpx.AsyncClient(headers={"x-api-key": KEY}, trust_env=False) as client:
                answer = await client.post(f"{url}/v1/messages", json=message())
            assert answer.status_code == 429 and 880 < int(answer.headers["retry-after"]) <= 900
        assert len([each for each in a.received if each.path == "/v1/messages"]) == 1


NONE = range(1, 6)
HINTS = [
    (refusals.rate_limited(700), range(699, 701)),
    (refusals.rate_limited("700.5"), range(700, 702)),
    (refusals.rate_limited(http_date=700), range(698, 701)),
    (refusals.rate_limited(ms=700_000), range(699, 701)),
    (refusals.rate_limited(), NONE),
    (refusals.throttled(), NONE),
    (refusals.rate_limited(-5), NONE),
    (refusals.rate_limited(http_date=-700), NONE),
    (refusals.rate_limited("soon"), NONE),
    (refusals.spend_limit(2 * 86_400), range(86_400, 3 * 86_400)),
]


@pytest.mark.parametrize(("refusal", "expected"), HINTS)
async def test_each_kind_of_reset_hint_is_kept_and_told(tmp_path: Path, refusal: Fault, expected: range) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a), toml="[routing]\nmax_wait = 0\n") as proxy:
            a.script(refusal)
            answer = await proxy.ask()
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) in expected
            assert (await proxy.ask()).headers["x-proxy-attempts"] == "0", "it is kept"


@pytest.mark.parametrize(("code", "resets_in", "expected"), [(1308, 3600, 3600), (1310, 86_400, 86_400), (1302, 0, 10)])
async def test_zai_tells_its_reset_in_prose(tmp_path: Path, code: int, resets_in: float, expected: int) -> None:
    async with Sandbox(["zai"]) as box:
        a = box.account("zai", alias="a")
        async with running(tmp_path, box, ("zai", a), toml="[routing]\nmax_wait = 0\n") as proxy:
            a.script(refusals.zai_error(code, resets_in=resets_in))
            answer = await proxy.ask(model=ZAI)
            assert answer.status_code == 429
            assert expected - 5 <= int(answer.headers["retry-after"]) <= expected


async def test_what_nobody_serves_is_404_and_a_refused_key_503(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        a.revoked = True
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            unknown = await proxy.ask(model="no-such-model")
            assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
            refused = await proxy.ask()
            assert refused.status_code == 503 and refused.headers["x-should-retry"] == "false"
            shown = (await proxy.limits())["a"]
            assert shown["status"] == "invalid" and "x-api-key" in shown["error"]
            assert a.key not in refused.text


async def test_the_limits_endpoint_may_ask_the_providers_first(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        a = box.account("zai", alias="a")
        async with running(tmp_path, box, ("zai", a)) as proxy:
            await box.until(lambda: any(each.path.endswith("/quota/limit") for each in a.received))
            before = len([each for each in a.received if each.path.endswith("/quota/limit")])
            for _ in range(3):
                await proxy.client.get("/account-limits?refresh=true")
            asked = len([each for each in a.received if each.path.endswith("/quota/limit")])
            assert asked == before, "read a moment ago"
            table = await proxy.client.get("/account-limits?format=table")
            assert table.headers["content-type"].startswith("text/plain")
            assert table.text.startswith("Account Limits (")


async def test_going_down_answers_those_who_wait_at_once(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.always(refusals.rate_limited(60))
            waiting = asyncio.ensure_future(proxy.ask())
            await asyncio.sleep(0.5)
            assert not waiting.done()
            begun = time.monotonic()
            proxy.server.stop()
            answer = await waiting
            assert time.monotonic() - begun < 0.5
            assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")


async def test_those_who_waited_start_one_at_a_time_until_the_first_is_served(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            a.script(refusals.rate_limited(1))
            first = asyncio.ensure_future(proxy.ask())
            await asyncio.sleep(0.2)
            a.script(refusals.rate_limited(1))  # the reset was a guess too early: one finds out, not all
            crowd = [asyncio.ensure_future(proxy.ask()) for _ in range(10)]
            answers = await asyncio.gather(first, *crowd)
            assert {answer.status_code for answer in answers} == {200}
            asked = [each for each in a.received if each.path == "/v1/messages"]
            assert len(asked) == 13, "eleven answers, two refusals"


async def test_aliases_and_tiers_of_the_config_file_send_a_size_elsewhere(tmp_path: Path) -> None:
    toml = '[routing.aliases]\n"claude-haiku-*" = "zai/glm-4.5-air"\n[routing.tiers]\nopus = "zai"\n'
    async with Sandbox(["anthropic", "zai"]) as box:
        a, z = box.account("anthropic", alias="a"), box.account("zai", alias="z")
        async with running(tmp_path, box, ("anthropic", a), ("zai", z), toml=toml) as proxy:
            served = {
                model: ((answer := await proxy.ask(model=model)).headers["x-proxy-model"], answer.json()["model"])
                for model in ("claude-haiku-4-5", "claude-opus-5-5", "claude-sonnet-5", "zai/glm-4.7", "glm-4.7")
            }
            assert served == {
                "claude-haiku-4-5": ("glm-4.5-air", "claude-haiku-4-5"),
                "claude-opus-5-5": ("glm-5.2", "claude-opus-5-5"),
                "claude-sonnet-5": ("claude-sonnet-5", "claude-sonnet-5"),
                "zai/glm-4.7": ("glm-4.7", "zai/glm-4.7"),
                "glm-4.7": ("glm-4.7", "glm-4.7"),
            }


async def test_a_key_in_the_config_file_is_an_account_too(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        z = box.account("zai", alias="z")
        toml = f'[providers.zai]\nbase_url = "{box.url("zai")}"\napi_key = "{z.key}"\n'
        async with running(tmp_path, box, toml=toml) as proxy:
            answer = await proxy.ask(model=ZAI)
            assert answer.status_code == 200 and answer.headers["x-proxy-account"] == "zai/config-zai"


async def test_all_waits_of_a_request_together_stay_within_the_longest(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a), toml="[routing]\nmax_wait = 1.6\n") as proxy:
            a.always(refusals.rate_limited(1))
            begun = time.monotonic()
            answer = await proxy.ask()
            assert answer.status_code == 429 and time.monotonic() - begun < 1.9
            assert answer.headers["x-proxy-attempts"] == "2"


async def test_an_accounts_own_tier_wins_over_its_providers(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        toml = "[providers.anthropic]\ntier = 2\n"
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b, {"tier": 1}), toml=toml) as proxy:
            served = {proxy.named(await proxy.ask(session=f"s{n}")) for n in range(8)}
            assert served == {"b"}


async def test_a_count_that_does_not_come_in_two_seconds_is_estimated_and_not_held_against_anybody(
    tmp_path: Path,
) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            body = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "word " * 100}]}
            a.script(faults.hang(), refusals.rate_limited(60), on=Place.COUNT_TOKENS)
            begun = time.monotonic()
            late = await proxy.client.post("/v1/messages/count_tokens", json=body)
            assert 1.9 < time.monotonic() - begun < 3 and late.json()["input_tokens"] > 50
            limited = await proxy.client.post("/v1/messages/count_tokens", json=body)
            assert limited.json() == late.json()
            counted = await proxy.client.post("/v1/messages/count_tokens", json=body)
            assert a.received[-1].answered == 200 and counted.status_code == 200, "it is asked again"
            assert (await proxy.ask()).headers["x-proxy-attempts"] == "1"


async def test_an_account_that_cannot_pay_is_told_as_that_at_once(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a, {"tier": 1}), ("anthropic", b, {"tier": 2})) as proxy:
            a.always(refusals.credit_low())
            assert proxy.named(await proxy.ask()) == "b", "the next one pays"
            b.always(refusals.billing())
            begun = time.monotonic()
            for attempts in ("1", "0"):
                answer = await proxy.ask()
                assert (answer.status_code, answer.json()["error"]["type"]) == (402, "billing_error")
                assert answer.headers["x-proxy-attempts"] == attempts and answer.headers["x-should-retry"] == "false"
            assert time.monotonic() - begun < 2, "waiting would not help"


async def test_without_a_usable_account_it_says_so_and_not_that_the_model_is_unknown(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path / "none", box) as proxy:
            empty = await proxy.ask()
        async with running(tmp_path / "off", box, ("anthropic", a, {"enabled": False})) as proxy:
            off = await proxy.ask()
            counted = await proxy.client.post("/v1/messages/count_tokens", json={"model": "claude-sonnet-5"})
        for answer in (empty, off, counted):
            assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")


async def test_a_large_image_is_not_taken_for_a_long_prompt(tmp_path: Path) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 1_500_000}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            body = message(model="claude-haiku-4-5") | {"messages": [{"role": "user", "content": content}]}
            await proxy.client.post("/v1/messages", json=body)
            assert [each.path for each in a.received if each.method == "POST"] == ["/v1/messages"], "it is asked"


async def test_a_message_that_takes_long_to_finish_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "HEAD_SECONDS", 0.2)
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", a), ("anthropic", b)) as proxy:
            for account in (a, b):
                account.always(faults.hang(0.5))
            assert (await proxy.ask()).headers["x-proxy-attempts"] == "1"
