"""What counts as an answer: read until its first content, whatever the pieces are."""

from __future__ import annotations

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import NetworkTrouble, Trouble
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Offer
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.gateway import answer as room
from mcp_proxy.gateway.answer import Answer, CutShort, read_answer, relay
from mcp_proxy.providers import all_providers
from tests.fakes import FakeResponse
from tests.mcp_proxy.routing.seats import NOW

PROVIDER = all_providers()["anthropic"]  # type: ignore[index]
OFFER = Offer(ModelId("m"))
START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":3}}}\n\n'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
EMPTY = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
EVENTS = (("content-type", "text/event-stream"),)


async def read(*pieces: bytes | NetworkTrouble) -> tuple[Answer | Failure, FakeResponse]:
    ask = read_ask(Endpoint.MESSAGES, b'{"model":"m","stream":true}', ())
    assert isinstance(ask, Ask)
    response = FakeResponse(200, EVENTS, pieces)
    return await read_answer(response, ask, PROVIDER, OFFER, NOW), response


async def told(answer: Answer) -> tuple[bytes, bool | None]:
    """All that is relayed, and of a cut whether the client may have acted."""
    came = b""
    try:
        async for frames in relay(answer):
            came += frames
    except CutShort as cut:
        return came, cut.told
    return came, None


async def test_all_that_came_before_the_first_content_is_held_and_sent_on() -> None:
    answer, response = await read(START[:40], START[40:] + PING, PING, BLOCK + STOP[:10], STOP[10:], EMPTY + END)
    assert isinstance(answer, Answer) and not response.closed
    assert answer.held == START + PING + PING + BLOCK
    assert await told(answer) == (START + PING + PING + BLOCK + STOP + EMPTY + END, None)


async def test_an_answer_without_content_is_one_once_it_has_a_reason_to_stop() -> None:
    answer, _ = await read(START, EMPTY + END)
    assert isinstance(answer, Answer)
    assert await told(answer) == (START + EMPTY + END, None)


async def test_an_error_behind_content_belongs_to_the_answer() -> None:
    answer, _ = await read(START + BLOCK + ERROR)
    assert isinstance(answer, Answer)
    assert await told(answer) == (START + BLOCK + ERROR, None)


NOISE = b"\x00\xff\xfe\n\n"


@pytest.mark.parametrize("at", range(6))
async def test_what_is_no_event_at_all_is_not_sent_on(at: int) -> None:
    frames = [START, BLOCK, STOP, EMPTY, END]
    answer, _ = await read(*frames[:at], NOISE, *frames[at:])
    whole, _ = await read(b"".join((*frames[:at], NOISE, *frames[at:])))
    assert isinstance(answer, Answer) and isinstance(whole, Answer)
    assert await told(answer) == await told(whole) == (b"".join(frames), None)


async def test_an_error_before_content_is_a_refusal_and_closes_the_response() -> None:
    failure, response = await read(START, PING + ERROR)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (Blame.PROVIDER, 529)
    assert response.closed


async def test_content_without_a_beginning_is_no_answer() -> None:
    failure, _ = await read(BLOCK, STOP, END)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (Blame.NETWORK, 502)


@pytest.mark.parametrize("pieces", [(START,), (START, PING), (START, NetworkTrouble(Trouble.CUT, sent=True))])
async def test_what_ends_before_content_is_cut(pieces: tuple[bytes | NetworkTrouble, ...]) -> None:
    with pytest.raises(NetworkTrouble) as trouble:
        await read(*pieces)
    assert trouble.value.trouble is Trouble.CUT


async def test_what_never_comes_to_content_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_HELD_BYTES", 10 * len(PING))
    with pytest.raises(NetworkTrouble) as trouble:
        await read(START, *[PING] * 100)
    assert trouble.value.trouble is Trouble.TOO_LARGE


@pytest.mark.parametrize(
    ("rest", "acted"),
    [((), False), ((STOP,), True), ((STOP, BLOCK), True), ((NetworkTrouble(Trouble.CUT, sent=True),), False)],
)
async def test_a_cut_tells_whether_the_client_may_have_acted(
    rest: tuple[bytes | NetworkTrouble, ...], acted: bool
) -> None:
    answer, _ = await read(START + BLOCK, *rest, BLOCK[:20])
    assert isinstance(answer, Answer)
    whole = b"".join(piece for piece in rest if isinstance(piece, bytes))
    assert await told(answer) == (START + BLOCK + whole, acted), "and what is not a whole frame is not sent"


async def test_trouble_after_the_end_is_none() -> None:
    answer, _ = await read(START + BLOCK, STOP + EMPTY + END, NetworkTrouble(Trouble.CUT, sent=True))
    assert isinstance(answer, Answer)
    assert await told(answer) == (START + BLOCK + STOP + EMPTY + END, None)


async def test_a_refusal_whose_document_does_not_come_is_read_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio
    from collections.abc import AsyncIterator

    class Stalling(FakeResponse):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield b'{"type":"err'
            await asyncio.Event().wait()

    monkeypatch.setattr(room, "REFUSAL_SECONDS", 0.01)
    ask = read_ask(Endpoint.MESSAGES, b'{"model":"m"}', ())
    assert isinstance(ask, Ask)
    response = Stalling(529)
    failure = await read_answer(response, ask, PROVIDER, OFFER, NOW)
    assert isinstance(failure, Failure) and failure.status == 529 and response.closed
