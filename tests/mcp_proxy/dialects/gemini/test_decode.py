from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.events import Error, Event
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.dialects.fold import fold, to_sse
from mcp_proxy.dialects.gemini.decode import LONGEST_NOTICE, GeminiDecoder
from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.profile import Profile
from tests.mcp_proxy.dialects.gemini.rules import (
    CLAUDE,
    CLAUDE_SIGNATURE,
    GEMINI,
    GEMINI_SIGNATURE,
    GPT,
    good,
)
from tests.mcp_proxy.dialects.sdk import gathered, told

CLAUDE_STREAM = f"""\
data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"thought":true,\
"text":"The user wants "}}]}}}}],\
"usageMetadata":{{"promptTokenCount":1200,"cachedContentTokenCount":1000,"candidatesTokenCount":1}},\
"modelVersion":"claude-sonnet-4-6","responseId":"r1"}},"traceId":"t1"}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"thought":true,\
"text":"the weather."}}]}}}}]}}}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"thought":true,"text":"",\
"thoughtSignature":"{CLAUDE_SIGNATURE}"}}]}}}}]}}}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"Let me check."}}]}}}}]}}}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"functionCall":{{"id":"toolu_vrtx_01A",\
"name":"get_weather","args":{{"city":"Oslo"}}}}}}]}}}}]}}}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":""}}]}},"finishReason":"STOP"}}],\
"usageMetadata":{{"promptTokenCount":1200,"cachedContentTokenCount":1000,"candidatesTokenCount":61,\
"totalTokenCount":1261}}}}}}

""".encode()

GEMINI_STREAM = f"""\
data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"thought":true,\
"text":"**Plan**\\nCall the tool."}}]}}}}],"usageMetadata":{{"promptTokenCount":300,"candidatesTokenCount":0,\
"thoughtsTokenCount":40}}}}}}

data: {{"response":{{"candidates":[{{"content":{{"role":"model","parts":[{{"functionCall":{{"name":"get_weather",\
"args":{{"city":"Oslo"}}}},"thoughtSignature":"{GEMINI_SIGNATURE}"}}]}},"finishReason":"STOP"}}],\
"usageMetadata":{{"promptTokenCount":300,"candidatesTokenCount":12,"thoughtsTokenCount":40,"totalTokenCount":352}}}}}}

""".encode()

TOOLS = {"get_weather": "get_weather", "_1st_tool_x": "1st.tool:x"}
STOPPED = {"finishReason": "STOP"}


def ids() -> Callable[[str], str]:
    count = itertools.count(1)
    return lambda prefix: f"{prefix}{next(count)}"


def asked(profile: Profile = CLAUDE, **more: Any) -> Encoded:
    return Encoded(b"{}", profile, **{"names": TOOLS, "thoughts": True, **more})


def decoded(
    data: bytes, encoded: Encoded | None = None, cuts: tuple[int, ...] = ()
) -> tuple[list[Event], GeminiDecoder]:
    """All the events of an answer, and the decoder at its end."""
    decoder = GeminiDecoder(encoded or asked(), "claude-sonnet-4-6", ids())
    edges = [0, *sorted(cuts), len(data)]
    events = [event for start, end in itertools.pairwise(edges) for event in decoder.feed(data[start:end])]
    return [*events, *decoder.end()], decoder


def chunk(*parts: Any, usage: Any = None, **candidate: Any) -> bytes:
    response = {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **candidate}]}
    if usage is not None:
        response["usageMetadata"] = usage
    return b"data: %b\n\n" % json.dumps({"response": response, "traceId": "t"}).encode()


def spoken(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, **more}


def called(name: str = "get_weather", args: Any = None, **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {} if args is None else args}, **more}


def message(data: bytes, encoded: Encoded | None = None) -> dict[str, Any]:
    """The answer as one message; the official SDK must gather the same from its stream."""
    events, decoder = decoded(data, encoded)
    assert decoder.failure is None, decoder.failure
    whole = fold(events)
    assert whole is not None
    found: dict[str, Any] = json.loads(whole)
    sdk = gathered(events)
    kept = ("id", "type", "role", "model", "stop_reason", "stop_sequence")
    assert {name: sdk.get(name) for name in kept} == {name: found[name] for name in kept}
    assert len(sdk["content"]) == len(found["content"])
    for theirs, ours in zip(sdk["content"], found["content"], strict=True):
        assert {name: theirs.get(name) for name in ours} == ours
    return found


