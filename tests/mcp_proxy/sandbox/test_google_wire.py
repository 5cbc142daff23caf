from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.decode import GeminiDecoder
from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.profile import profile_of
from mcp_proxy.sandbox import GoogleAccount, Sandbox
from mcp_proxy.sandbox.google.models import CATALOG
from tests.mcp_proxy.dialects.sdk import gathered
from tests.mcp_proxy.sandbox.asking import FIXTURES
from tests.mcp_proxy.sandbox.google import CLAUDE, GEMINI, GPT, call, envelope

INDEX = [
    entry for entry in json.loads((FIXTURES / "index.json").read_text()) if entry["url"].endswith("messages?beta=true")
]
ENTRIES = {model.id: model.entry() for model in CATALOG}
SEARCHER = "gemini-3.1-flash-lite"


async def answered(box: Sandbox, account: GoogleAccount, body: bytes, model: str) -> tuple[Encoded, httpx.Response]:
    """What the dialect makes of a request of Claude Code's, and what Google says to that."""
    encoded = encode(body, profile_of(ModelId(model), ENTRIES[model]), "session")
    assert isinstance(encoded, Encoded), encoded
    sent = envelope(account, json.loads(encoded.request), model)
    if encoded.search is not None:
        del sent["requestId"]
        sent |= {"requestType": "web_search", "model": SEARCHER}
    return encoded, await call(box, account, "streamGenerateContent", sent)


def message(encoded: Encoded, answer: httpx.Response) -> dict[str, Any]:
    """The message that the official SDK gathers from what the dialect makes of an answer."""
    ids = itertools.count()
    decoder = GeminiDecoder(encoded, "asked", lambda prefix: f"{prefix}{next(ids)}")
    events = decoder.feed(answer.content) + decoder.end()
    assert decoder.failure is None, decoder.failure
    return gathered(events)


@pytest.mark.parametrize("model", [CLAUDE, GEMINI, GPT])
async def test_every_recorded_request_of_claude_code_is_accepted_and_its_answer_is_a_message(model: str) -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity", alias="a")
        assert len(INDEX) > 30
        for entry in INDEX:
            body = (FIXTURES / f"{entry['name']}.json").read_bytes()
            encoded, answer = await answered(box, account, body, model)
            assert answer.status_code == 200, (entry["name"], answer.text)
            found = message(encoded, answer)
            assert found["content"] and found["stop_reason"] in ("end_turn", "max_tokens"), entry["name"]
        assert box.complaints == []


ASK = {
    "max_tokens": 8000,
    "thinking": {"type": "enabled", "budget_tokens": 4000},
    "tools": [
        {
            "name": name,
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }
        for name in ("get_weather", "get_time")
    ],
}


@pytest.mark.parametrize("model", [CLAUDE, GEMINI, GPT])
async def test_a_round_of_parallel_calls_goes_there_and_back_with_its_signatures(model: str) -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity", alias="a")
        said: list[dict[str, Any]] = [{"role": "user", "content": "Please call the tools get_weather and get_time."}]
        encoded, answer = await answered(box, account, json.dumps({**ASK, "messages": said}).encode(), model)
        first = message(encoded, answer)
        uses = [block for block in first["content"] if block["type"] == "tool_use"]
        assert [use["name"] for use in uses] == ["get_weather", "get_time"] and first["stop_reason"] == "tool_use"
        if model != GPT:
            assert first["content"][0]["type"] == "thinking" and first["content"][0]["signature"]
        results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "4"} for use in uses]
        said += [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]
        encoded, answer = await answered(box, account, json.dumps({**ASK, "messages": said}).encode(), model)
        second = message(encoded, answer)
        assert second["content"][-1]["text"].endswith("I have what get_weather, get_time told.")
        if model == CLAUDE:
            assert second["content"][0]["type"] == "thinking", "its thoughts came back, so it goes on thinking"
        signed = [
            part["thoughtSignature"]
            for part in json.loads(encoded.request)["contents"][1]["parts"]
            if "thoughtSignature" in part
        ]
        assert len(signed) == (0 if model == GPT else 1) and "skip_thought_signature_validator" not in signed
        said += [{"role": "assistant", "content": second["content"]}, {"role": "user", "content": "thanks"}]
        encoded, answer = await answered(box, account, json.dumps({**ASK, "messages": said}).encode(), model)
        third = message(encoded, answer)
        assert third["usage"]["cache_read_input_tokens"] > 0, "the same conversation"
        assert box.complaints == []
