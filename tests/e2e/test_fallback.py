"""Another model takes over when one has run out: the real server, and sandboxes that check what they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from msgspec.structs import replace

from mcp_proxy.gateway import waiting
from mcp_proxy.sandbox import GoogleAccount, Sandbox, refusals
from mcp_proxy.sandbox.google import refusals as google
from tests.e2e.harness import KEY, Proxy, running

OPUS, SONNET = "claude-opus-4-6-thinking", "claude-sonnet-4-6"
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "Tells the weather.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
FALLBACK = "[routing]\nfallback = true\n"


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(["antigravity", "anthropic", "zai"]) as made:
        yield made


def spend(account: GoogleAccount, pool: str) -> None:
    account.drain(f"{pool}-5h")


async def test_the_other_family_answers_under_the_name_that_was_asked_for(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    spend(a, "3p")
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        for stream in (False, True):
            reply = await proxy.ask(model=OPUS, stream=stream)
            assert reply.status_code == 200, reply.text
            assert (reply.headers["x-proxy-model"], reply.headers["x-proxy-reason"]) == (
                "gemini-pro-agent",
                "fallback_model",
            )
            assert OPUS in reply.text and "gemini" not in reply.text.lower()
        (told,) = (await proxy.client.get("/why/last")).json()["accounts"]
        assert (told["model"], told["step"]) == ("gemini-pro-agent", 1)
        assert "what was asked for: limited" in told["detail"] and told["until"], told
        assert a.pestered == 0, "what has run out is left alone"
        reply = await proxy.ask(model="claude-sonnet-5")
        assert reply.headers["x-proxy-model"] == "gemini-3.8-flash-high", "also for what it serves by its size"


async def test_without_fallback_it_is_a_limit(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    spend(a, "3p")
    async with running(tmp_path, box, ("antigravity", a)) as proxy:
        reply = await proxy.ask(model=OPUS)
        assert reply.status_code == 429 and OPUS in reply.json()["error"]["message"]


async def test_with_both_families_spent_it_is_one_too(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    spend(a, "3p")
    spend(a, "gemini")
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        reply = await proxy.ask(model=OPUS)
        assert reply.status_code == 429 and int(reply.headers["retry-after"]) > 60
        assert OPUS in reply.json()["error"]["message"]


async def test_a_short_throttle_changes_no_family(
    tmp_path: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.05)  # whoever waits looks up in between, and stays
    a = box.account("antigravity", alias="a")
    a.script(google.rate_limit(0.3, OPUS))
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        reply = await proxy.ask(model=OPUS)
        assert (reply.headers["x-proxy-model"], reply.headers["x-proxy-reason"]) == (OPUS, "waited")


async def test_a_long_one_does(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    a.script(google.rate_limit(40, OPUS))
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        reply = await proxy.ask(model=OPUS)
        assert (reply.headers["x-proxy-model"], reply.headers["x-proxy-attempts"]) == ("gemini-pro-agent", "2")


async def test_a_chain_leads_over_two_families_to_another_provider(tmp_path: Path, box: Sandbox) -> None:
    claude, google_, glm = (
        box.account("anthropic", alias="claude"),
        box.account("antigravity", alias="google"),
        box.account("zai", alias="glm"),
    )
    claude.always(refusals.plan_limit())
    toml = FALLBACK + '[routing.fallbacks]\n"claude-opus-5-5" = ["gemini-pro-agent", "zai/glm-4.7"]\n'
    held = ("anthropic", claude), ("antigravity", google_), ("zai", glm)
    async with running(tmp_path, box, *held, toml=toml + '[routing.tiers]\nopus = "anthropic"\n') as proxy:
        seen = []
        for pool in ("", "gemini", "3p"):
            if pool:
                spend(google_, pool)
            reply = await proxy.ask(model="claude-opus-5-5")
            assert reply.status_code == 200, reply.text
            seen.append(reply.headers["x-proxy-model"])
        assert seen[0] == "gemini-pro-agent" and seen[-1].startswith("glm-"), seen


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on_in_the_other_family_in_the_middle_of_its_tools(
    tmp_path: Path, box: Sandbox, stream: bool
) -> None:
    """Its thoughts are another's, its calls bear another's ids: the stand-in takes both, and so does who comes back."""
    a = box.account("antigravity", alias="a")
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        async with AsyncAnthropic(base_url=proxy.url, api_key=KEY, max_retries=0) as sdk:
            talk: list[Any] = []
            served = []

            async def turn(content: Any) -> Any:
                talk.append({"role": "user", "content": content})
                how: Any = {"model": OPUS, "max_tokens": 4000, "messages": talk, "tools": TOOLS}
                how["thinking"] = {"type": "enabled", "budget_tokens": 1024}
                if stream:
                    async with sdk.messages.stream(**how) as events:
                        reply = await events.get_final_message()
                        served.append(events.response.headers["x-proxy-model"])
                else:
                    raw = await sdk.messages.with_raw_response.create(**how)
                    reply = await raw.parse()
                    served.append(raw.headers["x-proxy-model"])
                talk.append(
                    {"role": "assistant", "content": [each.model_dump(exclude_none=True) for each in reply.content]}
                )
                return reply

            def results(reply: Any) -> list[dict[str, Any]]:
                calls = [each for each in reply.content if each.type == "tool_use"]
                return [{"type": "tool_result", "tool_use_id": call.id, "content": "12 °C"} for call in calls]

            called = await turn("Please call the tool get_weather.")
            spend(a, "3p")
            second = await turn(results(called))
            third = await turn("Please call the tool get_weather.")
            for window in a.pool("3p"):
                window.used = 0
            forget(proxy)
            told = await turn(results(third))
            assert told.stop_reason == "end_turn" and {each.model for each in (called, second, third, told)} == {OPUS}
            assert served == [OPUS, "gemini-pro-agent", "gemini-pro-agent", OPUS]
    assert [each.wrong for each in a.received if "streamGenerate" in each.path and each.answered == 400] == []


def forget(proxy: Proxy) -> None:
    """The limits that were learnt are over: the time that takes need not pass."""
    for seat in proxy.gateway.pool.seats:
        proxy.gateway.pool._put(replace(seat, closed={}, quotas={}))


async def test_a_name_that_is_offered_no_more_is_served_by_what_took_its_place(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    async with running(tmp_path, box, ("antigravity", a), toml=FALLBACK) as proxy:
        reply = await proxy.ask(model="gemini-2-pro-high")
        assert (reply.status_code, reply.headers["x-proxy-model"]) == (200, "gemini-pro-agent")
        assert reply.json()["model"] == "gemini-2-pro-high"
