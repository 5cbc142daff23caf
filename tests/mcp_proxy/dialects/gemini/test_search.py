from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.dialects.fold import fold
from mcp_proxy.dialects.gemini.decode import GeminiDecoder
from mcp_proxy.dialects.gemini.encode import Encoded
from tests.mcp_proxy.dialects.fixtures import body
from tests.mcp_proxy.dialects.gemini.rules import CLAUDE, GEMINI, good, request
from tests.mcp_proxy.dialects.sdk import gathered, told

TOOL = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8, "allowed_domains": ["a.example", 7]}
ASKED = [{"role": "user", "content": "older"}, {"role": "user", "content": [{"type": "text", "text": "oslo weather"}]}]
WEB = {"web": {"uri": "https://search.example/redirect/1", "title": "yr.no"}}
OTHER = {"web": {"uri": "https://search.example/redirect/2"}}


def answer(*texts: str, grounding: Any = None) -> bytes:
    """A search's answer as it comes: text first, what it rests on with the last of it."""
    chunks = [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in texts]
    last: dict[str, Any] = {"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}
    if grounding is not None:
        last["groundingMetadata"] = grounding
    chunks.append({"candidates": [last], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}})  # type: ignore[dict-item]
    return b"".join(b"data: %b\n\n" % json.dumps({"response": chunk}).encode() for chunk in chunks)


def content(data: bytes) -> list[dict[str, Any]]:
    count = itertools.count(1)
    decoder = GeminiDecoder(Encoded(b"{}", GEMINI, search="oslo weather"), "m", lambda prefix: f"{prefix}{next(count)}")
    events = [*decoder.feed(data), *decoder.end()]
    assert decoder.failure is None
    message = json.loads(fold(events) or b"{}")
    assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert message["stop_reason"] == "end_turn"
    sdk = gathered(events)
    for theirs, ours in zip(sdk["content"], message["content"], strict=True):
        assert theirs["type"] == ours["type"] and theirs.get("citations") == ours.get("citations")
    assert [event["index"] for event in told(events) if event["type"] == "content_block_start"] == list(
        range(len(message["content"]))
    )
    found: list[dict[str, Any]] = message["content"]
    return found


def test_a_request_that_may_only_search_becomes_a_search() -> None:
    encoded = good({"max_tokens": 9, "messages": ASKED, "tools": [TOOL]})
    assert encoded.search == "oslo weather"
    sent = json.loads(encoded.request)
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "oslo weather"}]}]
    options = {"enhancedContent": {"imageSearch": {"maxResultCount": 8}}, "includedDomains": ["a.example"]}
    assert sent["tools"] == [{"googleSearch": options}]
    assert sent["generationConfig"] == {"candidateCount": 1}


def test_the_recorded_search_is_one() -> None:
    encoded = good(json.loads(body("web_search_subrequest")), GEMINI)
    assert encoded.search == "marble lantern orchard willow hollow sparrow slate z"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tools": [TOOL, {"name": "own", "input_schema": {"type": "object"}}]},
        {"tools": []},
    ],
)
def test_other_requests_are_none(fields: dict[str, Any]) -> None:
    assert good({"messages": ASKED, **fields}).search is None
    assert "googleSearch" not in json.dumps(request({"messages": ASKED, **fields}, CLAUDE))


def test_an_answer_tells_what_was_sought_what_was_found_and_what_rests_on_what() -> None:
    grounding = {
        "webSearchQueries": ["oslo weather", "more"],
        "groundingChunks": [WEB, OTHER, {"web": {}}, WEB],
        "groundingSupports": [
            {"segment": {"startIndex": 9, "endIndex": 14, "text": "4 °C"}, "groundingChunkIndices": [0, 1, 2, 3, 99]}
        ],
    }
    cited = {"type": "web_search_result_location", "cited_text": "4 °C", "encrypted_index": ""}
    assert content(answer("In Oslo: ", "4 °C today", grounding=grounding)) == [
        {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {"query": "oslo weather"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_2",
            "content": [
                {
                    "type": "web_search_result",
                    "title": title,
                    "url": f"https://search.example/redirect/{number}",
                    "encrypted_content": "",
                    "page_age": None,
                }
                for title, number in (("yr.no", 1), ("https://search.example/redirect/2", 2))
            ],
        },
        {"type": "text", "text": "In Oslo: "},
        {
            "type": "text",
            "text": "4 °C",
            "citations": [
                {**cited, "url": "https://search.example/redirect/1", "title": "yr.no"},
                {**cited, "url": "https://search.example/redirect/2", "title": "https://search.example/redirect/2"},
            ],
        },
        {"type": "text", "text": " today"},
    ]


@pytest.mark.parametrize("grounding", [None, {}, {"groundingSupports": [7, {"segment": 7}], "groundingChunks": [7]}])
def test_an_answer_that_rests_on_nothing_says_so(grounding: Any) -> None:
    found = content(answer("Rain.", grounding=grounding))
    assert found[0]["input"] == {"query": "oslo weather"}
    assert found[1]["content"] == []
    assert found[2:] == [{"type": "text", "text": "Rain."}]


def test_supports_that_overlap_tell_no_word_twice() -> None:
    spans = [(2, 6), (0, 4), (4, 5), (1, 99)]
    supports = [
        {"segment": {"startIndex": start, "endIndex": end}, "groundingChunkIndices": [0]} for start, end in spans
    ]
    found = content(answer("abcdef", grounding={"groundingChunks": [WEB], "groundingSupports": supports}))
    assert [(block["text"], "citations" in block) for block in found[2:]] == [
        ("abcd", True), ("e", True), ("f", False),
    ]  # fmt: skip


numbers = st.integers(-2, 12)


@settings(deadline=None, max_examples=60)
@given(st.text("aé°漢😀", max_size=10), st.lists(st.tuples(numbers, numbers), max_size=5))
def test_the_pieces_are_the_text_wherever_the_supports_say_they_are(text: str, segments: list[tuple[int, int]]) -> None:
    supports = [
        {"segment": {"startIndex": start, "endIndex": end}, "groundingChunkIndices": [0]} for start, end in segments
    ]
    grounding = {"groundingChunks": [WEB], "groundingSupports": supports}
    found = content(answer("x" + text, grounding=grounding))
    assert "".join(block["text"] for block in found[2:]) == "x" + text
