from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.dialects.gemini.encode import Encoded, encode, session_id
from mcp_proxy.dialects.gemini.profile import Profile
from tests.mcp_proxy.dialects.fixtures import NAMES, body
from tests.mcp_proxy.dialects.gemini.rules import (
    CLAUDE,
    CLAUDE_SIGNATURE,
    FLASH,
    GEMINI,
    GPT,
    check_request,
    good,
    request,
)

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 8000, "messages": HELLO, **fields}


def generation(profile: Profile = CLAUDE, **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = request(ask(**fields), profile)["generationConfig"]
    return config


def told(profile: Profile = CLAUDE, **fields: Any) -> list[str]:
    return [part["text"] for part in request(ask(**fields), profile)["systemInstruction"]["parts"]]


def refusal(fields: dict[str, Any], profile: Profile = CLAUDE) -> str:
    failure = encode(json.dumps(fields).encode(), profile)
    assert isinstance(failure, Failure)
    assert (failure.blame, failure.status, failure.type) == (Blame.REQUEST, 400, "invalid_request_error")
    return failure.message


def test_the_complete_example_comes_out_as_written_down() -> None:
    encoded = good(
        {
            "model": "claude-sonnet-4-6",
            "max_tokens": 8000,
            "stream": True,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "thinking": {"type": "enabled", "budget_tokens": 4000},
            "tools": [WEATHER],
            "messages": [
                {"role": "user", "content": "Weather in Oslo?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Need the tool.", "signature": "ag1c:" + CLAUDE_SIGNATURE},
                        {"type": "tool_use", "id": "toolu_01", "name": "get_weather", "input": {"city": "Oslo"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": "4 °C, rain"}],
                },
            ],
        }
    )
    call = {"id": "toolu_01", "name": "get_weather", "args": {"city": "Oslo"}}
    answer = {"id": "toolu_01", "name": "get_weather", "response": {"result": "4 °C, rain"}}
    hint = CLAUDE.hint
    assert json.loads(encoded.request) == {
        "sessionId": session_id("s"),
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}, {"text": hint}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather in Oslo?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Need the tool.", "thought": True, "thoughtSignature": CLAUDE_SIGNATURE},
                    {"functionCall": call},
                ],
            },
            {"role": "user", "parts": [{"functionResponse": answer}]},
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "get_weather", "description": "Weather", "parameters": WEATHER["input_schema"]}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
        "generationConfig": {
            "maxOutputTokens": 8000,
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 4000},
        },
    }
    assert encoded.names == {"get_weather": "get_weather"} and encoded.thoughts and encoded.search is None


@pytest.mark.parametrize("profile", [CLAUDE, GEMINI, FLASH, GPT])
@pytest.mark.parametrize("name", NAMES)
def test_recorded_requests_break_no_rule(name: str, profile: Profile) -> None:
    encoded = encode(body(name), profile)
    assert isinstance(encoded, Encoded)
    check_request(encoded)
    again = encode(body(name), profile)
    assert again == encoded
    assert b"cache_control" not in encoded.request and b"billing-header" not in encoded.request


def test_the_system_prompt_keeps_its_parts_but_for_the_attribution() -> None:
    blocks = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"},
        {"type": "text", "text": "One"},
        {"type": "text", "text": " \n"},
        {"type": "image"},
        {"type": "text", "text": "Two"},
    ]
    assert told(system=blocks) == ["One", "Two"]
    assert told(system="Be brief.") == ["Be brief."]
    assert told() == told(system="") == told(system=blocks[:1]) == ["You are a helpful assistant."]


def test_a_preamble_stands_before_every_system_prompt() -> None:
    profile = replace(CLAUDE, preamble=("You are the house.",))
    assert told(profile, system="Be brief.") == ["You are the house.", "Be brief."]
    assert told(profile) == ["You are the house."]


