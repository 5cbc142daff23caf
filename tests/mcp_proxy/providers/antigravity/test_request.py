from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Endpoint
from mcp_proxy.core.provider import Offer
from mcp_proxy.providers.antigravity import PROVIDER
from mcp_proxy.providers.antigravity.models import offer
from tests.mcp_proxy.providers.antigravity.kit import ACCESS, GEMINI, SONNET, TOKEN, built, sent, wish

SIGNED = {"type": "thinking", "thinking": "Need the tool.", "signature": "ag1c:" + "UkVY" * 16}
CALL = {"type": "tool_use", "id": "toolu_01", "name": "get_weather", "input": {"city": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "4 °C, rain"}
HISTORY = [
    {"role": "user", "content": "Weather in Oslo?"},
    {"role": "assistant", "content": [SIGNED, CALL]},
    {"role": "user", "content": [RESULT]},
]
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


def test_the_envelope_names_project_model_and_kind() -> None:
    body = sent(wish())
    request_id = body.pop("requestId")
    inner = body.pop("request")
    assert body == {
        "project": "cogent-sample-4mnnp",
        "model": "claude-sonnet-4-6",
        "userAgent": "antigravity",
        "requestType": "agent",
    }
    assert re.fullmatch(r"agent-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", request_id)
    assert re.fullmatch(r"-\d{1,19}", inner["sessionId"])
    assert inner["contents"] == [{"role": "user", "parts": [{"text": "Weather in Oslo?"}]}]
    assert inner["generationConfig"]["maxOutputTokens"] == 8000


@pytest.mark.parametrize("stream", [True, False])
def test_it_goes_to_the_streaming_method_whatever_the_client_wants(stream: bool) -> None:
    request = built(wish(stream=stream))
    assert request.method == "POST"
    assert request.url == f"{ACCESS.base_url}/v1internal:streamGenerateContent?alt=sse"
    assert request.headers == (
        ("authorization", f"Bearer {TOKEN}"),
        ("content-type", "application/json"),
        ("user-agent", "antigravity/hub/2.9.1 darwin/arm64"),
        ("accept", "text/event-stream"),
        ("accept-encoding", "identity"),
    )


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("3.0.2", "antigravity/hub/3.0.2 darwin/arm64"),
        (
            "antigravity/cli/1.2.17 (aidev_client; os_type=linux)",
            "antigravity/cli/1.2.17 (aidev_client; os_type=linux)",
        ),
        ("3.0\r\nx-other: 1", "antigravity/hub/2.9.1 darwin/arm64"),
    ],
)
def test_the_client_version_is_a_setting(setting: str, told: str) -> None:
    assert dict(built(wish(), access=replace(ACCESS, client_version=setting)).headers)["user-agent"] == told


@pytest.mark.parametrize("known", [{}, {"project": ""}])
def test_an_empty_project_is_never_sent(known: dict[str, str]) -> None:
    assert "project" not in sent(wish(), access=replace(ACCESS, known=known))


def test_a_conversation_keeps_its_session_and_another_has_its_own() -> None:
    first = wish(headers=(("x-claude-code-session-id", "one"),))
    later = wish(headers=(("x-claude-code-session-id", "one"),), messages=HISTORY)
    other = wish(headers=(("x-claude-code-session-id", "two"),))
    ids = [sent(ask)["request"]["sessionId"] for ask in (first, later, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_conversation_that_nobody_named_is_known_by_its_first_words() -> None:
    ids = [
        sent(ask)["request"]["sessionId"]
        for ask in (
            wish(),
            wish(messages=HISTORY),
            wish(messages=[{"role": "user", "content": "Hi"}]),
            wish(metadata={"user_id": "user_1_account__session_one"}),
        )
    ]
    assert ids[0] == ids[1] and len(set(ids)) == 3


def test_the_same_request_is_the_same_bytes_and_another_has_another_id() -> None:
    assert built(wish()).body == built(wish()).body
    assert sent(wish())["requestId"] != sent(wish(max_tokens=7000))["requestId"]


def test_earlier_thoughts_go_back_unless_their_signature_was_refused() -> None:
    parts = sent(wish(messages=HISTORY))["request"]["contents"][1]["parts"]
    assert parts[0] == {"text": "Need the tool.", "thought": True, "thoughtSignature": "UkVY" * 16}
    unsigned = msgspec.structs.replace(wish(messages=HISTORY), unsigned=True)
    body = sent(unsigned)["request"]
    assert [list(part) for part in body["contents"][1]["parts"]] == [["functionCall"]]
    assert "thinkingConfig" not in body["generationConfig"]


def test_a_search_is_asked_of_the_model_that_searches() -> None:
    asked = wish(tools=[SEARCH], messages=[{"role": "user", "content": "oslo weather"}])
    known = offer(ModelId("claude-sonnet-4-6"), searcher=ModelId("gemini-3.2-flash-lite"))
    body = sent(asked, known)
    assert (body["model"], body["requestType"]) == ("gemini-3.2-flash-lite", "web_search")
    assert "requestId" not in body and "sessionId" not in body["request"]
    assert body["request"]["tools"][0]["googleSearch"]
    assert sent(asked)["model"] == "gemini-3.1-flash-lite"


def test_a_model_nobody_described_is_asked_by_what_its_name_tells() -> None:
    body = sent(wish(), Offer(ModelId("claude-haiku-4-6-thinking")))
    assert body["request"]["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert "toolConfig" not in sent(wish(), GEMINI)["request"]


def test_what_is_no_request_is_the_clients_fault() -> None:
    failure = PROVIDER.request(wish(messages=[]), SONNET, ACCESS)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (Blame.REQUEST, 400)


def test_tokens_are_not_counted_here() -> None:
    assert PROVIDER.counts is False
    failure = PROVIDER.request(wish(endpoint=Endpoint.COUNT_TOKENS), SONNET, ACCESS)
    assert isinstance(failure, Failure) and failure.blame is Blame.REQUEST


def test_the_request_is_put_in_as_it_was_encoded() -> None:
    text = 'half a pair \ud800, 4 °C, \u2028 and "quotes"'
    body = built(wish(messages=[{"role": "user", "content": text}])).body
    assert b"4 \xc2\xb0C" in body and body.count(b'"request":{') == 1
    assert sent(wish(messages=[{"role": "user", "content": text}]))["request"]["contents"][0]["parts"][0]["text"] == (
        text.replace("\ud800", "\ufffd")
    )
