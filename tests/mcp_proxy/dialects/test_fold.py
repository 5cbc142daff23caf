from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.events import (
    AnswerUsage,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    CitationsDelta,
    Delta,
    Error,
    ErrorDetail,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageStop,
    Ping,
    RedactedThinkingBlock,
    ServerToolUsage,
    ServerToolUseBlock,
    SignatureDelta,
    Stop,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    WebSearchResultBlock,
    started,
)
from mcp_proxy.dialects.anthropic_answer import Listener, read_message
from mcp_proxy.dialects.fold import fold, to_sse
from tests.mcp_proxy.dialects.sdk import gathered, told

CITATION = {
    "type": "web_search_result_location", "cited_text": "rain", "url": "https://a.example", "title": "A",
    "encrypted_index": "",
}  # fmt: skip

BEGUN = started("msg_1", "claude", AnswerUsage(200, 0, 1000, 0))
END: list[Event] = [MessageDelta(Stop("end_turn"), AnswerUsage(200, 0, 1000, 91)), MessageStop()]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
inputs = st.dictionaries(texts, st.integers(-5, 5) | texts | st.none() | st.lists(texts, max_size=2), max_size=3)


def pieces(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, list[Delta]]:
    places = draw(st.lists(st.integers(0, 99), max_size=3))
    match draw(st.sampled_from(["text", "thinking", "redacted", "tool", "server_tool", "found"])):
        case "text":
            cited: list[Delta] = [CitationsDelta(CITATION)] * draw(st.integers(0, 2))
            return TextBlock(), [*(TextDelta(piece) for piece in pieces(draw(texts), places)), *cited]
        case "thinking":
            thoughts: list[Delta] = [ThinkingDelta(piece) for piece in pieces(draw(texts), places)]
            return ThinkingBlock(), [*thoughts, SignatureDelta("ag1c:" + draw(texts))]
        case "redacted":
            return RedactedThinkingBlock("b3BhcXVl"), []
        case "tool":
            written = json.dumps(draw(inputs))
            return ToolUseBlock("toolu_1", "Bash"), [InputJsonDelta(piece) for piece in pieces(written, places)]
        case "server_tool":
            return ServerToolUseBlock("srvtoolu_1", "web_search"), [InputJsonDelta('{"query": "oslo"}')]
        case _:
            page = {"type": "web_search_result", "title": "A", "url": "https://a.example", "encrypted_content": ""}
            return WebSearchResultBlock("srvtoolu_1", [page]), []


def stream(content: list[tuple[Block, list[Delta]]]) -> list[Event]:
    events: list[Event] = [BEGUN]
    for index, (block, deltas) in enumerate(content):
        events += [BlockStart(index, block), Ping(), *(BlockDelta(index, delta) for delta in deltas), BlockStop(index)]
    return [*events, *END]


def bare(value: Any) -> Any:
    """Without what only one of two writes down: members that are null or say nothing."""
    if isinstance(value, dict):
        return {key: bare(member) for key, member in value.items() if member is not None}
    return [bare(member) for member in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=60)
@given(st.lists(blocks(), max_size=5))
def test_a_whole_message_is_what_the_official_sdk_gathers_from_the_stream(
    content: list[tuple[Block, list[Delta]]],
) -> None:
    events = stream(content)
    whole = fold(events)
    assert whole is not None
    assert bare(json.loads(whole)) == bare(gathered(events))


@settings(deadline=None, max_examples=40)
@given(st.lists(blocks(), max_size=5))
def test_the_relays_own_ear_hears_in_our_stream_what_the_whole_message_says(
    content: list[tuple[Block, list[Delta]]],
) -> None:
    events = stream(content)
    heard = Listener()
    heard.feed(to_sse(events))
    message = read_message(fold(events) or b"")
    assert message is not None and heard.done and heard.error is None
    assert (heard.usage, heard.stop_reason, heard.model) == (message.usage, message.stop_reason, message.model)


def test_the_wire_form_is_anthropics_to_the_byte() -> None:
    events: list[Event] = [
        BEGUN,
        BlockStart(0, ThinkingBlock()),
        BlockDelta(0, ThinkingDelta("Hm")),
        BlockDelta(0, SignatureDelta("c2ln")),
        BlockStop(0),
        BlockStart(1, TextBlock()),
        Ping(),
        BlockDelta(1, TextDelta('4 °C, "rain"\n')),
        BlockDelta(1, CitationsDelta({"type": "web_search_result_location", "url": "https://a.example"})),
        BlockStop(1),
        BlockStart(2, ToolUseBlock("toolu_1", "get_weather")),
        BlockDelta(2, InputJsonDelta('{"city": "Oslo"}')),
        BlockStop(2),
        MessageDelta(Stop("tool_use"), AnswerUsage(200, 0, 1000, 61, ServerToolUsage(1))),
        MessageStop(),
        Error(ErrorDetail("api_error", "cut")),
    ]
    wire = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],\
"model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":200,\
"cache_creation_input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"4 °C, \\"rain\\"\\n"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta",\
"citation":{"type":"web_search_result_location","url":"https://a.example"}}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1",\
"name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta",\
"partial_json":"{\\"city\\": \\"Oslo\\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":200,\
"cache_creation_input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":61,\
"server_tool_use":{"web_search_requests":1}}}

event: message_stop
data: {"type":"message_stop"}

event: error
data: {"type":"error","error":{"type":"api_error","message":"cut"}}

"""
    assert to_sse(events).decode() == wire
    assert to_sse([]) == b""


@pytest.mark.parametrize(
    "events",
    [
        [],
        [BEGUN],
        [BEGUN, END[0]],
        END,
        [BEGUN, MessageStop()],
        [BEGUN, BEGUN, *END],
        [BEGUN, BlockStart(0, TextBlock()), *END],
        [BEGUN, BlockStart(1, TextBlock()), BlockStop(1), *END],
        [BEGUN, BlockStart(0, TextBlock()), BlockStart(1, TextBlock()), BlockStop(1), *END],
        [BEGUN, BlockDelta(0, TextDelta("x")), *END],
        [BEGUN, BlockStop(0), *END],
        [BEGUN, BlockStart(0, ToolUseBlock("t", "n")), BlockDelta(0, InputJsonDelta('{"a":')), BlockStop(0), *END],
        [BEGUN, BlockStart(0, ToolUseBlock("t", "n")), BlockDelta(0, InputJsonDelta("[]")), BlockStop(0), *END],
        [BEGUN, Error(ErrorDetail("api_error", "no")), *END],
    ],
)
def test_what_is_not_whole_is_no_message(events: list[Event]) -> None:
    assert fold(events) is None


def test_half_a_surrogate_pair_reaches_the_client_as_its_escape() -> None:
    events = stream([(TextBlock(), [TextDelta("cut \ud83d")])])
    assert told(events)[3]["delta"]["text"] == "cut \ud83d"
    whole = fold(events)
    assert whole is not None and json.loads(whole)["content"] == [{"type": "text", "text": "cut \ud83d"}]
