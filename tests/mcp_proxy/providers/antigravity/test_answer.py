from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.lib.streaming import _messages as sdk
from msgspec.structs import replace

from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamResponse
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Offer
from mcp_proxy.dialects import sse
from mcp_proxy.gateway.answer import Answer, CutShort, read_answer, relay
from mcp_proxy.providers.antigravity import PROVIDER
from tests.fakes import FakeResponse
from tests.mcp_proxy.providers.antigravity.kit import GEMINI, NOW, SONNET, WIRE, built, sample, wish

CLAUDE_STREAM = (WIRE / "claude_stream.sse").read_bytes()
GEMINI_STREAM = (WIRE / "gemini_stream.sse").read_bytes()
SIGNATURE = "UkVYQU1QTEUtU0lHTkFUVVJFLUxPTkdFUi1USEFOLUZJRlRZLUNIQVJBQ1RFUlM="
NOTICE = "This version of Antigravity is no longer supported. Please update to receive the latest features!"
REFUSALS = {case["what"]: case for case in sample("refusals.json")}
HEADERS = (("content-type", "text/event-stream"), ("content-length", "7"), ("x-cloudaicompanion-trace-id", "t1"))


def chunk(*parts: Any, **candidate: Any) -> bytes:
    content = {"content": {"role": "model", "parts": list(parts)}, **candidate}
    return b"data: " + json.dumps({"response": {"candidates": [content]}}).encode() + b"\r\n\r\n"


def refusal(what: str) -> bytes:
    """A recorded refusal as it comes within a stream."""
    return b"data: " + json.dumps(REFUSALS[what]["body"]).encode() + b"\n\n"


def translated(
    *pieces: bytes | NetworkTrouble, ask: Ask | None = None, model: Offer = SONNET
) -> tuple[UpstreamResponse, FakeResponse]:
    response = FakeResponse(200, HEADERS, pieces)
    translate = built(ask or wish(), model).translate
    assert translate is not None
    return translate(response), response