def failed(data: bytes, encoded: Encoded | None = None) -> Failure:
    """Why there is no answer; the stream must say so, and end there."""
    events, decoder = decoded(data, encoded)
    assert decoder.failure is not None
    last = events[-1]
    assert isinstance(last, Error)
    assert (last.error.type, last.error.message) == (decoder.failure.type, decoder.failure.message)
    assert sum(isinstance(event, Error) for event in events) == 1
    assert fold(events) is None
    return decoder.failure


def test_claudes_sample_stream_event_by_event() -> None:
    events, decoder = decoded(CLAUDE_STREAM)
    assert told(events) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": [],
                "model": "claude-sonnet-4-6",
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 200,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 1000,
                    "output_tokens": 0,
                },
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "The user wants "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "the weather."}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "ag1c:" + CLAUDE_SIGNATURE},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me check."}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"city":"Oslo"}'},
        },
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 200,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 1000,
                "output_tokens": 61,
            },
        },
        {"type": "message_stop"},
    ]
    assert decoder.finished and decoder.failure is None and decoder.images == []


def test_geminis_sample_stream_carries_the_calls_signature_on_the_thoughts_before_it() -> None:
    found = message(GEMINI_STREAM, asked(GEMINI))
    assert found["content"] == [
        {"type": "thinking", "thinking": "**Plan**\nCall the tool.", "signature": "ag1g:" + GEMINI_SIGNATURE},
        {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Oslo"}},
    ]
    assert (found["stop_reason"], found["usage"]["input_tokens"], found["usage"]["output_tokens"]) == (
        "tool_use",
        300,
        52,
    )


@pytest.mark.parametrize(("data", "profile"), [(CLAUDE_STREAM, CLAUDE), (GEMINI_STREAM, GEMINI)])
def test_events_do_not_depend_on_where_the_bytes_were_cut(data: bytes, profile: Profile) -> None:
    whole = to_sse(decoded(data, asked(profile))[0])
    for cut in range(1, len(data)):
        assert to_sse(decoded(data, asked(profile), (cut,))[0]) == whole, f"cut at byte {cut}"
    assert to_sse(decoded(data, asked(profile), tuple(range(1, len(data))))[0]) == whole
    assert to_sse(decoded(data.replace(b"\n", b"\r\n"), asked(profile))[0]) == whole
    assert to_sse(decoded(data.rstrip(), asked(profile))[0]) == whole


def test_white_space_between_texts_is_text() -> None:
    data = chunk(spoken("one")) + chunk(spoken("\n\n")) + chunk(spoken("")) + chunk(spoken("two"), **STOPPED)
    assert message(data)["content"] == [{"type": "text", "text": "one\n\ntwo"}]
    assert message(chunk(spoken("\n\n")) + chunk(spoken("one"), **STOPPED))["content"][0]["text"] == "\n\none"


def test_calls_side_by_side_are_blocks_of_their_own() -> None:
    data = chunk(called(args={"city": "Oslo"}), called(args={"city": "Bergen"}), **STOPPED)
    found = message(data)["content"]
    assert [(block["id"], block["input"]) for block in found] == [
        ("toolu_2", {"city": "Oslo"}),
        ("toolu_3", {"city": "Bergen"}),
    ]
    deltas = [event for event in told(decoded(data)[0]) if event["type"] == "content_block_delta"]
    assert [event["index"] for event in deltas] == [0, 1]


def test_a_tool_comes_back_under_the_name_its_client_knows() -> None:
    ask = {"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "1st.tool:x", "input_schema": {}}]}
    encoded = good(ask)
    sent = json.loads(encoded.request)["tools"][0]["functionDeclarations"][0]
    data = chunk(called(sent["name"], {"reason": "because"}), called("never_offered"), **STOPPED)
    assert [(block["name"], block["input"]) for block in message(data, encoded)["content"]] == [
        ("1st.tool:x", {}),
        ("never_offered", {}),
    ]


@pytest.mark.parametrize("args", [None, [], "x"])
def test_a_call_without_arguments_has_none(args: Any) -> None:
    data = chunk({"functionCall": {"name": "get_weather", "args": args}}, **STOPPED)
    assert message(data)["content"][0]["input"] == {}


def test_thoughts_and_texts_may_alternate() -> None:
    data = chunk(
        spoken("1", thought=True, thoughtSignature=CLAUDE_SIGNATURE),
        spoken("a"),
        spoken("2", thought=True),
        spoken("3", thought=True, thoughtSignature=CLAUDE_SIGNATURE),
        called(),
        spoken("b"),
        **STOPPED,
    )
    signature = "ag1c:" + CLAUDE_SIGNATURE
    assert message(data)["content"] == [
        {"type": "thinking", "thinking": "1", "signature": signature},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "23", "signature": signature},
        {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}},
        {"type": "text", "text": "b"},
    ]


