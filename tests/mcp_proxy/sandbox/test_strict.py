from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mcp_proxy.sandbox import Rules, Sandbox, Thinking, ToolUse
from tests.mcp_proxy.sandbox.asking import FIXTURES, body, client, fixture, post, wire

INDEX = [entry for entry in json.loads((FIXTURES / "index.json").read_text()) if entry["method"] == "POST"]
USE = {"type": "tool_use", "id": "toolu_01A", "name": "ls", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "x"}
ASK = {"role": "user", "content": "hello"}


def said(*messages: dict[str, Any]) -> dict[str, Any]:
    return {**body(), "messages": list(messages)}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


async def test_every_recorded_request_of_claude_code_is_accepted() -> None:
    async with Sandbox(["anthropic"]) as box, client() as asking:
        account = box.account("anthropic")
        account.models |= box.account("anthropic", models=["gemini-3-pro"]).models
        assert len(INDEX) > 30
        for entry in INDEX:
            sent, named = fixture(entry["name"])
            all_headers = {**named, "authorization": f"Bearer {account.key}", "accept-encoding": "identity"}
            got = await asking.post(box.url("anthropic") + entry["url"], json=sent, headers=all_headers)
            assert got.status_code == 200, (entry["name"], got.text)
        assert box.complaints == []


BODIES: list[tuple[str, Any, str]] = [
    ("not json", b"{", "not valid JSON"),
    ("not utf-8", b'{"model":"\xff"}', "not valid JSON"),
    ("not an object", b"[]", "valid dictionary"),
    ("nan", b'{"model":NaN}', "not valid JSON"),
    ("a field twice", b'{"model":"a","model":"b"}', "twice"),
    ("nothing", {}, "model: Field required"),
    ("no max_tokens", {"model": "claude-opus-5-5", "messages": [ASK]}, "max_tokens: Field required"),
    ("max_tokens nought", body(max_tokens=0), "max_tokens: Input should be greater"),
    ("unknown field", body(wisdom=1), "wisdom: Extra inputs are not permitted"),
    ("stream no boolean", body(stream="yes"), "stream: Input should be a valid boolean"),
    ("user_id an object", body(metadata={"user_id": {}}), "metadata.user_id: Input should be a valid string"),
    ("no messages", said(), "at least one message"),
    ("assistant first", said(assistant({"type": "text", "text": "a"})), 'first message must use the "user" role'),
    ("unknown role", said({"role": "tool", "content": "a"}), "messages.0.role: Input should be 'user' or 'assistant'"),
    ("empty text", said(user({"type": "text", "text": ""})), "text content blocks must be non-empty"),
    ("empty content", said({"role": "user", "content": ""}), "must have non-empty content"),
    ("unknown block", said(user({"type": "poem"})), "Input tag 'poem' found using 'type'"),
    ("use without result", said(ASK, assistant(USE), ASK), "messages.1: `tool_use` ids were found without"),
    ("use at the end", said(ASK, assistant(USE)), "toolu_01A. Each `tool_use` block must have"),
    (
        "result without use",
        said(ASK, assistant({"type": "text", "text": "a"}), user(RESULT)),
        "messages.2.content.0: unexp",
    ),
    ("result twice", said(ASK, assistant(USE), user(RESULT, RESULT)), "each tool_use must have a single result"),
    ("result after text", said(ASK, assistant(USE), user({"type": "text", "text": "a"}, RESULT)), "were found without"),
    (
        "odd tool id",
        said(ASK, assistant({**USE, "id": "a b"}), user(RESULT)),
        "String should match pattern '^[a-zA-Z0-9_-]+$'",
    ),
    (
        "input a string",
        said(ASK, assistant({**USE, "input": "{}"}), user(RESULT)),
        "input: Input should be a valid dict",
    ),
    ("same id twice", said(ASK, assistant(USE), user(RESULT), assistant(USE), user(RESULT)), "ids must be unique"),
    (
        "foreign signature",
        said(ASK, assistant({"type": "thinking", "thinking": "a", "signature": "Zm9v"}, {"type": "text", "text": "a"})),
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ),
    (
        "no signature",
        said(ASK, assistant({"type": "thinking", "thinking": "a"}, {"type": "text", "text": "a"})),
        "thinking.signature: Field required",
    ),
    (
        "five marks",
        said(user(*({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}} for _ in range(5)))),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    ("mark of no kind", body(cache_control={"type": "eternal"}), "'ephemeral'"),
    (
        "budget too large",
        body(thinking={"type": "enabled", "budget_tokens": 2000}),
        "must be greater than `thinking.budget",
    ),
    ("safeguards without beta", body(safeguards=[]), "safeguards: Extra inputs are not permitted"),
    ("context_management without beta", body(context_management={}), "context_management: Extra inputs"),
    (
        "tool names twice",
        body(tools=[{"name": "a", "input_schema": {"type": "object"}}] * 2),
        "Tool names must be unique",
    ),
    ("tool without schema", body(tools=[{"name": "a"}]), "input_schema.type"),
    ("a prompt too long", body("claude-haiku-4-5", "word " * 200_000), "prompt is too long: 250"),
]


