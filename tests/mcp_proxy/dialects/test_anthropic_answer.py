from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects import anthropic_answer as answer
from mcp_proxy.dialects.anthropic_answer import Listener, read_message, rename, rename_message
from mcp_proxy.dialects.sse import Frames, parse, split
from tests.mcp_proxy.dialects.fixtures import FOLDER, STREAMS


def listen(data: bytes, *cuts: int) -> dict[str, Any]:
    frames, listener = Frames(), Listener()
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        listener.feed(frames.feed(data[start:end]))
    return asdict(listener)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.mark.parametrize("name", STREAMS)
def test_listening_does_not_depend_on_where_the_bytes_were_cut(name: str) -> None:
    data = STREAMS[name]
    whole = listen(data)
    chance = random.Random(3)
    for cut in chance.sample(range(1, len(data)), min(200, len(data) - 1)):
        assert listen(data, cut, min(len(data), cut + 1)) == whole, f"cut at byte {cut}"
    assert listen(data, *range(1, len(data))) == whole
    assert listen(data.replace(b"\n", b"\r\n")) == whole


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "error_event"])
def test_a_recorded_stream_is_understood(name: str) -> None:
    heard = Listener()
    heard.feed(STREAMS[name])
    assert heard.started and heard.content and heard.block_done and heard.done
    assert heard.error is None and heard.stop_reason and heard.model
    assert heard.usage.output > 0


def test_an_error_event_is_kept_as_it_came() -> None:
    heard = Listener()
    heard.feed(STREAMS["error_event"])
    assert heard.error is not None and json.loads(heard.error)["type"] == "error"
    assert not heard.done


def test_a_delta_that_speaks_of_events_is_only_a_delta() -> None:
    text = "event: content_block_stop\n\nevent: message_stop\ndata: {}\n\n"
    heard = Listener()
    heard.feed(event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}))
    assert asdict(heard) == asdict(Listener())


def test_usage_is_the_larger_of_start_and_end() -> None:
    start = {"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1, "cache_creation_input_tokens": None}
    heard = Listener()
    heard.feed(event("message_start", message={"id": "m", "model": "x", "usage": start}))
    assert not heard.content
    heard.feed(event("message_delta", delta={"stop_reason": None}, usage={"input_tokens": 5, "output_tokens": 3}))
    assert not heard.content
    heard.feed(
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2, "input_tokens": True})
    )
    assert heard.usage == Usage(input=5, cache_read=9, output=3)
    assert heard.content and heard.stop_reason == "end_turn"


def test_what_was_thought_is_known_only_where_the_upstream_says() -> None:
    heard = Listener()
    heard.feed(event("message_start", message={"id": "m", "model": "x", "usage": {"output_tokens": 1}}))
    heard.feed(event("message_delta", delta={}, usage={"output_tokens": 9, "output_tokens_details": None}))
    assert heard.usage.reasoning is None
    for told, known in (
        ({"thinking_tokens": 0}, 0),
        ({"thinking_tokens": 7}, 7),
        ({"thinking_tokens": "9"}, 7),
        ({}, 7),
    ):
        heard.feed(event("message_delta", delta={}, usage={"output_tokens": 9, "output_tokens_details": told}))
        assert heard.usage.reasoning == known


@pytest.mark.parametrize(
    "frame",
    [
        b"event: message_start\ndata: {broken\n\n",
        b"event: message_start\ndata: {}\n\n",
        b'data: {"type":"message_start","message":{}}\n\n',
        b"event: content_block_start\ndata: {\n\n",
        b'event: message_delta\ndata: {"delta":7,"usage":[]}\n\n',
        b'event: message_delta\ndata: {"usage":{"output_tokens":-4,"input_tokens":1e300}}\n\n',
        b": comment\n\n",
        b"event: something_new\ndata: {}\n\n",
        b"event: ping\ndata: {}\n\n",
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(frame: bytes) -> None:
    heard = Listener()
    heard.feed(frame)
    assert asdict(heard) == asdict(Listener())


@given(st.lists(st.binary(max_size=30) | st.sampled_from(STREAMS["text"].split(b"\n")), max_size=8))
def test_any_bytes_can_be_listened_to(parts: list[bytes]) -> None:
    listen(b"\n".join(parts) + b"\n\n")


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "error_event"])
def test_renaming_changes_the_models_bytes_and_nothing_else(name: str) -> None:
    for frame in split(STREAMS[name]):
        if parse(frame)[0] != "message_start":
            assert rename(frame, "asked") is frame
            continue
        model = json.loads(parse(frame)[1])["message"]["model"]
        assert rename(frame, model) is frame
        assert rename(frame, "asked") == frame.replace(json.dumps(model).encode(), b'"asked"', 1)
        assert rename(rename(frame, "a"), model) == frame


@pytest.mark.parametrize(
    ("data", "renamed"),
    [
        (
            b'{"message": {"model" : "b" , "x":"model"}, "model":"c"}',
            b'{"message": {"model" : "a" , "x":"model"}, "model":"c"}',
        ),
        (b'{"message":{"model":"\\u0061"}}', b'{"message":{"model":"\\u0061"}}'),
        (b'{"message":{"model":null}}', b'{"message":{"model":null}}'),
        (b'{"message":{}}', b'{"message":{}}'),
        (b'{"message":7,"model":"b"}', b'{"message":7,"model":"b"}'),
        (b"{broken", b"{broken"),
        (b'{"message":\ndata: {"id":"1",\ndata:"model":"b"}}', b'{"message":\ndata: {"id":"1",\ndata:"model":"a"}}'),
    ],
)
def test_the_name_is_found_where_it_stands(data: bytes, renamed: bytes) -> None:
    head = b"event: message_start\ndata: "
    assert rename(head + data + b"\n\n", "a") == head + renamed + b"\n\n"


def test_a_whole_message_is_read_and_renamed() -> None:
    data = (FOLDER / "responses" / "message.json").read_bytes()
    read = read_message(data)
    assert read is not None and read.id and read.stop_reason and read.usage.output
    assert json.loads(rename_message(data, "asked")) == {**json.loads(data), "model": "asked"}
    assert read.model and rename_message(data, read.model) is data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"type":"message"}',
        b'{"type":"message","content":"x"}',
        b'{"type":"error","content":[]}',
        b'{"code":500,"msg":"404 NOT_FOUND","success":false}',
        b'{"type":"message","content":[]',
    ],
)
def test_a_200_is_no_proof_of_a_message(data: bytes) -> None:
    assert read_message(data) is None
    assert rename_message(data, "asked") is data


def test_what_we_write_ourselves_reads_back() -> None:
    assert parse(answer.ping_frame()) == ("ping", b'{"type": "ping"}')
    name, data = parse(answer.error_frame("api_error", 'say "no"\n\u2028', "req_1"))
    document = {"type": "error", "error": {"type": "api_error", "message": 'say "no"\n\u2028'}, "request_id": "req_1"}
    assert (name, json.loads(data)) == ("error", document)
    assert data == answer.error_body("api_error", 'say "no"\n\u2028', "req_1")