@pytest.mark.parametrize(
    ("profile", "choice", "config"),
    [
        (CLAUDE, None, {"mode": "VALIDATED"}),
        (CLAUDE, {"type": "auto", "disable_parallel_tool_use": True}, {"mode": "VALIDATED"}),
        (CLAUDE, {"type": "any"}, {"mode": "ANY"}),
        (CLAUDE, {"type": "tool", "name": "1st.tool:x"}, {"mode": "ANY", "allowedFunctionNames": ["_1st_tool_x"]}),
        (CLAUDE, {"type": "none"}, {"mode": "NONE"}),
        (GEMINI, None, None),
        (GEMINI, {"type": "auto"}, None),
        (GEMINI, {"type": "any"}, {"mode": "ANY"}),
        (GEMINI, {"type": "none"}, {"mode": "NONE"}),
    ],
)
def test_the_choice_of_tools(profile: Profile, choice: Any, config: dict[str, Any] | None) -> None:
    tool = {"name": "1st.tool:x", "input_schema": {"type": "object"}}
    sent = request(ask(tools=[tool], tool_choice=choice), profile)
    assert sent.get("toolConfig", {}).get("functionCallingConfig") == config
    assert "toolConfig" not in request(ask(tool_choice={"type": "any"}), profile)


def test_a_forced_tool_leaves_claude_no_time_to_think() -> None:
    fields = {
        "tools": [WEATHER],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    assert "thinkingConfig" not in generation(CLAUDE, **fields)
    assert generation(GEMINI, **fields)["thinkingConfig"]["includeThoughts"]


def test_names_are_sent_in_letters_that_are_taken_and_no_two_the_same() -> None:
    names = ["1st.tool:x", "1st_tool_x", "_1st_tool_x", "a" * 64, "a" * 65, "a" * 64 + "b", "héllo", "mcp__a__b", "-x"]
    encoded = good(ask(tools=[{"name": name, "input_schema": {"type": "object"}} for name in names]))
    assert sorted(encoded.names.values()) == sorted(names)
    assert encoded.names["_1st_tool_x"] == "1st.tool:x"
    assert encoded.names["mcp__a__b"] == "mcp__a__b"
    assert encoded.names["a" * 64] == "a" * 64


def test_odd_tools_are_left_out_or_taken_as_they_are() -> None:
    tools = [
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "bare"},
        {"type": "custom", "name": "own", "description": "", "input_schema": {"type": "object"}, "strict": True},
        {"name": "own", "input_schema": {"type": "object", "properties": {"second": {}}}},
    ]
    sent = request(ask(tools=tools), GEMINI)
    assert sent["tools"] == [
        {
            "functionDeclarations": [
                {"name": "bare", "parameters": {"type": "object"}},
                {"name": "own", "parameters": {"type": "object"}},
            ]
        }
    ]
    assert "tools" not in request(ask(tools=tools[:2])) and "tools" not in request(ask(tools=[]))
    assert "tools" not in request(ask(tools=None))


def test_a_list_too_long_to_keep_is_read_all_the_same() -> None:
    long = {**WEATHER, "description": "x" * 300_000}
    assert request(ask(tools=[long]))["tools"][0]["functionDeclarations"][0]["description"] == long["description"]


def test_deferred_tools_are_told_once_the_conversation_names_them() -> None:
    tools = [WEATHER, *({"name": name, "input_schema": {}, "defer_loading": True} for name in ("found", "used", "no"))]
    messages = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "used", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "tool_reference", "tool_name": "found"}],
                }
            ],
        },
    ]
    sent = request(ask(tools=tools, messages=messages))
    assert [tool["name"] for tool in sent["tools"][0]["functionDeclarations"]] == ["get_weather", "found", "used"]
    assert sent["contents"][2]["parts"][0]["functionResponse"]["response"] == {"result": "Tool found: found"}
    forced = request(ask(tools=tools, tool_choice={"type": "tool", "name": "no"}))
    assert [tool["name"] for tool in forced["tools"][0]["functionDeclarations"]] == ["get_weather", "no"]
    hosted = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    assert len(request(ask(tools=[hosted, *tools]))["tools"][0]["functionDeclarations"]) == 4


