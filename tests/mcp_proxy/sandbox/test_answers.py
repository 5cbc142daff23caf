from __future__ import annotations

import asyncio
import json

import anthropic
import pytest

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox import (
    HOSTS,
    Answer,
    Raw,
    Redacted,
    Rules,
    Sandbox,
    Text,
    Thinking,
    ToolUse,
    answers,
    say,
)
from mcp_proxy.sandbox.lies import folded
from mcp_proxy.sandbox.replies import Reply
from mcp_proxy.sandbox.service import Service
from tests.mcp_proxy.sandbox.asking import body, client, events, fixture, post

EPHEMERAL = {"type": "ephemeral"}


async def test_a_plain_answer_names_the_account_and_the_question() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic", alias="first")
        message = (await post(box, account, body(text="How tall is a grown giraffe in the wild, roughly?"))).json()
        assert message["content"] == [
            {"type": "text", "text": "This is first, simulated. You asked: “How tall is a grown giraffe in the …”"}
        ]
        assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "claude-opus-5-5")
        assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
        assert message["usage"]["input_tokens"] > 0 and message["usage"]["output_tokens"] > 0


async def test_a_stream_has_every_event_in_order_and_says_the_same_as_the_message() -> None:
    blocks = (Thinking("let me see", "c2ln"), Text("Looking."), ToolUse("ls", {"path": "/é"}, "toolu_1"), Text("So."))
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.speak(say(*blocks, pieces=2))
        got = await post(box, account, body(stream=True))
        assert got.headers["content-type"].startswith("text/event-stream") and got.headers["request-id"]
        found = events(got.content)
        kinds = [event["type"] for event in found]
        assert kinds[:3] == ["message_start", "content_block_start", "ping"]
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert [event["index"] for event in found if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
        start = found[0]["message"]
        assert start["content"] == [] and start["stop_reason"] is None and start["usage"]["output_tokens"] == 1
        shapes = [event["content_block"] for event in found if event["type"] == "content_block_start"]
        assert shapes[0] == {"type": "thinking", "thinking": "", "signature": ""}
        assert shapes[1:3] == [
            {"type": "text", "text": ""},
            {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {}},
        ]
        whole = (await post(box, account, body())).json()
        again = json.loads(folded(Reply(200, (), tuple(answers.sse(event) for event in found), chunked=True)))
        assert again["content"] == whole["content"]
        assert again["stop_reason"] == whole["stop_reason"] == "tool_use"
        assert again["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


async def test_answers_are_said_in_turn_and_then_the_default_again() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.say("one")
        account.say(say("two", stop_reason="max_tokens"), say("three", usage=Usage(1, 2, 3, 4), model="other"))
        got = [(await post(box, account, body())).json() for _ in range(4)]
        assert [message["content"][0]["text"] for message in got[:3]] == ["one", "two", "three"]
        assert got[1]["stop_reason"] == "max_tokens"
        assert (got[2]["model"], got[2]["usage"]["cache_read_input_tokens"]) == ("other", 2)
        assert "simulated" in got[3]["content"][0]["text"]


async def test_a_voice_answers_each_request_by_what_it_says() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.speak(lambda asked: say(str(len(asked["messages"][0]["content"]))))
        assert (await post(box, account, body(text="12345"))).json()["content"][0]["text"] == "5"


async def test_blocks_of_other_kinds_are_said_as_they_are() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.speak(Answer((Redacted("c2VjcmV0"), Raw(search), Text("found"))))
        content = (await post(box, account, body())).json()["content"]
        assert content[:2] == [{"type": "redacted_thinking", "data": "c2VjcmV0"}, search]
        again = {**body(), "messages": [*body()["messages"], {"role": "assistant", "content": content}]}
        assert (await post(box, account, again)).status_code == 200


async def test_a_delay_paces_the_events_of_a_stream_and_holds_a_message_back() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.speak(say("slow", delay=0.02))
        loop = asyncio.get_running_loop()
        for sent, at_least in ((body(stream=True), 0.14), (body(), 0.02)):
            began = loop.time()
            assert (await post(box, account, sent)).status_code == 200
            assert loop.time() - began >= at_least


async def test_zai_signs_no_thinking_counts_at_the_end_and_has_ids_of_its_own() -> None:
    async with Sandbox() as box:
        account = box.account("zai")
        account.speak(say(Thinking("hm"), ToolUse("ls", {})))
        found = events((await post(box, account, body("glm-4.7", stream=True), at="zai")).content)
        assert found[0]["message"]["usage"]["input_tokens"] == 0
        assert found[-2]["usage"]["input_tokens"] > 0
        assert not any(event.get("delta", {}).get("type") == "signature_delta" for event in found)
        used = [event["content_block"] for event in found if event["type"] == "content_block_start"][1]
        assert used["id"].startswith("call_")


async def test_hidden_thinking_is_a_signature_alone() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        asked = body(thinking={"type": "adaptive", "display": "omitted"})
        thought = (await post(box, account, asked)).json()["content"][0]
        assert thought["thinking"] == "" and len(thought["signature"]) > 20


async def test_what_claude_code_asks_in_the_background_gets_the_shape_it_wants() -> None:
    async with Sandbox(["anthropic"]) as box, client() as asking:
        account = box.account("anthropic")
        texts = {}
        for name in ("title_generation", "auto_mode_classifier_block_stage1", "auto_mode_classifier_severity_stage1"):
            sent, named = fixture(name)
            all_headers = {**named, "authorization": f"Bearer {account.key}", "accept-encoding": "identity"}
            got = await asking.post(
                box.url("anthropic") + "/v1/messages", json=sent | {"stream": False}, headers=all_headers
            )
            texts[name] = (got.json()["content"][0]["text"], got.json()["stop_sequence"])
        assert json.loads(texts["title_generation"][0]) == {"title": account.alias}
        assert texts["auto_mode_classifier_block_stage1"] == ("<block>no", "</block>")
        assert texts["auto_mode_classifier_severity_stage1"] == ("<severity>0", "</severity>")


async def test_an_answer_larger_than_asked_for_is_cut() -> None:
    async with Sandbox() as box:
        message = (await post(box, box.account("anthropic"), body(max_tokens=1))).json()
        assert (message["stop_reason"], message["content"][0]["text"]) == ("max_tokens", "This")


async def test_a_marked_prompt_is_read_from_the_cache_the_next_time_by_the_same_account_only() -> None:
    clock = [1_790_000_000.0]
    marked = {"type": "text", "text": "word " * 2000, "cache_control": EPHEMERAL}
    first = body(system=[marked])
    async with Sandbox(clock=lambda: clock[0]) as box:
        account, other = box.account("anthropic"), box.account("anthropic")

        async def usage(asked: anthropic.types.MessageParam | dict, who=account) -> tuple[int, int]:  # type: ignore[no-untyped-def,type-arg]
            found = (await post(box, who, asked)).json()["usage"]
            return found["cache_creation_input_tokens"] // 1000, found["cache_read_input_tokens"] // 1000

        assert await usage(first) == (2, 0)
        assert await usage(first) == (0, 2)
        assert await usage(first, other) == (2, 0)
        longer = [*first["messages"], {"role": "assistant", "content": "12 m"}, {"role": "user", "content": [marked]}]
        assert await usage({**first, "messages": longer}) == (2, 2)
        bare = [{"role": "user", "content": [{"type": "text", "text": "How tall is a giraffe?"}]}, *longer[1:]]
        assert await usage({**first, "messages": bare}) == (0, 5), "text in a block or bare is the same prompt"
        assert await usage({**first, "model": "claude-opus-5"}) == (2, 0)
        clock[0] += 301
        assert await usage(first) == (2, 0)


async def test_counting_tokens_says_nought_for_a_model_that_cannot_be_counted() -> None:
    async with Sandbox() as box:
        counted = {"messages": body()["messages"]}
        path = "/v1/messages/count_tokens"
        at_zai, here = box.account("zai"), box.account("anthropic")
        assert (await post(box, at_zai, {**counted, "model": "glm-5.3"}, path, "zai")).json() == {"input_tokens": 0}
        assert (await post(box, at_zai, {**counted, "model": "glm-4.7"}, path, "zai")).json()["input_tokens"] > 5
        assert (await post(box, here, {**counted, "model": "claude-opus-5-5"}, path)).json()["input_tokens"] > 5
        got = await post(box, here, {**counted, "model": "claude-opus-5-5", "max_tokens": 5}, path)
        assert got.json()["error"]["message"] == "max_tokens: Extra inputs are not permitted"


def test_a_signature_is_good_where_it_was_issued_and_nowhere_else() -> None:
    here, there = Service(host=HOSTS["anthropic"]), Service(host=HOSTS["custom"])
    block = {"type": "thinking", "thinking": "hm", "signature": here.sign("hm")}
    assert here.genuine(block) and not there.genuine(block)
    assert not here.genuine({**block, "thinking": "hmm"})


@pytest.mark.parametrize("host", ["anthropic", "custom"])
async def test_the_official_sdk_creates_and_streams_without_complaint(host: str) -> None:
    model = HOSTS[host].models[0].id
    asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": "How tall is a giraffe?"}]
    rules = Rules.ALL if host == "anthropic" else Rules.REAL
    async with Sandbox([host], rules=rules) as box:
        account = box.account(host)
        named = {"accept-encoding": "identity"}
        async with anthropic.AsyncAnthropic(
            api_key=account.key, base_url=box.url(host), default_headers=named, max_retries=0
        ) as client:
            message = await client.messages.create(model=model, max_tokens=100, messages=asked)
            assert message.content[0].type == "text" and "giraffe" in message.content[0].text
            account.say(Thinking("hm"), "Two", ToolUse("ls", {"path": "/"}))
            async with client.messages.stream(model=model, max_tokens=100, messages=asked) as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_message()
            assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
            assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
            assert final.content[2].type == "tool_use" and final.content[2].input == {"path": "/"}
            listed = [entry.id async for entry in client.models.list(limit=2)]
            assert listed == [entry.id for entry in HOSTS[host].models], "page by page"
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="nobody", max_tokens=1, messages=asked)
        assert account.received[0].header("authorization") == f"Bearer {account.key}"