def test_a_signature_finds_the_thoughts_it_belongs_to() -> None:
    def kinds(profile: Profile, *parts: Any) -> list[tuple[str, str | None]]:
        found = message(chunk(*parts, **STOPPED), asked(profile))["content"]
        return [(block["type"], block.get("signature", "").partition(":")[2] or None) for block in found]

    c, g = {"thoughtSignature": CLAUDE_SIGNATURE}, {"thoughtSignature": GEMINI_SIGNATURE}
    hm = spoken("Hm", thought=True)
    # Claude's stands on a thought, or behind the thoughts
    assert kinds(CLAUDE, hm, spoken("", **c), spoken("a"))[0] == ("thinking", CLAUDE_SIGNATURE)
    assert kinds(CLAUDE, spoken("", thought=True, **c), spoken("a")) == [
        ("thinking", CLAUDE_SIGNATURE), ("text", None),
    ]  # fmt: skip
    assert kinds(CLAUDE, spoken("", thought=True, **c), hm, called())[0] == (
        "thinking",
        CLAUDE_SIGNATURE,
    )
    assert kinds(CLAUDE, hm, called(**c))[0] == ("thinking", CLAUDE_SIGNATURE)
    # Gemini's on what follows them; a call's is never lost
    assert kinds(GEMINI, hm, spoken("a", **g), called(**g), called()) == [
        ("thinking", GEMINI_SIGNATURE), ("text", None), ("thinking", GEMINI_SIGNATURE), ("tool_use", None),
        ("tool_use", None),
    ]  # fmt: skip
    assert kinds(GEMINI, called(**g)) == [("thinking", GEMINI_SIGNATURE), ("tool_use", None)]
    assert kinds(GEMINI, spoken("", thought=True, **g), called())[0] == ("thinking", GEMINI_SIGNATURE)
    assert kinds(GEMINI, spoken("a", **g)) == [("text", None)]
    assert kinds(GEMINI, hm, called(thoughtSignature="short"))[0] == ("thinking", None)
    assert kinds(GPT, hm, called(**g))[0] == ("thinking", None)


def test_thoughts_nobody_asked_for_are_not_shown() -> None:
    silent = asked(GEMINI, thoughts=False)
    data = chunk(spoken("Hm", thought=True), spoken("a", thoughtSignature=GEMINI_SIGNATURE), **STOPPED)
    assert message(data, silent)["content"] == [{"type": "text", "text": "a"}]
    call = chunk(spoken("Hm", thought=True), called(thoughtSignature=GEMINI_SIGNATURE), **STOPPED)
    assert message(call, silent)["content"][0] == {
        "type": "thinking", "thinking": "", "signature": "ag1g:" + GEMINI_SIGNATURE,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told_usage", "expected"),
    [
        ({"promptTokenCount": 1200, "cachedContentTokenCount": 1000, "candidatesTokenCount": 61,
          "thoughtsTokenCount": 30}, (200, 1000, 91)),
        ({"promptTokenCount": 100, "totalTokenCount": 130}, (100, 0, 30)),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 9, "totalTokenCount": 2}, (0, 9, 0)),
        ({"promptTokenCount": "5", "candidatesTokenCount": True}, (0, 0, 0)),
        (7, (0, 0, 0)),
    ],
)  # fmt: skip
def test_usage(told_usage: Any, expected: tuple[int, int, int]) -> None:
    usage = message(chunk(spoken("a"), usage=told_usage, **STOPPED))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == expected
    assert usage["cache_creation_input_tokens"] == 0
    thought = told_usage.get("thoughtsTokenCount") if isinstance(told_usage, dict) else None
    assert usage.get("output_tokens_details") == (None if thought is None else {"thinking_tokens": thought})