@pytest.mark.parametrize(
    ("profile", "fields", "expected"),
    [
        (CLAUDE, {"max_tokens": 128_000}, {"maxOutputTokens": 64_000}),
        (CLAUDE, {"max_tokens": "x"}, {"maxOutputTokens": 64_000}),
        (GPT, {"max_tokens": 128_000, "thinking": {"type": "enabled", "budget_tokens": 2000}}, {
            "maxOutputTokens": 32_768}),
        (CLAUDE, {"temperature": 0.5, "top_p": 1, "top_k": 4}, {
            "maxOutputTokens": 8000, "temperature": 0.5, "topP": 1, "topK": 4}),
        (CLAUDE, {"temperature": True, "top_p": None, "top_k": "x"}, {"maxOutputTokens": 8000}),
        (CLAUDE, {"temperature": 1, "thinking": {"type": "enabled", "budget_tokens": 2000}}, {
            "maxOutputTokens": 8000, "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2000}}),
        (CLAUDE, {"stop_sequences": ["a", "", 7, "b", "c", "d", "e", "f"]}, {
            "maxOutputTokens": 8000, "stopSequences": ["a", "b", "c", "d", "e"]}),
        (CLAUDE, {"stop_sequences": []}, {"maxOutputTokens": 8000}),
        (GEMINI, {"max_tokens": 64, "thinking": {"type": "disabled"}, "temperature": 1}, {
            "maxOutputTokens": 64 + 128, "temperature": 1,
            "thinkingConfig": {"includeThoughts": False, "thinkingBudget": 128}}),
        (GEMINI, {"max_tokens": 128_000}, {
            "maxOutputTokens": 65_535, "thinkingConfig": {"includeThoughts": False, "thinkingBudget": 128}}),
        (GEMINI, {"temperature": 1, "thinking": {"type": "enabled", "budget_tokens": 2000}}, {
            "maxOutputTokens": 8000, "temperature": 1,
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2000}}),
    ],
)  # fmt: skip
def test_generation(profile: Profile, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert generation(profile, **fields) == expected


@pytest.mark.parametrize(
    ("profile", "max_tokens", "thinking", "effort", "budget"),
    [
        (CLAUDE, 8000, {"type": "disabled"}, "high", None),
        (CLAUDE, 8000, None, "high", None),
        (CLAUDE, 8000, {"type": "enabled", "budget_tokens": 4000}, None, 4000),
        (CLAUDE, 8000, {"type": "enabled", "budget_tokens": 9000}, None, 7999),
        (CLAUDE, 128_000, {"type": "enabled", "budget_tokens": 100_000}, None, 63_999),
        (CLAUDE, 1024, {"type": "enabled", "budget_tokens": 1024}, None, None),
        (CLAUDE, 8000, {"type": "enabled"}, None, 7999),
        (CLAUDE, 8000, {"type": "enabled", "budget_tokens": 5}, None, 1024),
        (CLAUDE, 128_000, {"type": "adaptive"}, None, 32_000),
        (CLAUDE, 128_000, {"type": "adaptive", "display": "omitted"}, "medium", 16_000),
        (CLAUDE, 128_000, {"type": "adaptive"}, "low", 4096),
        (CLAUDE, 8000, {"type": "adaptive"}, "high", 4000),
        (CLAUDE, 1, {"type": "adaptive"}, "high", None),
        (CLAUDE, None, {"type": "adaptive"}, "max", 32_000),
        (GEMINI, 128_000, {"type": "adaptive"}, "max", 32_767),
        (FLASH, 128_000, {"type": "enabled", "budget_tokens": 200_000}, None, 65_534),
        (FLASH, 64, {"type": "enabled", "budget_tokens": 32}, None, 32),
    ],
)
def test_how_much_thought(
    profile: Profile, max_tokens: int | None, thinking: Any, effort: str | None, budget: int | None
) -> None:
    fields = {"max_tokens": max_tokens, "thinking": thinking, "output_config": {"effort": effort}}
    encoded = good(ask(**fields), profile)
    config = json.loads(encoded.request)["generationConfig"]
    assert encoded.thoughts is (budget is not None)
    if budget is None:
        assert "thinkingConfig" not in config
    else:
        assert config["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": budget}


def test_the_hint_is_told_to_those_who_think_and_have_tools() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert told(tools=[WEATHER], thinking=thinking)[-1] == CLAUDE.hint
    for silent in (told(tools=[WEATHER]), told(thinking=thinking), told(GEMINI, tools=[WEATHER], thinking=thinking)):
        assert CLAUDE.hint not in silent


def test_a_prescribed_form_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}
    form = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    config = generation(GEMINI, output_config=form)
    assert config["responseMimeType"] == "application/json"
    assert config["responseSchema"]["properties"] == {"title": {"type": "string"}}
    for profile, more in ((CLAUDE, {}), (GEMINI, {"tools": [WEATHER]})):
        sent = request(ask(output_config=form, **more), profile)
        assert "responseSchema" not in sent["generationConfig"]
        assert json.dumps(schema, separators=(",", ":")) in sent["systemInstruction"]["parts"][-1]["text"]


def test_a_conversation_keeps_its_session_id_and_no_two_share_one() -> None:
    first = ask(system="S", messages=HELLO)
    longer = ask(system="S", messages=[*HELLO, {"role": "assistant", "content": "Hi"}, *HELLO])
    ids = [request(fields, session="")["sessionId"] for fields in (first, longer)]
    assert ids[0] == ids[1] != request(ask(system="T"), session="")["sessionId"]
    assert request(first, session="a")["sessionId"] == request(longer, session="a")["sessionId"] == session_id("a")
    assert session_id("a") != session_id("b")
    as_blocks = ask(
        system=[{"type": "text", "text": "x-anthropic-billing-header: 7"}, {"type": "text", "text": "S"}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    )
    assert request(as_blocks, session="")["sessionId"] == ids[0]


def test_what_the_upstream_does_not_know_stays_here() -> None:
    extra = {
        "metadata": {"user_id": "u"}, "service_tier": "auto", "container": "c", "context_management": {"edits": []},
        "mcp_servers": [], "betas": [], "stream": True, "safeguards": [{"cwd": "/home"}], "new_thing": 1,
    }  # fmt: skip
    assert request(ask(**extra)) == request(ask())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": None}, "messages: Input should be a valid list"),
        ({"messages": HELLO, "tools": {}}, "tools: Input should be a valid list"),
        ({"messages": HELLO, "tools": [7]}, "tools: Input should be a valid list"),
        ({"messages": HELLO, "tools": [{"name": ""}]}, "tools.0.name: String should have at least 1 character"),
        ({"messages": HELLO, "tools": [WEATHER], "tool_choice": {"type": "tool", "name": "no"}},
         "tool_choice: Tool 'no' not found in provided tools"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_the_clients_fault(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields) == message


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{", b'{"messages":[' + b"[" * 5000 + b"]" * 5000 + b"]}"])
def test_bytes_that_are_no_request_are_refused(text: bytes) -> None:
    assert isinstance(encode(text, CLAUDE), Failure)


def test_nesting_without_end_is_refused_and_not_walked() -> None:
    deep: dict[str, Any] = {"type": "text", "text": "x"}
    for _ in range(200):
        deep = {"type": "document", "source": {"type": "content", "content": [deep]}}
    for messages in ([{"role": "user", "content": [deep]}], HELLO):
        encoded = encode(json.dumps(ask(messages=messages)).encode(), CLAUDE)
        assert isinstance(encoded, Encoded | Failure)


def test_half_a_surrogate_pair_does_not_reach_google() -> None:
    text = b'{"messages":[{"role":"user","content":"cut \\ud83d"}],"max_tokens":9,"tools":[{"name":"a\\ud83d"}]}'
    encoded = encode(text, CLAUDE)
    assert isinstance(encoded, Encoded)
    sent = check_request(encoded)
    assert sent["contents"][0]["parts"] == [{"text": "cut \ufffd"}]
    assert encoded.names == {"a_": "a\ud83d"}


def test_numbers_of_any_size_pass() -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"n": 2**80, "f": 1.0}}
    sent = request(ask(messages=[*HELLO, {"role": "assistant", "content": [call]}]))
    assert sent["contents"][1]["parts"][0]["functionCall"]["args"] == {"n": 2**80, "f": 1.0}
