from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import body_for, read_ask, without_member
from tests.mcp_proxy.dialects.fixtures import INDEX, NAMES, ask, body


def test_every_recorded_request_is_read() -> None:
    assert len(INDEX) > 20
    for entry in INDEX:
        read = ask(body(entry["name"]))
        assert (read.model, read.stream) == (entry["model"], bool(entry.get("stream")))


@pytest.mark.parametrize("name", NAMES)
def test_another_model_changes_only_the_models_bytes(name: str) -> None:
    original = ask(body(name))
    start, end = original.model_span
    assert original.body[start:end] == json.dumps(original.model).encode()
    assert body_for(original, original.model, keep_safeguards=True) is original.body
    sent = body_for(original, 'glm-"5"', keep_safeguards=True)
    assert sent == original.body[:start] + b'"glm-\\"5\\""' + original.body[end:]


@pytest.mark.parametrize("name", NAMES)
def test_safeguards_leave_and_nothing_else(name: str) -> None:
    original = ask(body(name))
    expected = json.loads(original.body)
    had = expected.pop("safeguards", None) is not None
    expected["model"] = "glm-5.2"
    sent = body_for(original, "glm-5.2", keep_safeguards=False)
    assert list(json.loads(sent).items()) == list(expected.items())
    assert (body_for(original, original.model, keep_safeguards=False) is original.body) is not had


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b'{"a":1, "s":{"s":2} , "b":3}', b'{"a":1, "b":3}'),
        (b'{ "s":1, "b":3}', b'{ "b":3}'),
        (b'{"a":1 , "s":1 }', b'{"a":1 }'),
        (b'{ "s" : 1 }', b"{  }"),
        (b'{"s":1,"a":"s","s":2}', b'{"a":"s"}'),
        (b'{"a":0,"s":1,"s":2}', b'{"a":0}'),
        (b'{"\\u0073":1,"a":2}', b'{"a":2}'),
        (b'{"a":{"s":1}}', b'{"a":{"s":1}}'),
        (b"nothing", b"nothing"),
    ],
)
def test_a_member_leaves_with_one_comma(text: bytes, left: bytes) -> None:
    assert without_member(text, "s") == left


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "model: Field required"),
        (b'{"Model":"x"}', "model: Field required"),
        (b'{"model":null}', "model: Input should be a valid string"),
        (b'{"model":7}', "model: Input should be a valid string"),
        (b'{"model":"\\ud800"}', "model: Input should be a valid string"),
        (b'{"model":""}', "model: String should have at least 1 character"),
        (b'{"model":"a","stream":1}', "stream: Input should be a valid boolean"),
        (b'{"model":"a","stream":"true"}', "stream: Input should be a valid boolean"),
        (b'{"model":"a","model":"a"}', "model: Field given twice"),
        (b'{"stream":true,"model":"a","stream":false}', "stream: Field given twice"),
        (b'{"model":"a","\\u006dodel":"b"}', "model: Field given twice"),
        (b"[]", "the body is not a JSON object"),
        (b'{"model":"a","x":"\xff"}', "the body is not valid UTF-8"),
        (b'{"model":"a","x":NaN}', "the body is not valid JSON: NaN is not JSON"),
        (b'{"model":"a","x":' + b"[" * 9000 + b"]" * 9000 + b"}", "the body is nested too deeply"),
    ],
)
def test_a_request_that_is_none_is_the_clients_fault(text: bytes, message: str) -> None:
    failure = read_ask(Endpoint.MESSAGES, text, ())
    assert failure == Failure(Blame.REQUEST, 400, "invalid_request_error", message)


def test_odd_but_valid_requests_pass() -> None:
    read = ask(
        b'{"x":{"model":"no","model":"no"},"n":' + b"9" * 5000 + b', "s":"\\ud83d", "m\\u006fdel" : "cl\\u0061ude"}'
    )
    assert (read.model, read.stream) == ("claude", False)
    assert read.body[slice(*read.model_span)] == b'"cl\\u0061ude"'
    assert body_for(read, "claude", keep_safeguards=True) is read.body


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_request_or_a_failure(data: bytes) -> None:
    read = read_ask(Endpoint.COUNT_TOKENS, data, (), beta=True)
    assert isinstance(read, Ask) or (read.blame, read.status) == (Blame.REQUEST, 400)