def test_the_last_usage_told_wins() -> None:
    data = chunk(spoken("a"), usage={"promptTokenCount": 7, "candidatesTokenCount": 1}) + chunk(
        usage={"candidatesTokenCount": 5}, **STOPPED
    )
    assert message(data)["usage"] == {
        "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("finish", "parts", "reason"),
    [
        ("STOP", [spoken("a")], "end_turn"),
        ("STOP", [spoken("a"), called()], "tool_use"),
        ("TOOL_USE", [called()], "tool_use"),
        ("MAX_TOKENS", [spoken("a")], "max_tokens"),
        ("MAX_TOKENS", [], "max_tokens"),
        ("MAX_TOKENS", [called()], "tool_use"),
        ("SAFETY", [spoken("a")], "refusal"),
        ("SAFETY", [], "refusal"),
        ("RECITATION", [spoken("a"), called()], "refusal"),
        ("PROHIBITED_CONTENT", [], "refusal"),
        ("STOP", [spoken("Hm", thought=True)], "end_turn"),
    ],
)
def test_why_it_ended(finish: str, parts: list[Any], reason: str) -> None:
    assert message(chunk(*parts, finishReason=finish))["stop_reason"] == reason


def test_a_blocked_prompt_is_a_refusal() -> None:
    data = b'data: {"response":{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}}\n\n'
    found = message(data)
    assert (found["content"], found["stop_reason"], found["usage"]["input_tokens"]) == ([], "refusal", 3)


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "SOMETHING_NEW"])
@pytest.mark.parametrize("parts", [[], [spoken("a")], [called()]])
def test_an_answer_that_went_wrong_has_no_end(finish: str, parts: list[Any]) -> None:
    failure = failed(chunk(*parts, finishReason=finish, finishMessage="Malformed: print(x"))
    assert (failure.blame, failure.status, failure.type) == (Blame.PROVIDER, 502, "api_error")
    assert finish in failure.message and "print(x" in failure.message


@pytest.mark.parametrize(
    "data",
    [
        chunk(**STOPPED),
        chunk(spoken(""), **STOPPED),
        chunk(spoken("", thought=True, thoughtSignature=CLAUDE_SIGNATURE), **STOPPED),
        chunk({"thoughtSignature": CLAUDE_SIGNATURE}, 7, {}, **STOPPED),
        chunk({"inlineData": {}}, {"functionCall": 7}, {"text": 7}, **STOPPED),
    ],
)
def test_an_empty_answer_is_none(data: bytes) -> None:
    assert failed(data).blame is Blame.PROVIDER
    assert decoded(data)[0] == [decoded(data)[0][-1]]


@pytest.mark.parametrize(
    ("data", "told_before"),
    [(b"", False), (b"<html>", False), (b": hi\n\n", False), (chunk(spoken("Hello")), True), (chunk(), False)],
)
def test_a_stream_without_an_end_is_cut(data: bytes, told_before: bool) -> None:
    failure = failed(data)
    assert (failure.blame, failure.status) == (Blame.NETWORK, 502)
    assert (len(decoded(data)[0]) > 1) is told_before


@pytest.mark.parametrize("data", [b"data: {broken\n\n", b"data: 7\n\n", b'data: {"response":7}\n\n', b"data: \xff\n\n"])
def test_what_cannot_be_read_is_no_answer(data: bytes) -> None:
    assert failed(data).blame is Blame.NETWORK
    assert failed(chunk(spoken("Hello")) + data + chunk(spoken("more"), **STOPPED)).blame is Blame.NETWORK


