"""What goes in comes out: bodies, headers and frames, byte for byte but for the few exceptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.sandbox import Sandbox, Thinking, ToolUse, faults, say
from tests.e2e.harness import FIXTURES, Proxy, fixture, last_message, message, running

MESSAGES = sorted(
    entry["name"]
    for entry in json.loads((FIXTURES / "index.json").read_text())
    if entry["url"].startswith("/v1/messages?")
)
COUNTS = sorted(path.stem for path in FIXTURES.glob("count_tokens_*.json"))
PASSING = ("accept", "content-type", "user-agent", "x-app")
PASSING_FAMILIES = ("anthropic-", "x-stainless-", "x-claude-code-")


async def post_fixture(proxy: Proxy, name: str, path: str = "/v1/messages?beta=true") -> Any:
    body, headers = fixture(name)
    return await proxy.client.post(path, content=body, headers=dict(headers))


async def test_every_recorded_request_arrives_at_anthropic_byte_for_byte(tmp_path: Path) -> None:
    assert len(MESSAGES) > 25
    async with Sandbox(["anthropic"]) as box:
        models = {json.loads(fixture(name)[0])["model"] for name in MESSAGES}
        upstream = box.account("anthropic", alias="a", windows=(), models=models)
        async with running(tmp_path, box, ("anthropic", upstream, {"models": tuple(models)})) as proxy:
            for name in MESSAGES:
                answer = await post_fixture(proxy, name)
                assert answer.status_code == 200, (name, answer.text)
                received = last_message(upstream)
                sent, headers = fixture(name)
                assert received.body == sent, name
                assert received.target == "/v1/messages?beta=true"
                wanted = {
                    key.lower(): value
                    for key, value in headers
                    if key.lower() in PASSING or key.lower().startswith(PASSING_FAMILIES)
                }
                arrived = {key.lower(): value for key, value in received.headers}
                assert {key: arrived.get(key) for key in wanted} == wanted, name
                assert arrived["accept-encoding"] == "identity"
                extra = set(arrived) - set(wanted) - {"accept-encoding", "host", "content-length", "x-api-key"}
                assert extra == set(), name
            assert box.complaints == []


async def test_another_native_upstream_gets_the_same_but_for_the_model_and_what_it_would_refuse(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        upstream = box.account("zai", alias="z", windows=())
        async with running(tmp_path, box, ("zai", upstream)) as proxy:
            for name in ("main_turn", "title_generation"):
                answer = await post_fixture(proxy, name)
                assert answer.status_code == 200, (name, answer.text)
                sent = json.loads(fixture(name)[0])
                assert sent["model"].encode() in answer.content, "the answer is named as it was asked for"
                arrived = json.loads(last_message(upstream).body)
                for name in ("safeguards", "context_management"):
                    sent.pop(name, None)
                for tool in sent["tools"]:
                    tool.pop("defer_loading", None)
                assert "billing-header" in sent["system"].pop(0)["text"]
                assert arrived.pop("model").startswith("glm-")
                asked = sent.pop("model")
                assert arrived == sent and asked.startswith("claude-")
                headers = {key.lower() for key, _ in last_message(upstream).headers}
                assert headers <= {
                    "accept",
                    "accept-encoding",
                    "anthropic-beta",
                    "anthropic-version",
                    "authorization",
                    "content-length",
                    "content-type",
                    "host",
                    "user-agent",
                }
            assert [each for each in box.complaints if "monitor" not in each] == []


async def test_spaces_order_and_large_numbers_of_a_body_survive_a_change_of_model(tmp_path: Path) -> None:
    body = (
        b'{ "max_tokens" : 100,\n "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}],'
        b'"model" : "opus" ,"metadata":{"user_id":"u"}}'
    )
    async with Sandbox(["zai"]) as box:
        upstream = box.account("zai", alias="z", windows=())
        async with running(tmp_path, box, ("zai", upstream)) as proxy:
            answer = await proxy.client.post("/v1/messages", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 200, answer.text
            model = json.loads(last_message(upstream).body)["model"]
            assert last_message(upstream).body == body.replace(b'"opus"', f'"{model}"'.encode())
            assert answer.json()["model"] == "opus"


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_frames_come_back_as_they_were_however_the_upstream_cut_them(tmp_path: Path, size: int) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            answer = say(
                Thinking("Let me see.\u2028"), "Two words, ünïcode.", ToolUse("Bash", {"command": "ls"}), pieces=9
            )
            bodies = []
            for script in ((), (faults.shredded(size),)):
                upstream.say(answer)
                upstream.script(*script)
                bodies.append((await proxy.ask(stream=True)).content)
            whole, shredded = (body.split(b"\n\n") for body in bodies)
            assert len(whole) == len(shredded) > 15
            same = [one for one, other in zip(whole, shredded, strict=True) if one == other]
            assert len(same) >= len(whole) - 5, "only made-up ids and signatures differ"


async def test_events_are_passed_on_at_once(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            upstream.script(faults.stall("content_block_delta", 0.4))
            async with proxy.client.stream("POST", "/v1/messages", json=message(stream=True)) as answer:
                came = answer.aiter_raw()
                first = await anext(came)
                while b"content_block_delta" not in first:
                    first += await anext(came)
                assert not last_message(upstream).done, "the upstream is still in its pause"
                assert b"message_stop" in b"".join([piece async for piece in came])


async def test_tokens_are_counted_by_the_provider_where_it_can(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            for name in COUNTS:
                answer = await post_fixture(proxy, name, "/v1/messages/count_tokens?beta=true")
                assert answer.status_code == 200 and answer.json()["input_tokens"] > 0, name
                assert last_message(upstream).body == fixture(name)[0]
            assert len(upstream.received) >= len(COUNTS)


async def test_tokens_are_estimated_where_the_provider_says_zero_or_nothing(tmp_path: Path) -> None:
    async with Sandbox(["anthropic", "custom"]) as box:
        mute = box.account("custom", alias="c", models=["house-large"])
        async with running(tmp_path, box, ("custom", mute)) as proxy:
            body = message("word " * 1000, "house-large")
            body.pop("max_tokens")
            mute.always(faults.html(404), on=None)
            answer = await proxy.client.post("/v1/messages/count_tokens", json=body)
            assert answer.status_code == 200
            assert 500 < answer.json()["input_tokens"] < 2500
            mute.well()
            assert (await proxy.ask(model="house-large")).status_code == 200, "a count that failed touches no account"


async def test_the_context_command_may_count_26_things_at_once(tmp_path: Path) -> None:
    import asyncio

    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            body, headers = fixture("count_tokens_one_tool")
            calls = [
                proxy.client.post("/v1/messages/count_tokens?beta=true", content=body, headers=dict(headers))
                for _ in range(26)
            ]
            answers = await asyncio.gather(*calls)
            assert {answer.status_code for answer in answers} == {200}


async def test_a_request_fault_comes_back_in_the_upstreams_own_words(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        first, second = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        async with running(tmp_path, box, ("anthropic", first), ("anthropic", second)) as proxy:
            body = message()
            body["messages"].append({"role": "assistant", "content": []})
            body["messages"].append(
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_x", "content": "y"}]}
            )
            answer = await proxy.client.post("/v1/messages", json=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
            asked = [each for each in box.received if each.path == "/v1/messages"]
            assert len(asked) == 1, "nobody else is bothered with it"
            assert answer.json()["request_id"].startswith("req_sandbox"), "the document is the upstream's"
