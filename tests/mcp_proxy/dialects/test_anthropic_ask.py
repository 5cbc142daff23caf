from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import read_ask
from tests.mcp_proxy.dialects.fixtures import INDEX, ask, body


def test_every_recorded_request_is_read() -> None:
    assert len(INDEX) > 20
    for entry in INDEX:
        read = ask(body(entry["name"]))
        assert (read.model, read.stream) == (entry["model"], bool(entry.get("stream")))


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


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_request_or_a_failure(data: bytes) -> None:
    read = read_ask(Endpoint.COUNT_TOKENS, data, (), beta=True)
    assert isinstance(read, Ask) or (read.blame, read.status) == (Blame.REQUEST, 400)