@pytest.mark.parametrize(
    ("document", "blame", "status", "kind"),
    [
        ({"code": 503, "message": "No capacity", "status": "UNAVAILABLE"}, Blame.PROVIDER, 529, "overloaded_error"),
        ({"code": 429, "message": "No capacity"}, Blame.PROVIDER, 429, "rate_limit_error"),
        ({"code": 400, "message": "No capacity"}, Blame.REQUEST, 400, "invalid_request_error"),
        ({"code": 99, "message": "No capacity"}, Blame.PROVIDER, 502, "api_error"),
        ("No capacity", Blame.PROVIDER, 502, "api_error"),
    ],
)
def test_an_error_within_the_stream_ends_it(document: Any, blame: Blame, status: int, kind: str) -> None:
    error = json.dumps({"error": document}).encode()
    before = chunk(spoken("Hello"))
    for data in (
        b"data: %b\n\n" % error,
        b"data: [%b]\n\n" % error,
        b'data: {"response":%b}\n\n' % error,
        before + b"data: %b\n\n" % error + chunk(spoken("more"), **STOPPED),
        error,
        b"[%b]" % error,
    ):
        failure = failed(data)
        assert (failure.blame, failure.status, failure.type) == (blame, status, kind)
        assert failure.body is not None and b"No capacity" in failure.body
        assert isinstance(document, str) or failure.message == "No capacity"


@pytest.mark.parametrize("behind", [b"data: {broken\n\n", b'data: {"error":{"code":500}}\n\n', b"data: {", b"\n\n"])
def test_what_comes_behind_the_end_is_of_no_weight(behind: bytes) -> None:
    whole = chunk(spoken("Hello"), **STOPPED)
    assert message(whole + behind) == message(whole)


NOTICE = "This version of Antigravity is no longer supported. Please update to receive the latest features!"


@pytest.mark.parametrize("pieces", [[NOTICE], [NOTICE[:4], NOTICE[4:50], NOTICE[50:]], ["\n", NOTICE]])
def test_a_notice_in_place_of_an_answer_is_no_answer(pieces: list[str]) -> None:
    data = b"".join(chunk(spoken(piece)) for piece in pieces) + chunk(**STOPPED)
    failure = failed(data)
    assert (failure.blame, failure.type) == (Blame.CONFIG, "api_error")
    assert NOTICE in failure.message
    assert len(decoded(data)[0]) == 1


@pytest.mark.parametrize(
    "parts",
    [
        [spoken("This is it.")],
        [spoken("This "), spoken("is it.")],
        [spoken("This")],
        [spoken("He wrote: " + NOTICE)],
        [spoken(NOTICE + " " * LONGEST_NOTICE + "That is what it says.")],
        [spoken(NOTICE), called()],
        [spoken("Hm", thought=True), spoken(NOTICE)],
    ],
)
def test_an_answer_that_only_looks_like_a_notice_is_an_answer(parts: list[Any]) -> None:
    found = message(chunk(*parts[:1]) + chunk(*parts[1:], **STOPPED))["content"]
    told_text = "".join(block.get("text", "") for block in found)
    assert told_text == "".join(part.get("text", "") for part in parts if not part.get("thought"))


def test_a_call_without_a_name_is_no_call() -> None:
    assert failed(chunk(called(""), **STOPPED)).blame is Blame.PROVIDER


def test_a_picture_in_a_conversation_is_named_and_kept_aside() -> None:
    data = chunk(spoken("Here: "), {"inlineData": {"mimeType": "image/png", "data": "aWNvbg=="}}, **STOPPED)
    assert message(data)["content"] == [{"type": "text", "text": "Here: [image/png]"}]
    images = decoded(data)[1].images
    assert [(image.media_type, image.data) for image in images] == [("image/png", "aWNvbg==")]


def test_an_answer_that_came_whole_is_read_like_a_stream() -> None:
    response = {"candidates": [{"content": {"parts": [spoken("Hello")]}, "finishReason": "STOP"}]}
    for value in (response, {"response": response}, [{"response": response}]):
        assert message(json.dumps(value, indent=1).encode())["content"] == [{"type": "text", "text": "Hello"}]


def test_nothing_is_given_before_there_is_content_and_all_at_once_then() -> None:
    decoder = GeminiDecoder(asked(), "m", ids())
    assert decoder.feed(chunk(usage={"promptTokenCount": 9})) == []
    assert not decoder.finished
    kinds = [event["type"] for event in told(decoder.feed(chunk(spoken("Hello"))))]
    assert kinds == ["message_start", "content_block_start", "content_block_delta"]


