from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcp_proxy.core.messages import Ask, Span
from mcp_proxy.dialects.cleaning.clean import cleaned
from mcp_proxy.dialects.cleaning.history import mapped, repaired, sound
from mcp_proxy.dialects.cleaning.rules import ELSEWHERE, Name
from mcp_proxy.dialects.native import ANTHROPIC
from tests.mcp_proxy.dialects.fixtures import NAMES, ask, body

TEXT = {"type": "text", "text": "said"}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "RXh0ZW5kZWQ="}
HIDDEN = {"type": "redacted_thinking", "data": "RXh0ZW5kZWQ="}
SERVER = {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": []}

MCP = [
    {"type": "mcp_tool_use", "id": "mcp.1", "name": "ls", "input": {}, "server_name": "files"},
    {"type": "mcp_tool_result", "tool_use_id": "mcp.1", "content": []},
]


def thought(**fields: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", **fields}


def use(id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "ls", "input": {"tool_use_id": "x y", "type": "thinking"}}


def result(id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "x"}


def said(*turns: list[dict[str, Any]] | str, **fields: Any) -> Ask:
    """A conversation: texts are the user's, lists of blocks the model's and the user's as their first block tells."""
    messages = []
    for turn in turns:
        mine = isinstance(turn, str) or turn[0]["type"] == "tool_result"
        messages.append({"role": "user" if mine else "assistant", "content": turn})
    return ask(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def contents(data: bytes) -> list[Any]:
    return [message["content"] for message in json.loads(data)["messages"]]


CASES: list[tuple[str, list[Any], list[Any], tuple[str, ...]]] = [
    ("a signed thought stays", ["a", [SIGNED, TEXT], "b"], ["a", [SIGNED, TEXT], "b"], ()),
    ("a hidden one too", ["a", [HIDDEN, TEXT], "b"], ["a", [HIDDEN, TEXT], "b"], ()),
    ("no signature", ["a", [thought(), TEXT], "b"], ["a", [TEXT], "b"], ("unsigned_thinking",)),
    ("an empty one", ["a", [thought(signature=""), TEXT], "b"], ["a", [TEXT], "b"], ("unsigned_thinking",)),
    ("null", ["a", [TEXT, thought(signature=None)], "b"], ["a", [TEXT], "b"], ("unsigned_thinking",)),
    ("Gemini's", ["a", [thought(signature="ag1g:" + "s" * 60), TEXT], "b"], ["a", [TEXT], "b"], ("unsigned_thinking",)),
    ("Claude's by Google", ["a", [thought(signature="ag1c:x"), TEXT], "b"], ["a", [TEXT], "b"], ("unsigned_thinking",)),
    ("a thought alone", ["a", [thought()], "b", [TEXT], "c"], ["a", "b", [TEXT], "c"], ("unsigned_thinking",)),
    ("a thought alone, last", ["a", [thought()]], ["a"], ("unsigned_thinking",)),
    (
        "an id",
        ["a", [use("call:1"), use("ok-1")], [result("call:1"), result("ok-1")]],
        ["a", [use(mapped("call:1")), use("ok-1")], [result(mapped("call:1")), result("ok-1")]],
        ("tool_id",),
    ),
    ("an empty id", ["a", [use("")], [result("")]], ["a", [use(mapped(""))], [result(mapped(""))]], ("tool_id",)),
    ("a server's tool", ["a", [SERVER, FOUND, TEXT], "b"], ["a", [SERVER, FOUND, TEXT], "b"], ()),
    (
        "another server's",
        ["a", [{**SERVER, "id": "call_1"}, {**FOUND, "tool_use_id": "call_1"}, TEXT, use("t")], [result("t")]],
        ["a", [TEXT, use("t")], [result("t")]],
        ("server_tool",),
    ),
    (
        "another server's, by the name of a client's tool",
        ["a", [{**SERVER, "id": "call_1"}, use("call_1")], [result("call_1")]],
        ["a", [use("call_1")], [result("call_1")]],
        ("server_tool",),
    ),
    (
        "another kind of tool",
        ["a", [*MCP, TEXT, use("t")], [result("t")]],
        ["a", [*MCP, TEXT, use("t")], [result("t")]],
        (),
    ),
    (
        "both",
        ["a", [thought(), use("é")], [result("é")], [thought(), TEXT], "c"],
        ["a", [use(mapped("é"))], [result(mapped("é"))], [TEXT], "c"],
        ("unsigned_thinking", "tool_id"),
    ),
]


@pytest.mark.parametrize(("turns", "left", "names"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_anthropic_refuses_goes_and_the_rest_stays(
    turns: list[Any], left: list[Any], names: tuple[str, ...]
) -> None:
    request = said(*turns)
    sent = cleaned(request, "m", ANTHROPIC)
    assert contents(sent.body) == left
    assert sent.names == names
    assert (sent.body is request.body) is (names == ())
    again = ask(sent.body)
    assert cleaned(again, "m", ANTHROPIC).body is again.body
    assert cleaned(request, "m", ELSEWHERE).body is request.body, "others keep what they signed"


def test_an_empty_id_is_found_beside_a_good_one() -> None:
    sent = cleaned(said("a", [use("ok"), use("")], [result("ok"), result("")]), "m", ANTHROPIC)
    assert contents(sent.body)[1] == [use("ok"), use(mapped(""))]


def test_others_keep_the_tools_of_their_servers_when_thoughts_go() -> None:
    foreign = [{**SERVER, "id": "call_1"}, {**FOUND, "tool_use_id": "call_1"}]
    sent = cleaned(replace(said("a", [SIGNED, *foreign], "b"), unsigned=True), "m", ELSEWHERE)
    assert contents(sent.body) == ["a", foreign, "b"]


def test_an_answer_begun_by_the_client_is_no_round() -> None:
    budget = {"type": "enabled", "budget_tokens": 2000}
    sent = cleaned(said("a", [thought(), TEXT], thinking=budget), "m", ANTHROPIC)
    assert json.loads(sent.body)["thinking"] == budget


def test_a_refused_signature_takes_all_thoughts_along() -> None:
    request = replace(said("a", [SIGNED, HIDDEN, TEXT, use("x y")], [result("x y")]), unsigned=True)
    for rules, id in ((ANTHROPIC, mapped("x y")), (ELSEWHERE, "x y")):
        sent = cleaned(request, "m", rules)
        assert contents(sent.body) == ["a", [TEXT, use(id)], [result(id)]]
        assert "refused_thinking" in sent.names


def test_a_round_that_lost_its_thoughts_goes_on_without() -> None:
    budget = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000}
    managed = {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}
    turns: list[Any] = ["a", [thought(), use("t")], [result("t")]]
    sent = cleaned(said(*turns, **budget, **managed), "m", ANTHROPIC)
    told = json.loads(sent.body)
    assert told["thinking"] == {"type": "disabled"} and "context_management" not in told
    assert sent.names == ("unsigned_thinking", "bare_round")
    over = json.loads(cleaned(said(*turns, [TEXT], "and now?", **budget, **managed), "m", ANTHROPIC).body)
    assert over["thinking"] == budget["thinking"] and "context_management" in over
    adaptive = said(*turns, thinking={"type": "adaptive"})
    assert json.loads(cleaned(adaptive, "m", ANTHROPIC).body)["thinking"] == {"type": "adaptive"}


@given(st.lists(st.text(), min_size=2, unique=True))
def test_other_ids_stay_other_ids(ids: list[str]) -> None:
    assert len({mapped(id) for id in ids}) == len(ids)
    assert all(mapped(id).removeprefix("toolu_").isalnum() for id in ids)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_histories_are_sound(name: str) -> None:
    request = ask(body(name))
    span = next(part.value for part in request.members if part.key == "messages")
    assert sound(request.body, span, ANTHROPIC.seals)
    assert repaired(request.body, span, ANTHROPIC, unsigned=False).edits == []


BLOCKS = st.sampled_from(
    [
        TEXT,
        SIGNED,
        HIDDEN,
        SERVER,
        thought(),
        thought(signature="ag1c:x"),
        use("a b"),
        use("t"),
        result("a b"),
        {"type": 1},
    ]
)


@given(st.lists(st.lists(BLOCKS, min_size=1, max_size=4) | st.just("text"), max_size=5), st.booleans())
def test_what_is_sound_needs_nothing_and_what_was_repaired_is_sound(turns: list[Any], unsigned: bool) -> None:
    messages = [{"role": "assistant", "content": turn} for turn in turns]
    data = json.dumps(messages).encode()
    change = repaired(data, Span(0, len(data)), ANTHROPIC, unsigned=unsigned)
    if sound(data, Span(0, len(data)), ANTHROPIC.seals) and not unsigned:
        assert change.edits == []
    fixed = cleaned(ask(b'{"model":"m","messages":' + data + b"}"), "m", ANTHROPIC)
    kept = json.loads(fixed.body)["messages"]
    assert all(message["content"] for message in kept)
    assert Name.UNSIGNED_THINKING not in cleaned(ask(fixed.body), "m", ANTHROPIC).names
