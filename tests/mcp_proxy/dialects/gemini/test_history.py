from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.profile import Profile
from tests.mcp_proxy.dialects.gemini.rules import (
    CLAUDE,
    CLAUDE_SIGNATURE,
    FLASH,
    GEMINI,
    GEMINI_SIGNATURE,
    GPT,
    check_request,
    good,
)

THINKING = {"type": "enabled", "budget_tokens": 2000}
TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("Bash", "1st.tool:x")]
OURS_CLAUDE = "ag1c:" + CLAUDE_SIGNATURE
OURS_GEMINI = "ag1g:" + GEMINI_SIGNATURE
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aWNvbg=="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}}
INLINE_PNG = {"inlineData": {"mimeType": "image/png", "data": "aWNvbg=="}}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def call(id: Any = "t1", name: str = "Bash", given: Any = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {} if given is None else given}


def back(id: Any = "t1", content: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def thought(signature: str, said: str = "Hm") -> dict[str, Any]:
    return {"type": "thinking", "thinking": said, "signature": signature}


def encoded(messages: list[Any], profile: Profile = CLAUDE, **more: Any) -> Encoded:
    return good({"max_tokens": 8000, "thinking": THINKING, "tools": TOOLS, "messages": messages}, profile, **more)


def contents(messages: list[Any], profile: Profile = CLAUDE, **more: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    found = json.loads(encoded(messages, profile, **more).request)["contents"]
    return [(content["role"], content["parts"]) for content in found]


def parts(*blocks: Any, profile: Profile = CLAUDE) -> list[dict[str, Any]]:
    """What one user message becomes."""
    return contents([user(*blocks)], profile)[0][1]


def answer(id: str = "t1", response: Any = None, name: str = "Bash") -> dict[str, Any]:
    return {"functionResponse": {"id": id, "name": name, "response": response or {"result": "ok"}}}


INTERRUPTED = {"error": "Interrupted: there is no result."}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (text("a"), [{"text": "a"}]),
        (text(" a\n"), [{"text": " a\n"}]),
        (text(""), []),
        (text(" \n"), []),
        (PNG, [INLINE_PNG]),
        (PDF, [{"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}}]),
        ({"type": "image", "source": {"type": "url", "url": "https://a.example/x"}}, [
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.example/x"}}]),
        ({"type": "image", "source": {"type": "url", "media_type": "image/png", "url": "https://a.example/x"}}, [
            {"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/x"}}]),
        ({"type": "document", "title": "T", "source": {"type": "url", "url": "https://a.example/x"}}, [
            {"text": "T"}, {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/x"}}]),
        ({"type": "document", "title": "T", "context": "C",
          "source": {"type": "text", "media_type": "text/plain", "data": "Body"}}, [
            {"text": "T\nC"}, {"text": "Body"}]),
        ({"type": "document", "source": {"type": "content", "content": [text("a"), PNG]}}, [
            {"text": "a"}, INLINE_PNG]),
        ({"type": "document", "source": {"type": "content", "content": "a"}}, [{"text": "a"}]),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, [
            {"text": "[A file that is stored elsewhere was left out here.]"}]),
        ({"type": "image", "source": {"type": "base64", "data": ""}}, []),
        ({"type": "image", "source": None}, []),
        ({"type": "document"}, []),
        ({"type": "search_result", "source": "https://a.example", "title": "A", "content": [text("found")]}, [
            {"text": "A\nhttps://a.example\nfound"}]),
        ({"type": "container_upload", "file_id": "f"}, []),
        ({"type": "new_kind", "text": "x"}, []),
        ("stray", []),
        (None, []),
        ({**text("a"), "cache_control": {"type": "ephemeral"}, "citations": []}, [{"text": "a"}]),
    ],
)  # fmt: skip
def test_each_block(block: Any, expected: list[dict[str, Any]]) -> None:
    assert parts(block) == (expected or [{"text": "."}])


def test_a_model_that_reads_text_alone_is_told_what_was_left_out() -> None:
    assert parts(PNG, text("a"), profile=GPT) == [
        {"text": "[A file of type image/png, which you cannot read, was left out here.]"},
        {"text": "a"},
    ]


def test_roles_and_turns() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "narrator", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "model", "content": [text("d")]},
        {"role": "user", "content": "e"},
        7,
        {"role": "system", "content": "f"},
        {"role": "system", "content": []},
        {"role": "system", "content": [{**text("g"), "cache_control": {"type": "ephemeral"}}]},
    ]
    assert contents(messages) == [
        ("user", [{"text": "a"}, {"text": "b"}]),
        ("model", [{"text": "c"}, {"text": "d"}]),
        (
            "user",
            [
                {"text": "e"},
                {"text": "<system-reminder>\nf\n</system-reminder>"},
                {"text": "<system-reminder>\ng\n</system-reminder>"},
            ],
        ),
    ]


def test_a_trailing_assistant_turn_is_told_to_go_on() -> None:
    assert contents([user(text("a")), assistant(text("b"))])[2] == ("user", [{"text": "Continue."}])
    assert contents([user(text("a")), assistant(call())])[2] == ("user", [answer(response=INTERRUPTED)])


def test_the_user_speaks_first() -> None:
    assert contents([assistant(text("b")), user(text("a"))])[0] == ("user", [{"text": "."}])
    assert contents([assistant(text("b"))], GEMINI)[0] == ("user", [{"text": "."}])


def test_a_message_without_content_leaves_no_empty_part() -> None:
    messages = [user(), assistant(text("")), user(text(" ")), assistant(text("b")), user()]
    assert contents(messages) == [("user", [{"text": "."}]), ("model", [{"text": "b"}]), ("user", [{"text": "."}])]


def test_results_come_first_then_what_they_hold_then_the_rest() -> None:
    result = back(content=[text("one"), PNG, text("two"), PDF])
    messages = [user(text("a")), assistant(text("b"), call()), user(text("c"), result, PNG)]
    assert contents(messages)[2][1] == [
        answer(response={"result": "one\ntwo"}),
        INLINE_PNG,
        {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
        {"text": "c"},
        INLINE_PNG,
    ]


@pytest.mark.parametrize(
    ("block", "response"),
    [
        (back(content="x"), {"result": "x"}),
        (back(content=[text("x"), text("y")]), {"result": "x\ny"}),
        (back(content=[PNG]), {"result": "See what is attached."}),
        (back(content=None), {"result": ""}),
        (back(content=[]), {"result": ""}),
        (back(content="x", is_error=True), {"error": "x"}),
        (back(content="x", is_error=False), {"result": "x"}),
        (back(content=[{"type": "tool_reference", "tool_name": "WebFetch"}]), {"result": "Tool found: WebFetch"}),
    ],
)
def test_each_result(block: dict[str, Any], response: dict[str, Any]) -> None:
    assert contents([user(text("a")), assistant(call()), user(block)])[2][1][0] == answer(response=response)


def test_results_stand_in_the_order_of_their_calls() -> None:
    messages = [
        user(text("a")),
        assistant(call("t1"), call("t2", "1st.tool:x"), call("t3")),
        user(back("t3", [PNG]), back("t1"), back("t9", "late")),
    ]
    assert contents(messages)[2][1] == [
        answer("t1"),
        answer("t2", INTERRUPTED, "_1st_tool_x"),
        answer("t3", {"result": "See what is attached."}),
        INLINE_PNG,
        {"text": "Result of an earlier tool call:\nlate"},
    ]


def test_a_result_that_comes_too_late_is_told_as_text() -> None:
    messages = [user(text("a")), assistant(call()), user(text("stop")), assistant(text("b")), user(back())]
    assert [turn[1] for turn in contents(messages)][2::2] == [
        [answer(response=INTERRUPTED), {"text": "stop"}],
        [{"text": "Result of an earlier tool call:\nok"}],
    ]


def test_messages_of_one_turn_are_one_turn() -> None:
    messages = [
        user(text("a")),
        assistant(text("b"), call("t1")),
        assistant(call("t2")),
        user(back("t2")),
        {"role": "system", "content": "note"},
        user(back("t1"), text("c")),
    ]
    assert contents(messages)[2][1] == [
        answer("t1"),
        answer("t2"),
        {"text": "<system-reminder>\nnote\n</system-reminder>"},
        {"text": "c"},
    ]


def test_ids_are_made_fit_and_unique() -> None:
    messages = [
        user(text("a")),
        assistant(call("functions.Bash:0"), call("functions.Bash:0"), call(None), call("")),
        user(back("functions.Bash:0", "1"), back("functions.Bash:0", "2"), back(None, "3"), back("", "4")),
        assistant(call("functions.Bash:0")),
        user(back("functions.Bash:0", "5")),
    ]
    found = [part["functionResponse"] for _, turn in contents(messages) for part in turn if "functionResponse" in part]
    assert [(found["id"], found["response"]["result"]) for found in found] == [
        ("functions_Bash_0", "1"),
        ("functions_Bash_0-2", "2"),
        ("unknown", "3"),
        ("unknown-2", "4"),
        ("functions_Bash_0-3", "5"),
    ]


@pytest.mark.parametrize(
    ("given", "args"),
    [
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ('{"a":1}', {"a": 1}),
        ("", {}),
        ("plain", {"input": "plain"}),
        ([1], {"input": [1]}),
        (
            {"title": 1, "format": {"default": None}, "$ref": "#/x"},
            {"title": 1, "format": {"default": None}, "$ref": "#/x"},
        ),
    ],
)
def test_arguments_are_an_object_and_else_left_alone(given: Any, args: dict[str, Any]) -> None:
    block = {"type": "tool_use", "id": "t1", "name": "Bash", "input": given}
    assert contents([user(text("a")), assistant(block)])[1][1][0]["functionCall"]["args"] == args


def test_a_tool_nobody_offers_any_more_keeps_its_place_in_the_history() -> None:
    turns = contents([user(text("a")), assistant(call(name="gone.tool")), user(back())])
    assert turns[1][1][0]["functionCall"]["name"] == turns[2][1][0]["functionResponse"]["name"] == "gone_tool"


def test_thoughts_go_first_and_calls_last() -> None:
    messages = [
        user(text("a")),
        assistant(text("b"), thought(OURS_CLAUDE, "1"), call("t1"), thought(OURS_CLAUDE, "2"), text("c")),
        user(back("t1")),
    ]
    assert [next(iter(part.values())) for part in contents(messages)[1][1]] == [
        "1", "2", "b", "c", {"id": "t1", "name": "Bash", "args": {}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "signature",
    [OURS_GEMINI, CLAUDE_SIGNATURE, "", None, 7, "ag1c:", "ag1c:short", "ag2c:" + CLAUDE_SIGNATURE, "ag1c:" + "x" * 49],
)
def test_thoughts_of_others_do_not_go_to_claude(signature: Any) -> None:
    block = {"type": "thinking", "thinking": "Hm", "signature": signature}
    turns = contents([user(text("a")), assistant(block, text("b")), user(text("c"))])
    assert turns[1] == ("model", [{"text": "b"}])
    only = contents([user(text("a")), assistant(block), user(text("c"))])
    assert only == [("user", [{"text": "a"}, {"text": "c"}])]


def test_claude_does_not_think_in_a_round_of_calls_it_did_not_think_to_begin() -> None:
    def thinks(*messages: Any) -> bool:
        return encoded(list(messages)).thoughts

    asked, done = user(text("a")), user(back())
    assert thinks(asked, assistant(thought(OURS_CLAUDE), call()), done)
    assert thinks(asked, assistant(thought(OURS_CLAUDE), call()), done, assistant(call("t2")), user(back("t2")))
    assert not thinks(asked, assistant(call()), done)
    assert not thinks(asked, assistant(thought(OURS_GEMINI), call()), done)
    assert not thinks(asked, assistant({"type": "redacted_thinking", "data": "x"}, thought(OURS_CLAUDE), call()), done)
    assert not thinks(asked, assistant(thought(OURS_CLAUDE), call()), done, assistant(thought("x"), call("t2")))
    assert not thinks(asked, assistant(call()), user(back(), text("stop")))
    # the next thing the user says begins anew
    assert thinks(asked, assistant(thought(OURS_GEMINI), call()), done, assistant(text("b")), user(text("c")))


def test_a_claude_that_does_not_think_gets_no_thoughts_back() -> None:
    messages = [user(text("a")), assistant(thought(OURS_CLAUDE), text("b")), user(text("c"))]
    sent = good({"max_tokens": 8000, "messages": messages})
    assert json.loads(sent.request)["contents"][1]["parts"] == [{"text": "b"}]
    assert contents(messages, trust_signatures=False)[1] == ("model", [{"text": "b"}])


def test_gemini_gets_its_signature_back_on_what_followed_the_thoughts() -> None:
    messages = [
        user(text("a")),
        assistant(
            thought(OURS_GEMINI), text("b"), text("c"), thought(OURS_GEMINI, ""), call("t1"), call("t2"),
            thought(OURS_GEMINI, ""), call("t3"),
        ),
        user(back("t1"), back("t2"), back("t3")),
    ]  # fmt: skip
    spoken = contents(messages, GEMINI)[1][1]
    assert [part.get("thoughtSignature") for part in spoken] == [
        GEMINI_SIGNATURE, None, GEMINI_SIGNATURE, None, GEMINI_SIGNATURE,
    ]  # fmt: skip
    assert not any("thought" in part for part in spoken)


@pytest.mark.parametrize("profile", [GEMINI, FLASH])
@pytest.mark.parametrize("before", [[], [thought(OURS_CLAUDE)], [thought("")], [thought(OURS_GEMINI), text("b")]])
def test_a_call_without_a_signature_is_marked_for_gemini(profile: Profile, before: list[Any]) -> None:
    messages = [user(text("a")), assistant(*before, call("t1"), call("t2")), user(back("t1"), back("t2"))]
    spoken = contents(messages, profile)[1][1]
    assert [part.get("thoughtSignature") for part in spoken if "functionCall" in part] == [profile.sentinel, None]
    untrusted = contents(messages, profile, trust_signatures=False)[1][1]
    assert untrusted[-2]["thoughtSignature"] == profile.sentinel


def test_gpt_gets_no_signatures_at_all() -> None:
    messages = [user(text("a")), assistant(thought(OURS_GEMINI), thought(OURS_CLAUDE), call()), user(back())]
    assert contents(messages, GPT)[1][1] == [{"functionCall": {"id": "t1", "name": "Bash", "args": {}}}]


def test_a_past_web_search_is_told_in_short() -> None:
    found = [{"type": "web_search_result", "title": "A", "url": "https://a.example", "encrypted_content": "x" * 999}]
    messages = [
        user(text("a")),
        assistant(
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "oslo"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": found},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"error_code": "unavailable"}},
            text("b"),
        ),
        user(text("c")),
    ]
    assert contents(messages)[1][1] == [
        {"text": "Searched the web for: oslo"},
        {"text": "Found: A - https://a.example"},
        {"text": "b"},
    ]


ids = st.sampled_from(["t1", "t2", "t3", "a.b:c", None, ""])
said = st.sampled_from(["", " ", "\n", "Hello", "cut \ud83d", "4 °C"])
signatures = st.sampled_from([OURS_CLAUDE, OURS_GEMINI, "", "ag1c:x", CLAUDE_SIGNATURE, None])
texts = said.map(text)
media = st.sampled_from([PNG, PDF, {"type": "image", "source": {"type": "url", "url": "https://a.example/x"}}])
results = st.builds(
    back, ids, said | st.none() | st.lists(texts | media, max_size=2), is_error=st.sampled_from([True, False, None])
)
calls = st.builds(
    call, ids, st.sampled_from(["Bash", "1st.tool:x", "gone", ""]), st.sampled_from([{}, "x", [], {"a": 1}])
)
thoughts = st.builds(thought, signatures, said)
strange = st.sampled_from([None, 7, "x", {}, {"type": "redacted_thinking", "data": "x"}, {"type": []}])
content = said | st.none() | st.lists(texts | media | results | calls | thoughts | strange, max_size=5)
roles = st.sampled_from(["user", "assistant", "user", "assistant", "system", "tool", None])
histories = st.lists(st.fixed_dictionaries({"role": roles, "content": content}), min_size=1, max_size=8)


@settings(deadline=None, max_examples=120)
@given(
    histories,
    st.sampled_from([CLAUDE, GEMINI, FLASH, GPT]),
    st.sampled_from([None, THINKING, {"type": "adaptive"}, {"type": "disabled"}]),
    st.booleans(),
)
def test_any_history_becomes_one_that_breaks_no_rule(
    messages: list[Any], profile: Profile, thinking: Any, trusted: bool
) -> None:
    ask = {"max_tokens": 8000, "messages": messages, "tools": TOOLS, "thinking": thinking}
    sent = encode(json.dumps(ask).encode(), profile, trust_signatures=trusted)
    assert isinstance(sent, Encoded)
    check_request(sent)
