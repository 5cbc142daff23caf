from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.messages import Span
from mcp_proxy.dialects.json_text import PIECE, BadJson, items, loads, members, picked, quoted, replace

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "é", 'q"', "model", "\\"]), VALUES), max_size=6),
    st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t: ")]),
    st.booleans(),
)
def test_every_member_is_found_where_it_stands(pairs: list[tuple[str, Any]], marks: Any, escaped: bool) -> None:
    comma, colon = marks
    parts = [json.dumps(k, ensure_ascii=escaped) + colon + json.dumps(v, ensure_ascii=escaped) for k, v in pairs]
    text = (" {" + comma.join(parts) + "\n} ").encode("utf-8", "surrogatepass")
    found = members(text)
    assert [(part.key, json.loads(text[slice(*part.value)])) for part in found] == pairs
    assert all(text[part.start : part.start + 1] == b'"' for part in found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":NaN}',
        b'{"a":[-Infinity]}',
        b'{"a":1,}',
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":1} x',
        b'{"a":"\xff"}',
        b'{"a":["\xed\xa0\x80"]}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\x01"}',
        b'{"a":"\\ud800","b":NaN}',
        b'{"a":"\\ud800",}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"b":"\\ud800","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadJson):
        members(body)


@pytest.mark.parametrize("value", [b"1" * 6000, b'"\\ud800 cut"', b'{"x":1,"x":2}', b"1e999", b"-0.0"])
def test_odd_values_pass_as_they_are(value: bytes) -> None:
    body = b'{"a":' + value + b',"b":2}'
    assert [body[slice(*part.value)] for part in members(body)] == [value, b"2"]


def test_a_key_given_twice_is_found_twice() -> None:
    assert [part.key for part in members(b'{"a":"x,","a":"x"}')] == ["a", "a"]


@given(st.binary(max_size=40))
def test_any_bytes_are_members_or_refused(body: bytes) -> None:
    try:
        members(body)
    except BadJson:
        pass
    loads(body)


def test_small_documents_are_read_whatever_they_are() -> None:
    assert loads(b'{"a": "\\ud800"}') == {"a": "\ud800"}
    assert loads(b"[NaN]") is loads(b"\xff") is loads(b"[" * 100_000) is None


@given(st.text())
def test_quoting_reads_back(text: str) -> None:
    assert json.loads(quoted(text)) == text


def test_a_lone_surrogate_is_quoted_as_its_escape() -> None:
    assert quoted("\ud800") == b'"\\ud800"'


@pytest.mark.parametrize("mark", [b"x", "é".encode()])
def test_members_larger_than_what_is_looked_at_in_one_step_are_found_and_replaced(mark: bytes) -> None:
    large, other = b'"%b"' % (mark * PIECE * 2), b'"%by"' % (mark * PIECE * 2)
    body = b'{"a":%b,"b":1,"c":%b}' % (large, other)
    a, b, c = members(body)
    assert [body[slice(*each.value)] for each in (a, b, c)] == [large, b"1", other]
    assert replace(body, b.value, b"22") == b'{"a":%b,"b":22,"c":%b}' % (large, other)
    assert replace(body, a.value, other) == b'{"a":%b,"b":1,"c":%b}' % (other, other)
    twice = b'{"a":%b,"b":1,"a":%b}' % (large, other)
    assert [twice[slice(*each.value)] for each in members(twice)] == [large, b"1", other]
    with pytest.raises(BadJson, match="UTF-8"):
        members(b'{"a":"%b\xff"}' % (mark * PIECE * 2))
    with pytest.raises(BadJson, match="UTF-8"):
        members(b'{"a":"%b"}\xc3' % (mark * PIECE * 2))


def test_replacing_with_the_same_changes_nothing() -> None:
    body = b'{"a":"x"}'
    assert replace(body, Span(5, 8), b'"x"') is body
    assert replace(body, Span(5, 8), b'"yy"') == b'{"a":"yy"}'


@given(st.lists(VALUES, max_size=5), st.sampled_from([(", ", ": "), (" ,\n", "\t: ")]))
def test_the_values_of_an_array_are_found_one_by_one(values: list[Any], marks: Any) -> None:
    text = json.dumps(values, separators=marks).replace("[", "[ ").replace("]", " ]").encode()
    found = list(items(text))
    assert [json.loads(bytes(value)) for value in found] == json.loads(text)
    assert all(bytes(value) == bytes(value).strip() for value in found)


def test_what_stands_beside_a_cut_emoji_is_found_as_it_is_written() -> None:
    cut, other = b'"\\ud83d"', '"é\\u003c"'.encode()
    assert list(items(b" [ %b , %b , 1.0e0 ] " % (cut, other))) == [cut, other, b"1.0e0"]
    assert picked(b'{ "a" : %b , "b" : %b , "b" : %b }' % (cut, cut, other), "b", "c") == (other, b"null")
    for nothing in (b"[%b 1]", b"[%b,]", b"[%b]1", b"[%b,1", b"[%b,NaN]", b"%b"):
        assert list(items(nothing % cut)) == []


def test_a_member_is_found_by_its_name_the_last_of_two() -> None:
    assert picked(b'{ "a" : [ 1 ] , "b": 2, "a" : "x" }', "b", "a") == (b"2", b'"x"')
    assert picked(b'{"a":1,"b":"\\ud800"}', "b", "c") == (b'"\\ud800"', b"null")
    for nothing in (b"{}", b"[]", b"", b"{", b'"a"', b"[" * 100_000):
        assert picked(nothing, "a") == (b"null",)
        assert list(items(nothing)) == []


def test_an_array_with_a_lone_surrogate_is_read_all_the_same() -> None:
    assert [loads(value) for value in items(b'["\\ud800", {"a": 1}]')] == ["\ud800", {"a": 1}]
