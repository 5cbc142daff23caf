"""Each rule refuses what breaks it, in Google's words, and takes the twin that does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mcp_proxy.sandbox import GoogleAccount, Rules, Sandbox
from mcp_proxy.sandbox.google.models import Family
from mcp_proxy.sandbox.google.signing import SENTINELS, of_call, sign
from tests.mcp_proxy.sandbox.google import (
    CLAUDE,
    GEMINI,
    GPT,
    WEATHER,
    ask,
    call,
    envelope,
    error,
    request,
    thinking,
    tools,
)

ARGS = {"name": "get_weather", "args": {"city": "Oslo"}}
THOUGHT = {"text": "Hm.", "thought": True, "thoughtSignature": sign(Family.CLAUDE, "Hm.")}
SIGNED = sign(Family.GEMINI, of_call(ARGS))
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "eA=="}}


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(["antigravity"]) as box:
        yield box


@pytest.fixture
def account(box: Sandbox) -> GoogleAccount:
    return box.account("antigravity", alias="a")


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts) or [{"text": "hello"}]}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def called(id: str = "t1", **more: Any) -> dict[str, Any]:
    return {"functionCall": {"id": id, **ARGS}, **more}


def answer(id: str = "t1", name: str = "get_weather", **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"id": id, "name": name, "response": {"result": "4"}, **more}}


def said(*contents: dict[str, Any], **more: Any) -> dict[str, Any]:
    return request(contents=list(contents), **more)


def with_schema(**schema: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    return request(tools=tools({"name": "t", "parameters": parameters}))


def declared(**tool: Any) -> dict[str, Any]:
    return request(tools=tools({**WEATHER, **tool}))


def mode(word: str, **more: Any) -> dict[str, Any]:
    return {"functionCallingConfig": {"mode": word, **more}}


def config(**more: Any) -> dict[str, Any]:
    return request(generationConfig={"maxOutputTokens": 8000, **more})


def thinks(budget: int = 4000, **more: Any) -> dict[str, Any]:
    return request(generationConfig=thinking(budget, **more))


PLAIN = request()
ROUND = said(user(), model(called()), user(answer()))
SIGNED_ROUND = said(user(), model(called(thoughtSignature=SIGNED)), user(answer()))
THOUGHT_ROUND = said(user(), model(THOUGHT, called()), user(answer()), generationConfig=thinking())

REQUESTS: list[tuple[str, str, Any, str, Any]] = [
    # what, model, wrong, why, right
    ("unknown field", CLAUDE, request(wisdom=1), "Unknown name \"wisdom\" at 'request'", PLAIN),
    ("safety settings", CLAUDE, request(safetySettings=[]), 'Unknown name "safetySettings"', PLAIN),
    ("cache mark", CLAUDE, said(user({"text": "a", "cache_control": {}})), "contents[0].parts[0]'", PLAIN),
    ("both spellings", CLAUDE, request(session_id="-1"), "already set", PLAIN),
    ("number as text", CLAUDE, config(maxOutputTokens="8"), "TYPE_INT32", config(maxOutputTokens=8)),
    ("schema keyword", CLAUDE, with_schema(type="string", pattern="a"), 'Unknown name "pattern"', ROUND),
    ("in which tool", CLAUDE, with_schema(type="string", format="a"), "tools[0].function_declarations[0]", ROUND),
    ("list of types", CLAUDE, with_schema(type=["string"]), "ENUM", with_schema(type="STRING")),
    ("no type", CLAUDE, with_schema(description="a"), "type: must be set", with_schema(type="string")),
    (
        "enum of numbers",
        CLAUDE,
        with_schema(type="string", enum=[1]),
        "TYPE_STRING",
        with_schema(type="string", enum=["a"]),
    ),
    (
        "typed enum",
        CLAUDE,
        with_schema(type="integer", enum=["1"]),
        "only allowed for STRING",
        with_schema(type="integer"),
    ),
    ("array of what", CLAUDE, with_schema(type="array"), "items", with_schema(type="array", items={"type": "string"})),
    ("object asks nothing", CLAUDE, with_schema(type="object"), "invalid argument", with_schema(type="string")),
    (
        "required of nothing",
        GEMINI,
        with_schema(type="object", required=["y"]),
        "not defined",
        with_schema(type="object"),
    ),
    ("no properties", GEMINI, with_schema(type="object", properties={}), "non-empty", with_schema(type="object")),
    ("tool name", CLAUDE, declared(name="1st tool"), "Invalid function name", declared(name="first_tool")),
    ("dotted name", CLAUDE, declared(name="a.b"), "should match pattern", declared(name="a_b")),
    ("tool twice", CLAUDE, request(tools=tools(WEATHER, WEATHER)), "Duplicate", declared()),
    ("no parameters", CLAUDE, request(tools=tools({"name": "t"})), "should be OBJECT", declared()),
    ("no tools in tools", CLAUDE, request(tools=[{"functionDeclarations": []}]), "must not be empty", declared()),
    ("config of no tools", CLAUDE, request(toolConfig=mode("AUTO")), "without function_declarations", declared()),
    (
        "allowed name",
        CLAUDE,
        request(tools=tools(), toolConfig=mode("ANY", allowedFunctionNames=["x"])),
        "undeclared",
        request(tools=tools(), toolConfig=mode("ANY", allowedFunctionNames=["get_weather"])),
    ),
    (
        "allowed while free",
        CLAUDE,
        request(tools=tools(), toolConfig=mode("AUTO", allowedFunctionNames=["get_weather"])),
        "mode ANY",
        request(tools=tools(), toolConfig=mode("VALIDATED")),
    ),
    ("google and tools", GEMINI, request(tools=[*tools(), {"googleSearch": {}}]), "unsupported", declared()),
    ("nothing said", CLAUDE, said(), "at least one contents", PLAIN),
    ("odd role", CLAUDE, said({"role": "assistant", "parts": [{"text": "a"}]}), "valid role", PLAIN),
    ("model first", CLAUDE, said(model({"text": "a"}), user()), "first content", PLAIN),
    ("twice in a row", GEMINI, said(user(), user()), "invalid argument", said(user(), model({"text": "a"}), user())),
    ("prefill", CLAUDE, said(user(), model({"text": "a"})), "assistant message prefill", PLAIN),
    ("no parts", CLAUDE, said({"role": "user", "parts": []}), "must not be empty", PLAIN),
    ("no data", CLAUDE, said(user({})), "required oneof field 'data'", PLAIN),
    (
        "two data",
        CLAUDE,
        said(user({"text": "a", **IMAGE})),
        "required oneof field 'data'",
        said(user({"text": "a"}, IMAGE)),
    ),
    ("empty text", CLAUDE, said(user({"text": " "})), "must be non-empty", PLAIN),
    ("empty text of Gemini", GEMINI, said(user({"text": ""})), "invalid argument", PLAIN),
    ("user calls", CLAUDE, said(user(called())), "invalid argument", ROUND),
    ("no answer", CLAUDE, said(user(), model(called()), user()), "number of function response parts", ROUND),
    ("answer to nothing", CLAUDE, said(user(answer())), "number of function response parts", ROUND),
    ("other id", CLAUDE, said(user(), model(called()), user(answer("t2"))), "number of function resp", ROUND),
    ("other name", CLAUDE, said(user(), model(called()), user(answer(name="x"))), "number of function", ROUND),
    (
        "answers out of order",
        CLAUDE,
        said(user(), model(called("a"), called("b")), user(answer("b"), answer("a"))),
        "number of function",
        said(user(), model(called("a"), called("b")), user(answer("a"), answer("b"))),
    ),
    (
        "text before answers",
        CLAUDE,
        said(user(), model(called()), user({"text": "a"}, answer())),
        "number of function",
        said(user(), model(called()), user(answer(), {"text": "a"})),
    ),
    (
        "id twice",
        CLAUDE,
        said(user(), model(called()), user(answer()), model(called()), user(answer())),
        "invalid argument",
        said(user(), model(called()), user(answer()), model(called("t2")), user(answer("t2"))),
    ),
    ("odd id", CLAUDE, said(user(), model(called("a b")), user(answer("a b"))), "does not match", ROUND),
    (
        "odd response",
        CLAUDE,
        said(user(), model(called()), user(answer(response={"x": 1}))),
        "a result or an error",
        ROUND,
    ),
    ("call before text", CLAUDE, said(user(), model(called(), {"text": "a"}), user(answer())), "calls last", ROUND),
    (
        "unsigned thought",
        CLAUDE,
        said(user(), model({"text": "a", "thought": True}, called()), user(answer()), generationConfig=thinking()),
        "thinking.signature: Field required",
        THOUGHT_ROUND,
    ),
    (
        "changed thought",
        CLAUDE,
        said(user(), model({**THOUGHT, "text": "Ha."}, called()), user(answer()), generationConfig=thinking()),
        "Invalid `signature` in `thinking` block",
        THOUGHT_ROUND,
    ),
    (
        "Gemini's signature",
        CLAUDE,
        said(
            user(),
            model({**THOUGHT, "thoughtSignature": SIGNED}, called()),
            user(answer()),
            generationConfig=thinking(),
        ),
        "Invalid `signature`",
        THOUGHT_ROUND,
    ),
    (
        "sentinel for Claude",
        CLAUDE,
        said(user(), model(called(thoughtSignature=SENTINELS[0])), user(answer())),
        "Extra inputs",
        ROUND,
    ),
    (
        "thoughts alone",
        CLAUDE,
        said(user(), model(THOUGHT), user(), generationConfig=thinking()),
        "final block",
        THOUGHT_ROUND,
    ),
    (
        "a round without thoughts",
        CLAUDE,
        said(user(), model(called()), user(answer()), generationConfig=thinking()),
        "but found `tool_use`",
        THOUGHT_ROUND,
    ),
    (
        "thoughts for a model that does not think",
        CLAUDE,
        said(user(), model(THOUGHT, called()), user(answer())),
        "invalid argument",
        ROUND,
    ),
    ("unsigned call", GEMINI, ROUND, "missing a thought_signature", SIGNED_ROUND),
    (
        "Claude's signature",
        GEMINI,
        said(user(), model(called(thoughtSignature=sign(Family.CLAUDE, "Hm."))), user(answer())),
        "Thought signature is not valid",
        SIGNED_ROUND,
    ),
    (
        "another call's signature",
        GEMINI,
        said(user(), model(called(thoughtSignature=sign(Family.GEMINI, ""))), user(answer())),
        "not valid",
        said(user(), model(called(thoughtSignature=SENTINELS[0])), user(answer())),
    ),
    (
        "thoughts back to Gemini",
        GEMINI,
        said(user(), model({"text": "a", "thought": True}, {"text": "b"}), user()),
        "invalid argument",
        SIGNED_ROUND,
    ),
    ("signed for GPT", GPT, SIGNED_ROUND, "invalid argument", ROUND),
    ("image for GPT", GPT, said(user(IMAGE)), "Image input is not enabled", PLAIN),
    ("no room", CLAUDE, config(maxOutputTokens=0), "must be positive", config(maxOutputTokens=1)),
    (
        "too much room",
        CLAUDE,
        config(maxOutputTokens=64_001),
        "Request contains an invalid argument.",
        config(maxOutputTokens=64_000),
    ),
    (
        "too much room for Gemini",
        GEMINI,
        config(maxOutputTokens=65_537),
        "invalid argument",
        config(maxOutputTokens=65_536),
    ),
    (
        "too many stops",
        CLAUDE,
        config(stopSequences=list("abcdef")),
        "stop_sequences",
        config(stopSequences=list("abcde")),
    ),
    ("two candidates", GEMINI, config(candidateCount=2), "Multiple candidates", config(candidateCount=1)),
    ("picture of a talker", GEMINI, config(responseModalities=["IMAGE"]), "Image output is not enabled", PLAIN),
    (
        "schema and tools",
        GEMINI,
        {**config(responseMimeType="application/json", responseSchema={"type": "string"}), "tools": tools()},
        "unsupported",
        config(responseMimeType="application/json", responseSchema={"type": "string"}),
    ),
    (
        "schema of Claude",
        CLAUDE,
        config(responseMimeType="application/json", responseSchema={"type": "string"}),
        "unsupported",
        PLAIN,
    ),
    ("schema of what", GEMINI, config(responseSchema={"type": "string"}), "application/json", PLAIN),
    ("little thought", CLAUDE, thinks(1023), "greater than or equal to 1024", thinks(1024)),
    ("all thought", CLAUDE, thinks(8000), "must be greater than `thinking.budget_tokens`", thinks(7999)),
    ("hot thought", CLAUDE, thinks(temperature=0.5), "`temperature` may only be set to 1", thinks(temperature=1)),
    ("top_p with thought", CLAUDE, thinks(topP=0.5), "must be unset", config(topP=0.5)),
    (
        "forced thought",
        CLAUDE,
        {**thinks(), "tools": tools(), "toolConfig": mode("ANY")},
        "forces tool use",
        {**thinks(), "tools": tools(), "toolConfig": mode("VALIDATED")},
    ),
    ("little thought of Gemini", GEMINI, thinks(0), "The thinking budget 0 is invalid", thinks(-1)),
    ("thought of GPT", GPT, thinks(), "Thinking is not enabled", PLAIN),
    (
        "budget and level",
        GEMINI,
        config(thinkingConfig={"thinkingBudget": 9, "thinkingLevel": "low"}),
        "invalid argument",
        config(thinkingConfig={"thinkingLevel": "low"}),
    ),
    ("bad session", CLAUDE, request(sessionId="abc"), "sessionId", PLAIN),
    (
        "billing line",
        CLAUDE,
        request(systemInstruction={"role": "user", "parts": [{"text": "x-anthropic-billing-header: cc=1"}]}),
        "billing",
        PLAIN,
    ),
    (
        "role of the system",
        CLAUDE,
        request(systemInstruction={"role": "system", "parts": [{"text": "a"}]}),
        "role must be user",
        PLAIN,
    ),
    ("too long", GPT, request("word " * 100_000), "exceeds the maximum number of tokens", PLAIN),
    ("too long for Claude", CLAUDE, request("word " * 170_000), "prompt is too long: ", PLAIN),
]


@pytest.mark.parametrize(
    ("what", "of", "wrong", "why", "right"), REQUESTS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_request(
    box: Sandbox, account: GoogleAccount, what: str, of: str, wrong: Any, why: str, right: Any
) -> None:
    refused = await ask(box, account, wrong, of)
    status, state, message = error(refused)
    assert (status, state) == (400, "INVALID_ARGUMENT") and why in message, (what, message)
    assert len(box.complaints) == 1
    taken = await ask(box, account, right, of)
    assert taken.status_code == 200, (what, taken.text)


async def test_what_anthropic_says_stands_within_what_google_says(box: Sandbox, account: GoogleAccount) -> None:
    _, _, message = error(await ask(box, account, said(user(), model({"text": "a"})), CLAUDE))
    inner = json.loads(message)
    assert inner["type"] == "error" and inner["error"]["type"] == "invalid_request_error"
    assert inner["request_id"].startswith("req_vrtx_")


async def test_a_violation_names_its_field(box: Sandbox, account: GoogleAccount) -> None:
    refused = await ask(box, account, with_schema(type="string", propertyNames={}))
    (details,) = refused.json()["error"]["details"]
    assert details["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert (
        details["fieldViolations"][0]["field"]
        == "request.tools[0].function_declarations[0].parameters.properties[0].value"
    )


async def test_a_missing_system_prompt_is_a_bare_429(box: Sandbox, account: GoogleAccount) -> None:
    asked = request()
    del asked["systemInstruction"]
    assert error(await ask(box, account, asked)) == (
        429,
        "RESOURCE_EXHAUSTED",
        "Resource has been exhausted (e.g. check quota).",
    )
    assert box.complaints == ["antigravity /v1internal:streamGenerateContent: no system instruction"]


async def test_both_spellings_of_a_name_are_taken(box: Sandbox, account: GoogleAccount) -> None:
    snake = {
        "contents": [user()],
        "system_instruction": {"role": "user", "parts": [{"text": "a"}]},
        "generation_config": {
            "max_output_tokens": 8000,
            "thinking_config": {"include_thoughts": True, "thinking_budget": 1024},
        },
        "session_id": "-1",
    }
    body = {**envelope(account, snake), "user_agent": "antigravity"}
    del body["userAgent"]
    assert (await call(box, account, "streamGenerateContent", body)).status_code == 200


ENVELOPES: list[tuple[dict[str, Any], int, str]] = [
    ({"project": ""}, 500, "Internal error encountered."),
    ({"project": None}, 400, "Invalid project resource name projects/"),
    ({"project": "somebody-elses"}, 403, "denied on resource"),
    ({"model": "gemini-3.1-pro-high"}, 404, "Requested entity was not found."),
    ({"model": "chat_20706"}, 404, "Requested entity was not found."),
    ({"userAgent": "tests"}, 400, "userAgent"),
    ({"requestType": "chat"}, 400, "ENUM"),
    ({"requestType": None}, 400, "requestType"),
    ({"requestId": "1"}, 400, "requestId"),
    ({"requestId": None}, 400, "requestId"),
    ({"enabledCreditTypes": ["GOOGLE_ONE_AI"]}, 400, "invalid argument"),
    ({"request": None}, 400, "invalid argument"),
    ({"session_id": "x"}, 400, 'Unknown name "session_id"'),
    ({"model": CLAUDE, "requestType": "web_search", "requestId": None}, 400, ""),
]


@pytest.mark.parametrize(("change", "status", "why"), ENVELOPES, ids=lambda value: str(value)[:40])
async def test_an_envelope(box: Sandbox, account: GoogleAccount, change: dict[str, Any], status: int, why: str) -> None:
    body = {name: value for name, value in {**envelope(account), **change}.items() if value is not None}
    found, _, message = error(await call(box, account, "streamGenerateContent", body))
    assert found == status and why in message
    assert len(box.complaints) == 1
    assert (await ask(box, account)).status_code == 200


async def test_credits_are_taken_of_who_allows_it(box: Sandbox, account: GoogleAccount) -> None:
    account.credits = True
    assert (await ask(box, account, enabledCreditTypes=["GOOGLE_ONE_AI"])).status_code == 200


AGENTS = [
    ("curl/8", CLAUDE, 404),
    ("antigravity/2.8.9 darwin/arm64", GEMINI, 404),
    ("antigravity/hub/2.8.9 darwin/arm64", GEMINI, 404),
    ("antigravity/2.8.9 darwin/arm64", CLAUDE, 200),
    ("antigravity/2.9.0 darwin/arm64", GEMINI, 200),
    ("antigravity/cli/1.2.17 (aidev_client; os_type=darwin; arch=arm64; auth_method=consumer)", GEMINI, 200),
]


@pytest.mark.parametrize(("agent", "of", "status"), AGENTS, ids=lambda value: str(value)[:40])
async def test_who_asks_decides_what_there_is(
    box: Sandbox, account: GoogleAccount, agent: str, of: str, status: int
) -> None:
    answered = await call(box, account, "streamGenerateContent", envelope(account, None, of), agent)
    assert answered.status_code == status
    if status == 404:
        assert error(answered)[1:] == ("NOT_FOUND", "Requested entity was not found.")


MANNERS: list[tuple[dict[str, str], str]] = [
    ({"anthropic_version": "2023-06-01"}, "must not reach Google"),
    ({"x_forwarded_for": "1.2.3.4"}, "must not reach Google"),
    ({"accept_encoding": "gzip"}, "must be identity"),
    ({"host": "daily-cloudcode-pa.googleapis.com"}, "host"),
]


@pytest.mark.parametrize(("headers", "why"), MANNERS, ids=lambda value: str(value)[:40])
async def test_only_what_belongs_there_reaches_google(
    box: Sandbox, account: GoogleAccount, headers: dict[str, str], why: str
) -> None:
    assert why in error(await call(box, account, "fetchAvailableModels", {}, **headers))[2]
    assert (await call(box, account, "fetchAvailableModels", {})).status_code == 200


async def test_the_project_header_is_refused_and_a_stream_says_alt_sse(box: Sandbox, account: GoogleAccount) -> None:
    assert error(await call(box, account, "loadCodeAssist", {}, x_goog_user_project="x"))[0] == 403
    plain = await call(box, account, "streamGenerateContent?alt=json&x=", envelope(account))
    assert plain.status_code == 400
    assert (await call(box, account, "nonsense", {})).status_code == 404
    broken: httpx.Response = await call(box, account, "countTokens", b"{")
    assert "Invalid JSON payload" in error(broken)[2]


COUNTS: list[tuple[dict[str, Any], str]] = [
    ({"model": CLAUDE, "request": {"contents": [user()]}}, 'Unknown name "model"'),
    ({"project": "x", "request": {"contents": [user()]}}, 'Unknown name "project"'),
    ({"request": {"contents": [user()], "safetySettings": []}}, "safetySettings"),
    ({"request": {"contents": [user()], "tools": []}}, "tools"),
    ({"request": {}}, "at least one contents"),
    ({}, "at least one contents"),
]


@pytest.mark.parametrize(("body", "why"), COUNTS, ids=lambda value: str(value)[:40])
async def test_counting_wants_contents_and_nothing_else(
    box: Sandbox, account: GoogleAccount, body: dict[str, Any], why: str
) -> None:
    assert why in error(await call(box, account, "countTokens", body))[2]
    counted = await call(box, account, "countTokens", {"request": {"contents": [user()]}})
    assert counted.json()["totalTokens"] > 0


async def test_without_rules_anything_with_a_token_is_answered() -> None:
    async with Sandbox(["antigravity"], rules=Rules.NONE) as box:
        account = box.account("antigravity")
        answered = await call(box, account, "streamGenerateContent", {"model": CLAUDE, "request": {"odd": 1}}, "curl/8")
        assert answered.status_code == 200, answered.text