signed = st.sampled_from([{}, {}, {"thoughtSignature": CLAUDE_SIGNATURE}, {"thoughtSignature": "x"}])
words = st.sampled_from(["", " ", "\n\n", "Hello", "This version of ", "cut \ud83d", "4 °C"])
random_parts = st.one_of(
    st.builds(lambda text, more: spoken(text, **more), words, signed),
    st.builds(lambda text, more: spoken(text, thought=True, **more), words, signed),
    st.builds(
        lambda name, args, more: called(name, args, **more),
        st.sampled_from(["get_weather", "_1st_tool_x", "other"]),
        st.dictionaries(words, words | st.integers() | st.none(), max_size=2),
        signed,
    ),
    st.just({"inlineData": {"mimeType": "image/png", "data": "aWNvbg=="}}),
    st.sampled_from([None, {}, {"executableCode": {}}, {"text": None}]),
)
streams = st.lists(st.lists(random_parts, max_size=3), max_size=6)
ends = st.sampled_from(["STOP", "STOP", "MAX_TOKENS", "SAFETY", "OTHER", None])


@settings(deadline=None, max_examples=80)
@given(streams, ends, st.sampled_from([CLAUDE, GEMINI, GPT]), st.booleans(), st.lists(st.integers(0, 4000), max_size=5))
def test_any_parts_make_a_stream_the_sdk_accepts_wherever_it_was_cut(
    chunks: list[list[Any]], end: str | None, profile: Profile, thoughts: bool, cuts: list[int]
) -> None:
    data = b"".join(chunk(*parts) for parts in chunks) + (chunk(finishReason=end) if end else b"")
    encoded = asked(profile, thoughts=thoughts)
    events, decoder = decoded(data, encoded)
    places = tuple(cut % (len(data) + 1) for cut in cuts)
    assert to_sse(decoded(data, encoded, places)[0]) == to_sse(events)
    if decoder.failure is not None:
        failed(data, encoded)
        return
    found = message(data, encoded)
    said = "".join(block.get("text", "") for block in found["content"])
    sent = [part for parts in chunks for part in parts if isinstance(part, dict)]
    assert said == "".join(
        "[image/png]" if "inlineData" in part else part.get("text") or "" for part in sent if not part.get("thought")
    )
    assert sum("functionCall" in part for part in sent) == sum(
        block["type"] == "tool_use" for block in found["content"]
    )
    used = [block["id"] for block in found["content"] if block["type"] == "tool_use"]
    assert len(set(used)) == len(used)


@settings(deadline=None, max_examples=40)
@given(st.lists(random_parts, min_size=1, max_size=6), st.sampled_from([CLAUDE, GEMINI]))
def test_an_answer_given_back_is_a_history_that_either_family_takes(parts: list[Any], profile: Profile) -> None:
    theirs = CLAUDE_SIGNATURE if profile is CLAUDE else GEMINI_SIGNATURE
    parts = [
        {**part, "thoughtSignature": theirs} if isinstance(part, dict) and "thoughtSignature" in part else part
        for part in parts
    ]
    events, decoder = decoded(chunk(*parts, **STOPPED), asked(profile))
    if decoder.failure is not None:
        return
    content = json.loads(fold(events) or b"{}")["content"]
    back = [{"type": "tool_result", "tool_use_id": block["id"]} for block in content if block["type"] == "tool_use"]
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": back or "go on"},
    ]
    for target in (CLAUDE, GEMINI, GPT):
        good({"max_tokens": 8000, "messages": messages, "thinking": {"type": "enabled", "budget_tokens": 2000}}, target)


def test_a_signed_call_comes_back_signed() -> None:
    data = chunk(
        spoken("Hm", thought=True), spoken("a"), called(thoughtSignature=GEMINI_SIGNATURE), called(), **STOPPED
    )
    content = message(data, asked(GEMINI))["content"]
    results = [{"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": "ok"} for n in (2, 3)]
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    ]
    sent = encode(json.dumps({"messages": messages}).encode(), GEMINI)
    assert isinstance(sent, Encoded)
    calls = [part for part in json.loads(sent.request)["contents"][1]["parts"] if "functionCall" in part]
    assert [part.get("thoughtSignature") for part in calls] == [GEMINI_SIGNATURE, None]


def test_what_counts_as_a_notice_is_the_profiles() -> None:
    calm = asked(replace(CLAUDE, notices=()))
    assert message(chunk(spoken(NOTICE), **STOPPED), calm)["content"][0]["text"] == NOTICE
