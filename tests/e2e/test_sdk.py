"""The official Python SDK, as its users call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import pytest

from mcp_proxy.sandbox import Account, Sandbox, Text, Thinking, ToolUse, faults, refusals
from tests.e2e.harness import KEY, Proxy, running

MODEL = "claude-sonnet-5"
HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hello"}]
OLDER = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "Authorization": anthropic.Omit()}
TOOL: anthropic.types.ToolParam = {
    "name": "look_up",
    "description": "Looks something up.",
    "input_schema": {"type": "object", "properties": {"what": {"type": "string"}}},
}


@pytest.fixture(params=["today", "older headers"])
async def sdk(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, Account, Proxy]]:
    """A client as it comes, with `Authorization: Bearer`; and one that sends what older ones send."""
    headers = OLDER if request.param == "older headers" else {}
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            made = anthropic.AsyncAnthropic(
                base_url=proxy.url,
                api_key=KEY,
                max_retries=0,
                default_headers=headers,  # type: ignore[arg-type]
            )
            async with made as client:
                yield client, upstream, proxy
            assert [each for each in box.complaints if "nobody" not in each and "role" not in each] == []


Sdk = tuple[anthropic.AsyncAnthropic, Account, Proxy]


async def test_create(sdk: Sdk) -> None:
    client, upstream, _ = sdk
    upstream.say("Good day.")
    message = await client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert (message.content[0].text, message.model) == ("Good day.", MODEL)  # type: ignore[union-attr]
    assert message.usage.output_tokens > 0 and message._request_id is not None


async def test_a_stream_of_thinking_text_and_tools(sdk: Sdk) -> None:
    client, upstream, _ = sdk
    upstream.say(Thinking("Let me think."), Text("I look it up."), ToolUse("look_up", {"what": "giraffes"}))
    async with client.messages.stream(model=MODEL, max_tokens=2000, messages=HELLO, tools=[TOOL]) as stream:
        texts = [text async for text in stream.text_stream]
        message = await stream.get_final_message()
    assert "".join(texts) == "I look it up."
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    back: list[anthropic.types.MessageParam] = [
        *HELLO,
        {"role": "assistant", "content": message.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": message.content[2].id, "content": "tall"}],  # type: ignore[union-attr]
        },
    ]
    upstream.say("They are tall.")
    after = await client.messages.create(model=MODEL, max_tokens=100, messages=back, tools=[TOOL])
    assert after.content[0].text == "They are tall."  # type: ignore[union-attr]


async def test_tokens_are_counted(sdk: Sdk) -> None:
    client, _, _ = sdk
    assert (await client.messages.count_tokens(model=MODEL, messages=HELLO)).input_tokens > 0


async def test_models_are_listed_page_by_page(sdk: Sdk) -> None:
    client, _, _ = sdk
    ids = [model.id async for model in client.models.list(limit=5)]
    assert MODEL in ids and len(ids) == len(set(ids)) > 10
    assert (await client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("no-such-model")


async def test_errors_are_of_their_classes(sdk: Sdk) -> None:
    client, upstream, _ = sdk

    async def ask(**more: object) -> None:
        await client.messages.create(**{"model": MODEL, "max_tokens": 10, "messages": HELLO, **more})  # type: ignore[call-overload]

    with pytest.raises(anthropic.BadRequestError) as refused:
        await ask(messages=[{"role": "nobody", "content": "x"}])
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        await ask(model="no-such-model")
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="wrong", default_headers={"x-api-key": "wrong"}).messages.create(
            model=MODEL, max_tokens=10, messages=HELLO
        )
    upstream.script(refusals.overloaded())
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        await ask()
    assert (overloaded.value.status_code, overloaded.value.type) == (529, "overloaded_error")
    upstream.script(refusals.timed_out())
    with pytest.raises(anthropic.APIStatusError) as late:
        await ask()
    assert (late.value.status_code, late.value.type) == (504, "timeout_error")
    upstream.always(faults.html())
    with pytest.raises(anthropic.InternalServerError) as broken:
        await ask()
    assert broken.value.status_code == 502 and broken.value.request_id is not None
    upstream.always(refusals.rate_limited(900))
    with pytest.raises(anthropic.RateLimitError) as limited:
        await ask()
    assert int(limited.value.response.headers["retry-after"]) > 800


async def test_an_error_in_mid_stream_is_an_error_to_the_sdk_too(sdk: Sdk) -> None:
    client, upstream, _ = sdk
    upstream.script(faults.cut_after_block())
    with pytest.raises(anthropic.APIStatusError) as cut:
        async with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
            await stream.get_final_message()
    assert cut.value.type == "api_error"
