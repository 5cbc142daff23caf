from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Span
from mcp_proxy.dialects.cleaning.clean import cleaned, without_betas
from mcp_proxy.dialects.cleaning.edits import edited, removed, whole
from mcp_proxy.dialects.cleaning.rules import ELSEWHERE, SAFEGUARDS, Drop, Rules, Taste, Thinking
from mcp_proxy.dialects.json_text import elements, members
from mcp_proxy.dialects.native import ANTHROPIC
from mcp_proxy.providers import anthropic_api
from tests.mcp_proxy.dialects.fixtures import NAMES, ask, body

PICKY = Rules(
    fields=(SAFEGUARDS, Drop("context_management", "not known", "context-management-"), Drop("speed", "not known")),
    tool_fields=(Drop("strict", "not known"), Drop("defer_loading", "not known", "advanced-tool-use-")),
    billing_line=False,
)
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}


def asked(**fields: Any) -> Ask:
    return ask(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}).encode())


@pytest.mark.parametrize("name", NAMES)
def test_what_anthropic_accepts_goes_to_it_byte_for_byte(name: str) -> None:
    original = ask(body(name))
    start, end = original.model_span
    same = cleaned(original, original.model, ANTHROPIC, anthropic_api.taste(ModelId(original.model)))
    assert same.body is original.body and same.names == ()
    assert cleaned(original, 'glm-"5"', ANTHROPIC) == (
        original.body[:start] + b'"glm-\\"5\\""' + original.body[end:],
        (),
    )


@pytest.mark.parametrize("name", NAMES)
def test_elsewhere_nothing_goes_but_what_a_rule_names(name: str) -> None:
    original = ask(body(name))
    expected = json.loads(original.body) | {"model": "other"}
    gone = {field for field in ("safeguards", "context_management") if expected.pop(field, None) is not None}
    for tool in expected.get("tools", ()):
        gone |= {"defer_loading"} if tool.pop("defer_loading", None) is not None else set()
    if "billing-header" in json.dumps(expected.get("system", "")):
        expected["system"] = expected["system"][1:]
        gone.add("billing_line")
    sent, names = cleaned(original, "other", PICKY)
    assert list(json.loads(sent).items()) == list(expected.items())
    assert set(names) == gone
    messages = next(part.value for part in original.members if part.key == "messages")
    assert original.body[slice(*messages)] in sent, "what is left stays as it was written"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b'{"a":1, "s":{"s":2} , "b":3}', b'{"a":1, "b":3}'),
        (b'{ "s":1, "b":3}', b'{ "b":3}'),
        (b'{"a":1 , "s":1 }', b'{"a":1 }'),
        (b'{ "s" : 1 }', b"{  }"),
        (b'{"s":1,"a":"s","s":2}', b'{"a":"s"}'),
        (b'{"a":0,"s":1,"s":2}', b'{"a":0}'),
        (b'{"s":0,"s":1, "a" :2}', b'{"a" :2}'),
        (b'{"\\u0073":1,"a":2}', b'{"a":2}'),
        (b'{"a":{"s":1}}', b'{"a":{"s":1}}'),
    ],
)
def test_a_member_leaves_with_one_comma(text: bytes, left: bytes) -> None:
    parts = members(text)
    assert edited(text, removed(whole(parts), {at for at, part in enumerate(parts) if part.key == "s"})) == left


@given(
    st.lists(st.integers() | st.text(max_size=4), max_size=7), st.sets(st.integers(0, 6)), st.sampled_from((None, 1))
)
def test_values_leave_an_array_whichever_they_are(values: list[Any], leaving: set[int], indent: int | None) -> None:
    text = json.dumps(values, indent=indent).encode()
    spans = elements(text, Span(0, len(text)))
    assert [json.loads(text[slice(*span)]) for span in spans] == values
    going = {place for place in leaving if place < len(values)}
    left = json.loads(edited(text, removed(spans, going)))
    assert left == [value for place, value in enumerate(values) if place not in going]


def test_a_lone_surrogate_is_no_hindrance() -> None:
    text = b' ["\\ud83d", [ 1,"\xc3\xa9" ] ,{"a":"\\udc00"} ]'
    assert [text[slice(*span)] for span in elements(text, Span(1, len(text)))] == [
        b'"\\ud83d"',
        b'[ 1,"\xc3\xa9" ]',
        b'{"a":"\\udc00"}',
    ]
    wounded = ask(
        b'{"model":"m","speed":1,"messages":[{"role":"user","content":"caf\xc3\xa9 \\ud83d"}],"safeguards":[]}'
    )
    sent, names = cleaned(wounded, "m", PICKY)
    assert sent == b'{"model":"m","messages":[{"role":"user","content":"caf\xc3\xa9 \\ud83d"}]}'
    assert names == ("speed", "safeguards")


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([BILLING, {"type": "text", "text": "S"}], [{"type": "text", "text": "S"}]),
        ([BILLING], None),
        ([{"type": "text", "text": "S"}, BILLING], [{"type": "text", "text": "S"}, BILLING]),
        ("x-anthropic-billing-header: not a block", "x-anthropic-billing-header: not a block"),
        ([{"type": "text", "text": "about x-anthropic-billing-header:"}], ...),
        ([], []),
    ],
)
def test_the_billing_line_is_for_anthropic(system: Any, left: Any) -> None:
    request = asked(system=system)
    sent = json.loads(cleaned(request, "m", ELSEWHERE).body)
    assert sent.get("system") == (system if left is ... else left)
    assert cleaned(request, "m", ANTHROPIC).body is request.body


def test_a_tool_may_have_a_property_of_a_fields_name() -> None:
    schema = {"type": "object", "properties": {"strict": {"type": "boolean"}, "defer_loading": {}}}
    request = asked(
        tools=[{"name": "a", "input_schema": schema}, {"strict": True, "name": "b", "input_schema": schema}]
    )
    sent, names = cleaned(request, "m", PICKY)
    assert json.loads(sent)["tools"] == [{"name": name, "input_schema": schema} for name in ("a", "b")]
    assert names == ("strict",)


def test_a_request_that_is_not_read_yet_is_cleaned_too() -> None:
    request = replace(asked(speed="fast"), members=())
    assert cleaned(request, "m", PICKY).names == ("speed",)


def test_a_field_that_leaves_is_not_written_anew() -> None:
    request = asked(output_config={"effort": "high"}, thinking={"type": "disabled"})
    rules = Rules(fields=(Drop("output_config", "not known"),))
    sent = json.loads(cleaned(request, "m", rules, Taste(Thinking.ALWAYS)).body)
    assert "output_config" not in sent and sent["thinking"] == {"type": "adaptive"}


def test_betas_leave_with_their_fields() -> None:
    headers = (("accept", "*/*"), ("anthropic-beta", "effort-1, context-management-2,advanced-tool-use-3"))
    assert without_betas(headers, PICKY.betas) == (("accept", "*/*"), ("anthropic-beta", "effort-1"))
    assert without_betas((("anthropic-beta", "context-management-2"),), PICKY.betas) == ()


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=4)))
def test_no_body_is_too_odd(value: Any) -> None:
    request = asked(system=value, tools=value, thinking=value, output_config=value, max_tokens=value, messages=value)
    for rules in (PICKY, ANTHROPIC):
        for one in (request, replace(request, unsigned=True)):
            json.loads(cleaned(one, "x", rules, anthropic_api.taste(ModelId("claude-opus-4-5"))).body)