async def bytes_of(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


async def read(*pieces: bytes | NetworkTrouble, stream: bool = True, model: Offer = SONNET) -> Answer | Failure:
    """What the gateway makes of it."""
    ask = replace(wish(stream=stream), id="req_1")
    response, _ = translated(*pieces, ask=ask, model=model)
    return await read_answer(response, ask, PROVIDER, model, NOW)


async def relayed(answer: Answer | Failure) -> tuple[bytes, bool]:
    """All that a client gets, and whether it was cut."""
    assert isinstance(answer, Answer)
    came = b""
    try:
        async for frames in relay(answer):
            came += frames
    except CutShort:
        return came, True
    return came, False


def gathered(stream: bytes) -> Any:
    """What the official SDK makes of a stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for frame in sse.split(stream):
        name, data = sse.parse(frame)
        event = json.loads(data)
        assert event["type"] == name
        snapshot = sdk.accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot.to_dict(mode="json")


async def test_the_sample_stream_is_an_answer_that_the_sdk_understands() -> None:
    answer = await read(CLAUDE_STREAM)
    frames, cut = await relayed(answer)
    message = gathered(frames)
    assert not cut and message["model"] == "sonnet-please"
    assert message["content"][0] == {
        "type": "thinking",
        "thinking": "The user wants the weather.",
        "signature": f"ag1c:{SIGNATURE}",
    }
    assert message["content"][1]["text"] == "Let me check.\n\n4 °C?"
    call = message["content"][2]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "get_weather", {"city": "Oslo"})
    assert message["stop_reason"] == "tool_use"
    assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (200, 1000)
    assert message["usage"]["output_tokens"] == 61
    assert isinstance(answer, Answer) and (answer.usage.input, answer.usage.output) == (200, 61)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_end_is_expected_soon_once_the_answer_has_said_how_it_ends(stream: bool) -> None:
    silence = NetworkTrouble(Trouble.READ_TIMEOUT, sent=True)
    response, upstream = translated(CLAUDE_STREAM, silence, ask=replace(wish(stream=stream), id="req_1"))
    came = await bytes_of(response)
    message = gathered(came) if stream else json.loads(came)
    assert upstream.hurried and message["stop_reason"] == "tool_use" and message["usage"]["output_tokens"] == 61
    response, upstream = translated(chunk({"text": "half of it"}), silence)
    with pytest.raises(NetworkTrouble):
        await bytes_of(response)
    assert not upstream.hurried


@pytest.mark.parametrize(("data", "model"), [(CLAUDE_STREAM, SONNET), (GEMINI_STREAM, GEMINI)])
async def test_a_whole_message_says_what_its_stream_says(data: bytes, model: Offer) -> None:
    frames, _ = await relayed(await read(data, model=model))
    whole = await read(data, stream=False, model=model)
    assert isinstance(whole, Answer)
    message, streamed = json.loads(whole.held), gathered(frames)
    for block in (*message["content"], *streamed["content"]):
        block.pop("caller", None)
    assert message["content"] == streamed["content"] and message["stop_reason"] == streamed["stop_reason"]
    assert message["model"] == "sonnet-please" and message["type"] == "message"
    assert whole.usage.output == streamed["usage"]["output_tokens"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("data", [CLAUDE_STREAM, GEMINI_STREAM, CLAUDE_STREAM[:600], refusal("banned")])
async def test_bytes_do_not_depend_on_where_the_upstreams_were_cut(data: bytes, stream: bool) -> None:
    async def made(*pieces: bytes) -> bytes | Trouble:
        try:
            return await bytes_of(translated(*pieces, ask=wish(stream=stream))[0])
        except NetworkTrouble as trouble:
            return trouble.trouble

    whole = await made(data)
    for cut in range(1, len(data)):
        assert await made(data[:cut], data[cut:]) == whole, f"cut at byte {cut}"


@pytest.mark.parametrize(("stream", "kind"), [(True, "text/event-stream; charset=utf-8"), (False, "application/json")])
def test_headers_pass_but_for_those_that_tell_of_the_form(stream: bool, kind: str) -> None:
    response, _ = translated(CLAUDE_STREAM, ask=wish(stream=stream))
    assert response.status == 200
    assert response.headers == (("content-type", kind), ("x-cloudaicompanion-trace-id", "t1"))


async def test_closing_it_closes_the_upstream() -> None:
    for stream in (True, False):
        response, upstream = translated(CLAUDE_STREAM, ask=wish(stream=stream))
        await response.aclose()
        assert upstream.closed


async def test_ids_differ_between_two_answers_to_the_same_request() -> None:
    translate = built(wish(stream=False)).translate
    assert translate is not None
    answers = [
        json.loads(await bytes_of(translate(FakeResponse(200, (("date", date),), (CLAUDE_STREAM,)))))
        for date in ("one", "other", "other")
    ]
    ids = [(answer["id"], answer["content"][2]["id"]) for answer in answers]
    assert ids[0][0] != ids[1][0] and ids[0][1] != ids[1][1]
    assert ids[1] == ids[2]
    assert ids[0][0].startswith("msg_") and ids[0][1].startswith("toolu_")


CUTS: list[tuple[bytes | NetworkTrouble, ...]] = [
    (chunk({"text": "Well, "}),),
    (chunk({"text": "Well, "}), NetworkTrouble(Trouble.CUT, sent=True)),
    (chunk({"text": "Well, "}), NetworkTrouble(Trouble.READ_TIMEOUT, sent=True)),
    (chunk({"text": "Well, "}), b"data: {not json}\n\n"),
    (chunk({"text": "Well, "}), b"data: [1, 2]\n\n"),
]


@pytest.mark.parametrize("pieces", CUTS)
async def test_a_stream_that_was_cut_looks_cut(pieces: tuple[bytes | NetworkTrouble, ...]) -> None:
    frames, cut = await relayed(await read(*pieces))
    assert cut and b"Well, " in frames
    assert b"message_stop" not in frames and b"event: error" not in frames
    with pytest.raises(NetworkTrouble):
        await read(*pieces, stream=False)


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"<html>sign in</html>",),
        (chunk(),),
        (b"data: 7\n\n",),
        (NetworkTrouble(Trouble.CUT, sent=True),),
        (chunk({"text": "This version of Anti"}),),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_ends_before_its_content_is_no_answer(
    pieces: tuple[bytes | NetworkTrouble, ...], stream: bool
) -> None:
    with pytest.raises(NetworkTrouble):
        await read(*pieces, stream=stream)


async def test_a_cut_behind_the_end_is_of_no_weight() -> None:
    frames, cut = await relayed(await read(CLAUDE_STREAM, NetworkTrouble(Trouble.CUT, sent=True)))
    assert not cut and gathered(frames)["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "what",
    [
        "the week is used up",
        "a short rate limit",
        "no capacity, as 503",
        "banned, with line breaks",
        "a signature, as Claude says it",
        "a 429 without a word, within a list",
    ],
)
async def test_a_refusal_within_a_200_is_read_as_any_other(what: str, stream: bool) -> None:
    expect = REFUSALS[what]["expect"]
    failure = await read(refusal(what), stream=stream)
    assert isinstance(failure, Failure)
    assert (failure.blame, failure.status) == (expect["blame"], expect["status"])
    limit = f"model:{SONNET.model}" if expect["limit"] == "model" else expect["limit"]
    assert (failure.limit.name if failure.limit else None) == limit
    assert failure.unsigned is (what == "a signature, as Claude says it")


async def test_a_refusal_over_several_lines_is_read_too() -> None:
    document = json.dumps(REFUSALS["the week is used up"]["body"], indent=2).encode()
    failure = await read(b"data: " + document.replace(b"\n", b"\ndata: ") + b"\n\n")
    assert isinstance(failure, Failure) and failure.limit is not None and failure.limit.name == "claude-7d"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_version_that_is_refused_is_told_to_the_operator(stream: bool) -> None:
    failure = await read(chunk({"text": NOTICE}, finishReason="STOP"), stream=stream)
    assert isinstance(failure, Failure) and (failure.blame, failure.limit) == (Blame.CONFIG, None)
    assert "client_version" in failure.message


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "data",
    [chunk(finishReason="MALFORMED_FUNCTION_CALL"), chunk(finishReason="STOP"), chunk(finishReason="OTHER")],
)
async def test_an_answer_that_is_none_is_the_upstreams_fault(data: bytes, stream: bool) -> None:
    failure = await read(data, stream=stream)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (Blame.PROVIDER, 502)


async def test_a_refusal_behind_content_is_an_error_as_anthropic_writes_it() -> None:
    frames, cut = await relayed(await read(chunk({"text": "Well, "}), refusal("the week is used up")))
    assert not cut
    name, data = sse.parse(sse.split(frames)[-1])
    event = json.loads(data)
    assert (name, event["type"], event["error"]["type"]) == ("error", "error", "rate_limit_error")
    assert set(event) == {"type", "error"} and set(event["error"]) == {"type", "message"}
    assert event["error"]["message"].startswith("Individual quota reached.")
    assert b"message_stop" not in frames


async def test_what_a_client_is_told_of_an_error_is_enough_to_learn_from() -> None:
    answer = await read(chunk({"text": "Well, "}), refusal("the week is used up"))
    await relayed(answer)
    assert isinstance(answer, Answer) and answer.listener.error is not None
    failure = PROVIDER.read_failure(Refusal(200, (), answer.listener.error), SONNET, NOW)
    assert failure.limit is not None and failure.limit.name == "claude-7d"
    assert failure.retry_at == NOW + 256_527


async def test_claudes_own_error_is_taken_out_of_googles() -> None:
    data = chunk({"text": "Well, "}) + refusal("an overload of Claude's within a 200")
    frames, _ = await relayed(await read(data))
    event = json.loads(sse.parse(sse.split(frames)[-1])[1])
    assert event["error"]["message"] == "Overloaded"
