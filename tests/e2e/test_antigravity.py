"""Antigravity from end to end: the real server in front of a Google that is stricter than the real one."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from mcp_proxy.sandbox import Sandbox
from mcp_proxy.sandbox.google import refusals
from mcp_proxy.sandbox.google.account import GoogleAccount
from mcp_proxy.sandbox.google.voice import PIXEL
from tests.e2e.harness import KEY, Proxy, message, running

CLAUDE, GEMINI, GPT = "claude-sonnet-4-6", "gemini-3-flash", "gpt-oss-120b-medium"
MODELS = (CLAUDE, GEMINI, GPT)
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
TOOLS = [
    {
        "name": name,
        "description": f"Tells the {name}.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "minLength": 1}, "days": {"type": ["integer", "null"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    for name in ("get_weather", "get_time")
]


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(["antigravity"]) as made:
        yield made


@pytest.fixture
async def proxy(tmp_path: Path, box: Sandbox) -> AsyncIterator[Proxy]:
    a = box.account("antigravity", alias="a")
    async with running(tmp_path, box, ("antigravity", a)) as made:
        yield made


@pytest.fixture
async def sdk(proxy: Proxy) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=proxy.url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", MODELS)
async def test_text_streamed_and_whole_is_the_same(sdk: AsyncAnthropic, model: str) -> None:
    asked: Any = message("Say something.", model)
    whole = await sdk.messages.create(**asked)
    async with sdk.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    assert whole.model == streamed.model == model
    assert whole.content[0].text == streamed.content[0].text and whole.stop_reason == streamed.stop_reason == "end_turn"
    assert whole.usage.output_tokens > 0


@pytest.mark.parametrize("model", MODELS)
async def test_pictures_are_seen_where_the_model_sees(sdk: AsyncAnthropic, model: str) -> None:
    told = {"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}
    reply = await sdk.messages.create(model=model, max_tokens=100, messages=[told])  # type: ignore[list-item]
    seen = "image/png" in reply.content[-1].text  # type: ignore[union-attr]
    assert seen is (model != GPT)


async def turn(sdk: AsyncAnthropic, model: str, talk: list[Any], text: str | list[Any], *, thinks: bool) -> Any:
    """One more turn of a conversation, by the model that is asked this time; the answer is part of it."""
    talk.append({"role": "user", "content": text})
    thinking: Any = {"type": "enabled", "budget_tokens": 1024} if thinks else {"type": "disabled"}
    async with sdk.messages.stream(
        model=model,
        max_tokens=4000,
        messages=talk,
        tools=TOOLS,  # type: ignore[arg-type]
        thinking=thinking,
        extra_headers={"x-claude-code-session-id": "one-conversation"},
    ) as stream:
        reply = await stream.get_final_message()
    talk.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in reply.content]})
    return reply


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_tools_are_called_side_by_side_and_their_results_are_read(
    sdk: AsyncAnthropic, model: str, thinks: bool
) -> None:
    talk = list[Any]()
    called = await turn(sdk, model, talk, "Please call the tools get_weather and get_time.", thinks=thinks)
    calls = [block for block in called.content if block.type == "tool_use"]
    assert ([call.name for call in calls], called.stop_reason) == (["get_weather", "get_time"], "tool_use")
    assert all(isinstance(call.input["city"], str) for call in calls)
    thoughts = [block for block in called.content if block.type == "thinking" and block.thinking]
    assert bool(thoughts) is (thinks and model != GPT), "an empty one only carries a signature"
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"of {call.name}"} for call in calls]
    told = await turn(sdk, model, talk, results, thinks=thinks)
    assert told.stop_reason == "end_turn" and "get_weather" in told.content[-1].text


async def test_a_tool_keeps_the_name_that_the_upstream_cannot_have(sdk: AsyncAnthropic) -> None:
    odd: Any = {**TOOLS[0], "name": "1st.tool:x"}
    reply = await sdk.messages.create(
        model=GEMINI,
        max_tokens=400,
        messages=[{"role": "user", "content": "go"}],
        tools=[odd],
        tool_choice={"type": "tool", "name": "1st.tool:x"},
    )
    assert [block.name for block in reply.content if block.type == "tool_use"] == ["1st.tool:x"]


async def test_a_long_conversation_moves_between_the_families_without_one_refusal(
    box: Sandbox, sdk: AsyncAnthropic
) -> None:
    """Signatures of the one are never shown to the other, and each finds its own again."""
    talk, chance = list[Any](), random.Random(4)
    for number in range(30):
        model = chance.choice((CLAUDE, CLAUDE, GEMINI, GEMINI, "gemini-3.1-pro-high", "claude-opus-4-6-thinking", GPT))
        text = chance.choice(("Go on.", "Please call the tool get_weather.", "call the tools get_weather and get_time"))
        reply = await turn(sdk, model, talk, f"{number}: {text}", thinks=chance.random() < 0.7)
        while calls := [block for block in reply.content if block.type == "tool_use"]:
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": "12 °C", "is_error": chance.random() < 0.2}
                for call in calls
            ]
            other = chance.choice((CLAUDE, GEMINI, GPT))  # the answer may be read by another than who asked for it
            reply = await turn(sdk, other, talk, results, thinks=chance.random() < 0.7)
    assert len(talk) > 60
    a = google(box)
    assert [
        (each.answered, each.wrong) for each in a.received if "streamGenerate" in each.path and each.answered != 200
    ] == []


def google(box: Sandbox, alias: str = "a") -> GoogleAccount:
    found = next(each for each in box.host("antigravity").accounts.values() if each.alias == alias)
    assert isinstance(found, GoogleAccount)
    return found


async def test_pictures_are_made(proxy: Proxy) -> None:
    wish = {"prompt": "a cat", "count": 2, "aspect_ratio": "16:9", "input_image": PIXEL}
    reply = await proxy.client.post("/v1/images/generate", json=wish)
    assert reply.status_code == 200, reply.text
    document = reply.json()
    assert (document["type"], document["model"]) == ("image_generation", "gemini-3.1-flash-image")
    assert [(each["index"], each["media_type"]) for each in document["images"]] == [(0, "image/png"), (1, "image/png")]
    assert all(base64.b64decode(each["data"]).startswith(b"\x89PNG") for each in document["images"])
    refused = await proxy.client.post("/v1/images/generate", json={"prompt": "a cat", "model": CLAUDE})
    assert refused.status_code == 404


async def test_the_web_is_searched(sdk: AsyncAnthropic) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    reply = await sdk.messages.create(
        model=CLAUDE, max_tokens=300, tools=[search], messages=[{"role": "user", "content": "weather in Oslo"}]
    )
    kinds = [block.type for block in reply.content]
    assert kinds[:2] == ["server_tool_use", "web_search_tool_result"] and "text" in kinds
    assert reply.usage.server_tool_use is not None and reply.usage.server_tool_use.web_search_requests == 1


async def test_googles_own_id_of_an_answer_is_told(proxy: Proxy) -> None:
    for stream in (False, True):
        reply = await proxy.ask(model=CLAUDE, stream=stream)
        assert reply.headers["x-upstream-request-id"]


async def test_tokens_are_estimated(box: Sandbox, proxy: Proxy) -> None:
    counted = await proxy.client.post("/v1/messages/count_tokens", json=message("one two three " * 100, CLAUDE))
    assert counted.status_code == 200 and 100 < counted.json()["input_tokens"] < 1000
    assert [each for each in google(box).received if "countTokens" in each.path] == []


async def test_a_pool_serves_until_all_of_it_is_spent_and_leaves_what_is_spent_alone(
    tmp_path: Path, box: Sandbox
) -> None:
    """Five accounts, two hundred conversations: not one error before the last account of the family is spent."""
    accounts = [box.account("antigravity", alias=f"g{n}") for n in range(5)]
    chance = random.Random(5)
    for number, account in enumerate(accounts):
        for window in account.windows.values():
            window.capacity = 300 * (number + 1)
    async with running(tmp_path, box, *(("antigravity", account) for account in accounts)) as proxy:

        async def conversation(number: int) -> list[int]:
            (model, pool), seen = ((CLAUDE, "3p"), (GEMINI, "gemini"))[number % 2], list[int]()
            for _ in range(chance.randrange(1, 4)):
                headers = {"x-claude-code-session-id": f"c{number}"}
                reply = await proxy.ask("some words of a question " * 3, model=model, headers=headers)
                seen.append(reply.status_code)
                if reply.status_code != 200:
                    assert reply.status_code == 429 and int(reply.headers["retry-after"]) > 60, reply.text
                    assert all(is_spent(account, pool) for account in accounts), "one still serves"
                    assert "RESOURCE_EXHAUSTED" in reply.json()["error"]["message"] and model in reply.text
            return seen

        turns = []
        for first in range(
            0, 200, 2
        ):  # one of each family at once: of more, some are under way as the first is refused
            turns += await asyncio.gather(conversation(first), conversation(first + 1))
        assert {status for each in turns for status in each} == {200, 429}, "it has served, and it was spent"
    assert sum(account.pestered for account in accounts) == 0, "who has said no is left alone until its reset"


def is_spent(account: GoogleAccount, pool: str) -> bool:
    return any(window.used >= window.capacity for window in account.pool(pool))


async def test_what_is_left_is_told_by_family_and_window(tmp_path: Path, box: Sandbox) -> None:
    a = box.account("antigravity", alias="a")
    a.drain("3p-5h", to=0.35)
    a.drain("gemini-weekly", to=0.0)
    async with running(tmp_path, box, ("antigravity", a)) as proxy:
        await proxy.client.get("/account-limits?refresh=true")

        async def read() -> dict[str, Any]:
            return dict((await proxy.limits())["a"]["limits"])

        async with asyncio.timeout(10):
            while (await read())[f"antigravity/{CLAUDE}"]["remaining_fraction"] is None:
                await asyncio.sleep(0.05)
        limits = await read()
        assert limits[f"antigravity/{CLAUDE}"]["remaining_fraction"] == pytest.approx(0.35, abs=0.02)
        assert limits[f"antigravity/{GEMINI}"]["remaining_fraction"] == 0.0
        assert limits[f"antigravity/{GEMINI}"]["resets_at"] > limits[f"antigravity/{CLAUDE}"]["resets_at"]
        table = (await proxy.client.get("/account-limits?format=table")).text
        assert "35%" in table and "0%" in table
        models = (await proxy.client.get("/v1/models?limit=1000")).json()["data"]
        quota = {each["id"]: each.get("quota") for each in models}
        assert quota[CLAUDE]["remaining_fraction"] == pytest.approx(0.35, abs=0.02)
        assert (await proxy.ask(model=GEMINI)).status_code == 429
        health = (await proxy.client.get("/health")).json()
        assert health["accounts"][0]["limits"][f"antigravity/{GEMINI}"]["remaining"] == "0%"


async def test_what_google_said_of_an_account_reaches_the_client_where_nobody_is_left(
    tmp_path: Path, box: Sandbox
) -> None:
    a = box.account("antigravity", alias="a")
    async with running(tmp_path, box, ("antigravity", a), toml="[routing]\nmax_wait = 0\n") as proxy:
        a.always(refusals.no_licence())
        told = (await proxy.ask(model=CLAUDE)).json()["error"]["message"]
        assert "license" in told.lower(), told
