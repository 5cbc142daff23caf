"""Conversations that move to an upstream that would refuse them as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox import Sandbox, Thinking, ToolUse, refusals, say
from tests.e2e.harness import fixture, last_message, message, running

SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c29tZWJvZHkgZWxzZQ=="}
TOLD = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [SIGNED, {"type": "text", "text": "b"}]}]
MOVED = {"messages": [*TOLD, {"role": "user", "content": "c"}]}


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-4-5"])
async def test_a_tool_round_begun_at_z_ai_goes_on_at_anthropic(tmp_path: Path, model: str) -> None:
    async with Sandbox(["zai", "anthropic"]) as box:
        glm, claude = box.account("zai", alias="z", windows=()), box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("zai", glm, {"tier": 1}), ("anthropic", claude, {"tier": 2})) as proxy:
            asked: dict[str, Any] = {
                "max_tokens": 9000,
                "thinking": {"type": "enabled", "budget_tokens": 2000} if "4-5" in model else {"type": "adaptive"},
                "tools": [{"name": "ls", "input_schema": {"type": "object"}}],
            }
            glm.say(say(Thinking("hm"), ToolUse("ls", {}, id="call:1 2")))
            first = await proxy.ask(**asked, model="zai/glm-4.7")
            content = first.json()["content"]
            assert content[0]["type"] == "thinking" and not content[0]["signature"]
            result = {"type": "tool_result", "tool_use_id": "call:1 2", "content": "x"}
            turns = [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": content},
                {"role": "user", "content": [result]},
            ]
            second = await proxy.ask(**asked, model=model, messages=turns)
            assert second.status_code == 200, second.text
            arrived = json.loads(last_message(claude).body)
            assert [block["type"] for block in arrived["messages"][1]["content"]] == ["tool_use"]
            assert arrived["thinking"] == {"type": "disabled" if "4-5" in model else "adaptive"}
            assert [each for each in box.complaints if "monitor" not in each] == []


async def test_a_refused_signature_is_no_trouble_of_the_clients(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a", windows=())
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            answer = await proxy.ask(**MOVED)
            assert (answer.status_code, answer.headers["x-proxy-attempts"]) == (200, "1")
            arrived = json.loads(last_message(upstream).body)
            assert arrived["messages"][1]["content"] == [{"type": "text", "text": "b"}]
            exchange = proxy.gateway.recent[-1]
            assert exchange.cleaned == ("refused_thinking",)
            assert "Invalid `signature`" in box.complaints[0] and len(box.complaints) == 1


async def test_where_that_is_refused_too_the_client_hears_the_first_refusal_as_it_came(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a", windows=())
        said = "messages.1.content.0: Invalid `signature` in `thinking` block"
        upstream.script(refusals.bad_request(said), refusals.bad_request("Expected `thinking`"))
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            answer = await proxy.ask()
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, said)
            assert len([each for each in upstream.received if "/v1/messages" in each.path]) == 2


async def test_thoughts_that_the_client_edited_are_its_own_affair(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a", windows=())
        said = "messages.1.content.0: `thinking` blocks in the latest assistant message cannot be modified"
        upstream.script(refusals.bad_request(said))
        async with running(tmp_path, box, ("anthropic", upstream)) as proxy:
            answer = await proxy.ask()
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, said)
            assert len([each for each in upstream.received if "/v1/messages" in each.path]) == 1


@pytest.mark.parametrize("model", ["glm-5.3", "glm-5.2", "glm-4.7", "glm-4.5-air"])
async def test_every_generation_of_glm_takes_what_claude_code_sends(tmp_path: Path, model: str) -> None:
    async with Sandbox(["zai"]) as box:
        upstream = box.account("zai", alias="z", windows=())
        async with running(tmp_path, box, ("zai", upstream)) as proxy:
            for name in ("main_turn", "pre_adaptive_model_turn", "auto_mode_classifier_block_stage1"):
                body, headers = fixture(name)
                sent = json.loads(body) | {"model": model}
                how = {key: value for key, value in headers if key.lower() not in ("content-length", "host")}
                answer = await proxy.client.post("/v1/messages?beta=true", json=sent, headers=how)
                assert answer.status_code == 200, (name, answer.text)
                betas = dict(last_message(upstream).headers).get("anthropic-beta", "")
                assert "context-management" not in betas and "advanced-tool-use" not in betas
            assert [each for each in box.complaints if "monitor" not in each] == []


async def test_a_model_of_another_generation_is_told_in_its_own_words(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="a", windows=())
        toml = '[routing.aliases]\n"claude-opus-5-5" = "anthropic/claude-opus-4-5"\n'
        async with running(tmp_path, box, ("anthropic", upstream), toml=toml) as proxy:
            asked = message(model="claude-opus-5-5", max_tokens=128_000, thinking={"type": "adaptive"})
            answer = await proxy.client.post("/v1/messages", json=asked)
            assert answer.status_code == 200, answer.text
            arrived = json.loads(last_message(upstream).body)
            assert arrived["max_tokens"] == 64_000 and arrived["thinking"]["type"] == "enabled"
            own = await proxy.client.post("/v1/messages", json={**asked, "model": "claude-haiku-4-5"})
            assert own.status_code == 400, "what a model does not take under its own name, its client has to hear of"


async def test_what_answers_count_teaches_the_estimates(tmp_path: Path) -> None:
    async with Sandbox(["zai"]) as box:
        upstream = box.account("zai", alias="z", windows=())
        async with running(tmp_path, box, ("zai", upstream)) as proxy:
            text = "word " * 4000
            asked = {"model": "glm-5.3", "messages": [{"role": "user", "content": text}]}
            told = [(await proxy.client.post("/v1/messages/count_tokens", json=asked)).json()["input_tokens"]]
            upstream.say(*(say("yes", usage=Usage(input=9_000, output=1)) for _ in range(8)))
            for number in range(8):
                for known in proxy.gateway.calibration._families.values():
                    known.sampled = None  # as if some seconds had gone by
                assert (await proxy.ask(text, model="glm-5.3", stream=bool(number % 2))).status_code == 200
            told.append((await proxy.client.post("/v1/messages/count_tokens", json=asked)).json()["input_tokens"])
            assert told[0] < 7000, "by what is known of the family"
            assert 9000 <= told[1] <= 10_500