@pytest.mark.parametrize(("sent", "wording"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
async def test_a_malformed_body_is_refused_in_the_words_of_the_api(sent: Any, wording: str) -> None:
    async with Sandbox(["anthropic"]) as box:
        got = await post(box, box.account("anthropic"), sent)
        error = got.json()
        assert (got.status_code, error["error"]["type"]) == (400, "invalid_request_error"), error
        assert wording in error["error"]["message"]
        assert error["request_id"] == got.headers["request-id"]
        assert len(box.complaints) == 1


HEADERS: list[tuple[str, dict[str, str | None], str]] = [
    ("no version", {"anthropic_version": None}, "anthropic-version: header is required"),
    ("unknown version", {"anthropic_version": "2020-01-01"}, "not a valid version"),
    ("odd beta", {"anthropic_beta": "interleaved-thinking-2025-05-14,nonsense"}, "Unexpected value(s) `nonsense`"),
    ("no content type", {"content_type": None}, "content-type: must be application/json"),
    ("a form", {"content_type": "application/x-www-form-urlencoded"}, "content-type: must be"),
    ("both credentials", {"x_api_key": "sk-ant-sandbox-1"}, "must not be sent together"),
    ("gzip asked for", {"accept_encoding": "gzip"}, "accept-encoding: must be identity"),
    ("forwarded for", {"x_forwarded_for": "10.0.0.1"}, "x-forwarded-for"),
    ("cookie", {"cookie": "a=b"}, "cookie"),
    ("the proxy's own key", {"x_proxy_api_key": "k"}, "x-proxy-api-key"),
    ("proxy authorization", {"proxy_authorization": "Basic eDp5"}, "proxy-authorization"),
    ("te", {"te": "trailers"}, "te: this header"),
    ("connection names a field", {"connection": "x-api-key"}, "connection: names x-api-key"),
    ("somebody else's host", {"host": "example.com"}, "host: is example.com"),
]


@pytest.mark.parametrize(("fields", "wording"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS])
async def test_a_header_that_a_proxy_must_not_send_is_refused_by_name(fields: dict[str, str], wording: str) -> None:
    async with Sandbox(["anthropic"]) as box:
        got = await post(box, box.account("anthropic"), body(), **fields)
        assert got.status_code == 400
        assert wording in got.json()["error"]["message"]


async def test_sampling_is_taken_with_the_old_version_and_refused_with_the_new() -> None:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic")
        assert (await post(box, account, body(temperature=1.0))).status_code == 200
        for name, value in {"temperature": 1.0, "top_p": 1.0, "top_k": 5}.items():
            got = await post(box, account, body(**{name: value}), anthropic_version="2026-10-21")
            assert got.json()["error"]["message"] == f"{name}: Extra inputs are not permitted"


async def test_an_unknown_model_is_404_at_anthropic_and_1211_at_zai() -> None:
    async with Sandbox() as box:
        got = await post(box, box.account("anthropic"), body("glm-4.7"))
        assert (got.status_code, got.json()["error"]["message"]) == (404, "model: glm-4.7")
        got = await post(box, box.account("zai"), body(), at="zai")
        assert (got.status_code, got.json()["error"]["code"]) == (400, "1211")


async def test_safeguards_and_private_headers_are_for_anthropic_alone() -> None:
    async with Sandbox() as box:
        account, guarded = box.account("zai"), body("glm-4.7", safeguards=[])
        cases: list[tuple[dict[str, Any], dict[str, str | None], str]] = [
            (guarded, {}, "safeguards: Extra inputs are not permitted"),
            (body("glm-4.7"), {"anthropic_beta": "dangerous-tool-use-2026-09-03"}, "dangerous-tool-use"),
            (body("glm-4.7"), {"x_claude_code_session_id": "s"}, "x-claude-code-session-id"),
            (body("glm-4.7"), {"x_stainless_lang": "js"}, "x-stainless-lang"),
        ]
        for sent, fields, wording in cases:
            got = await post(box, account, sent, at="zai", **fields)
            assert got.status_code == 400
            assert wording in got.json()["error"]["message"]


async def test_safeguards_are_answered_at_anthropic() -> None:
    async with Sandbox() as box:
        account = box.account("anthropic")
        account.say(ToolUse("ls", {"path": "/"}, id="toolu_01X"))
        got = await post(box, account, body(safeguards=[]), anthropic_beta="dangerous-tool-use-2026-09-03")
        uses = got.json()["safeguard_results"][0]["status"]["tool_uses"]
        assert uses == {"toolu_01X": {"type": "evaluated", "outcome": "not_flagged"}}


async def test_a_body_over_the_limit_is_refused_before_it_is_read_whole() -> None:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic")
        try:
            got = await post(box, account, b" " * (33 << 20))
            assert got.status_code == 413
            assert got.json()["error"]["type"] == "request_too_large"
        except (httpx.WriteError, httpx.ReadError):
            pass  # closed while it was still being sent, which is as clear
        assert box.received[-1].answered == 413


async def test_thinking_comes_back_only_to_the_vendor_who_signed_it_and_unchanged() -> None:
    async with Sandbox(["anthropic", "claude-subscription", "zai"]) as box:
        account, plan, other = (box.account(name) for name in ("anthropic", "claude-subscription", "zai"))
        thought = (await post(box, account, body(thinking={"type": "adaptive"}))).json()["content"]
        assert [block["type"] for block in thought] == ["thinking", "text"]
        again = said(ASK, assistant(*thought), ASK)
        assert (await post(box, account, again)).status_code == 200
        beta = {"anthropic_beta": "oauth-2025-04-20"}
        assert (await post(box, plan, again, at="claude-subscription", **beta)).status_code == 200
        changed = said(ASK, assistant({**thought[0], "thinking": "something else"}, thought[1]), ASK)
        assert "Invalid `signature`" in (await post(box, account, changed)).text
        foreign = await post(
            box,
            other,
            body("glm-4.7", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000),
            at="zai",
        )
        moved = said(ASK, assistant(*foreign.json()["content"]), ASK)
        assert "Invalid `signature`" in (await post(box, account, moved)).text
        assert (await post(box, other, {**moved, "model": "glm-4.7"}, at="zai")).status_code == 200


async def test_a_signature_that_was_scripted_is_taken_back() -> None:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic")
        account.say(Thinking("hm", "c2lnbmVk"), "well")
        thought = (await post(box, account, body())).json()["content"]
        assert (await post(box, account, said(ASK, assistant(*thought), ASK))).status_code == 200


async def test_how_strict_a_sandbox_is_can_be_chosen() -> None:
    async with Sandbox(["anthropic"], rules=Rules.REAL) as box:
        account = box.account("anthropic")
        assert (await post(box, account, body(), accept_encoding="gzip", cookie="a=b")).status_code == 200
        assert (await post(box, account, body(max_tokens=0))).status_code == 400
    async with Sandbox(["anthropic"], rules=Rules.NONE) as box:
        account = box.account("anthropic")
        assert (await post(box, account, body("anything", max_tokens=0))).status_code == 200
        assert (await post(box, account, b"what")).status_code == 200


async def test_a_bad_key_is_401_and_a_good_one_with_an_empty_body_400() -> None:
    async with Sandbox(["anthropic", "zai", "custom"]) as box:
        for host in ("anthropic", "zai", "custom"):
            account = box.account(host)
            assert (await post(box, account, {}, at=host)).status_code == 400
            assert (await post(box, account, {}, at=host, authorization=None, x_api_key=account.key)).status_code == 400
            assert (await post(box, account, {}, at=host, authorization="Bearer wrong")).status_code == 401
            assert (await post(box, account, {}, at=host, authorization=None)).status_code == 401
            account.revoked = True
            assert (await post(box, account, {}, at=host)).status_code == 401
        codes = [got.account for got in box.host("zai").received]
        assert codes[:2] == [box.accounts[1], box.accounts[1]] and codes[2:] == [None] * 3


async def test_zai_says_which_way_a_key_is_bad() -> None:
    async with Sandbox() as box:
        account = box.account("zai")
        wrong = await post(box, account, {}, at="zai", authorization="Bearer wrong")
        absent = await post(box, account, {}, at="zai", authorization=None)
        assert [got.json()["error"]["code"] for got in (wrong, absent)] == ["1000", "1001"]
        assert wrong.json()["error"]["message"].startswith("[1000][")


async def test_a_head_that_is_no_http_is_refused_and_the_connection_closed() -> None:
    async with Sandbox(["anthropic"]) as box:
        got = await wire(box, box.account("anthropic"), body(), **{"content-length": "5, 6"})
        assert (got.status, got.ended) == (400, "fin")
        await box.until(lambda: box.open == 0)


ROUND = said(ASK, assistant(USE), user(RESULT))
GENERATIONS: list[tuple[str, str, Any, str]] = [
    ("zai", "glm-4.7", {"context_management": {}}, "context_management: Extra inputs"),
    ("zai", "glm-5.2", {"tools": [{"name": "a", "input_schema": {"type": "object"}, "strict": True}]}, "tools.strict"),
    ("zai", "glm-5.1", {"thinking": {"type": "adaptive"}}, "thinking.type: enabled or disabled"),
    ("zai", "glm-4.6", {"output_config": {"effort": "low"}}, "output_config.effort"),
    ("zai", "glm-5.3", {"thinking": {"type": "disabled"}}, "不支持关闭思考"),
    ("zai", "glm-4.7", {"system": [{"type": "text", "text": "x-anthropic-billing-header: 1"}]}, "billing line"),
    ("anthropic", "claude-opus-4-5", {"thinking": {"type": "adaptive"}}, "Input tag 'adaptive'"),
    ("anthropic", "claude-haiku-4-5", {"max_tokens": 128_000}, "max_tokens: 128000 > 64000"),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {**ROUND, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    ),
]


@pytest.mark.parametrize(("host", "model", "fields", "wording"), GENERATIONS)
async def test_each_generation_refuses_what_it_does_not_know(
    host: str, model: str, fields: dict[str, Any], wording: str
) -> None:
    async with Sandbox([host]) as box:
        got = await post(box, box.account(host), {**body(model), **fields, "model": model}, at=host)
        assert got.status_code == 400
        assert wording in got.json()["error"]["message"]
