from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.dialects.conversation import agent, cache_ttl_1h, session
from tests.mcp_proxy.dialects.fixtures import ask, body, headers

UUID = "00000000-0000-4000-8000-000000000001"


def asking(**fields: Any) -> Ask:
    return ask(json.dumps({"model": "m", **fields}).encode())


def test_the_header_names_the_session_before_anything_else() -> None:
    data = body("main_turn")
    assert session(ask(data, (("x-session-id", "b"), ("x-claude-code-session-id", "a")))) == "a"
    assert session(ask(data, (("x-claude-code-session-id", " "), ("x-session-id", "b")))) == "b"


def test_header_and_body_of_a_real_request_name_the_same_session() -> None:
    data, sent = body("main_turn"), headers("main_turn")
    assert session(ask(data, sent)) == session(ask(data))


@pytest.mark.parametrize(
    ("user_id", "expected"),
    [
        (json.dumps({"device_id": "d", "account_uuid": "", "session_id": UUID}), UUID),
        (f"user_00ab_account_{UUID}_session_{UUID}", UUID),
        (f"user_00ab_account__session_{UUID}", UUID),
        ("someone", "someone"),
        ("{broken", "{broken"),
        ('{"session_id": 4}', '{"session_id": 4}'),
    ],
)
def test_the_user_id_names_the_session(user_id: str, expected: str) -> None:
    assert session(asking(metadata={"user_id": user_id})) == expected


def test_without_a_name_the_first_words_tell_and_only_by_meaning() -> None:
    def spoken(system: Any, *contents: Any) -> str:
        messages = [{"role": "user", "content": content} for content in contents]
        return session(asking(system=system, messages=messages, metadata={}))

    block = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    assert spoken("be good", "hi") == spoken([{"type": "text", "text": "be good"}], block, "later")
    assert len({spoken("be good", "hi"), spoken("be bad", "hi"), spoken("be good", "ho"), spoken(None)}) == 4


def test_a_long_name_is_kept_short() -> None:
    read = ask(b'{"model":"m"}', (("x-session-id", "x" * 5000), ("x-claude-code-agent-id", "y" * 5000)))
    assert len(session(read)) == len(agent(read)) == 32


def test_the_agent_is_told_by_its_header() -> None:
    assert agent(ask(b'{"model":"m"}', (("x-claude-code-agent-id", "00ff"),))) == "00ff"
    assert agent(ask(b'{"model":"m"}')) == ""


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5) | st.just({"user_id": 3}))
def test_whatever_the_parts_are_there_is_a_session(value: Any) -> None:
    for fields in ({"metadata": value}, {"system": value}, {"messages": value}, {"messages": [{"role": "user"}]}):
        assert session(asking(**fields))


def test_a_cut_emoji_is_no_obstacle() -> None:
    read = read_ask(Endpoint.MESSAGES, b'{"model":"m","system":"\\ud83d","metadata":{"user_id":"\\ud83d"}}', ())
    assert isinstance(read, Ask)
    assert session(read)


@pytest.mark.parametrize("first", ['"caf\u00e9 \\u003c \\/"', '[{"type": "text", "text": "caf\u00e9 \\u003c \\/"}]'])
@pytest.mark.parametrize("later", ["hi", "\\ud83d"])
@pytest.mark.parametrize("beside", ["x", "\\ud83d"])
def test_a_cut_emoji_anywhere_else_changes_no_session(first: str, later: str, beside: str) -> None:
    def asked(*said: str) -> Ask:
        return ask(f'{{"model": "m", "messages": [{", ".join(said)}]}}'.encode())

    begun = asked('{"role": "user", "content": "caf\u00e9 \\u003c \\/"}')
    now = asked(f'{{"role": "user", "name": "{beside}", "content": {first}}}', f'{{"role": "x", "content": "{later}"}}')
    assert session(now) == session(begun)


def test_an_hour_is_asked_for_in_a_cache_mark_only() -> None:
    assert cache_ttl_1h(asking(system=[{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]))
    assert not cache_ttl_1h(asking(system=[{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]))
    assert not cache_ttl_1h(asking(system='"cache_control": {"ttl": "1h"}', other={"ttl": "1h"}))
