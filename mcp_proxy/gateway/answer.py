"""From an upstream's response to an answer: held until its first content is in hand, then relayed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from mcp_proxy.core.failure import Blame, Failure, Refusal, error_type
from mcp_proxy.core.http import Headers, NetworkTrouble, Trouble, UpstreamResponse, header, read_all
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Offer, Provider
from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects.anthropic_answer import Listener, read_message, rename, rename_message
from mcp_proxy.dialects.native import returning_headers
from mcp_proxy.dialects.sse import Frames, FrameTooLarge, split, without_noise

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
REFUSAL_SECONDS = 5.0
MAX_HELD_BYTES = 4 * 1024 * 1024
"""What may come before the first content: `message_start` and pings."""

FRAME_SECONDS = 300.0
"""How long a frame may be on its way. A read timeout is none for an upstream that drips: each byte begins it anew."""

END_SECONDS = 5.0
"""How long the end of the body may take behind `message_stop`, or an `error` event."""

STREAM_SECONDS = 2 * 3600.0
"""How long an answer may run: the longest we know, 128k tokens, at 20 a second."""


@dataclass(slots=True)
class Answer:
    """An open upstream response whose first content has been read. Whoever holds it closes `response`.

    held      a whole message, or the frames up to the first content, under the name the client asked for
    frames    cuts the rest; None for a message that is not streamed
    listener  what the stream has said so far
    """

    response: UpstreamResponse
    headers: Headers
    held: bytes
    frames: Frames | None = None
    rest: AsyncIterator[bytes] | None = None
    listener: Listener = field(default_factory=Listener)

    @property
    def usage(self) -> Usage:
        return self.listener.usage


class CutShort(Exception):
    """A stream ended before its end. `told` is whether the client may already have acted on a whole block."""

    def __init__(self, told: bool) -> None:
        super().__init__("the upstream's answer was cut short")
        self.told = told


async def read_answer(
    response: UpstreamResponse, ask: Ask, provider: Provider, offer: Offer, now: Instant
) -> Answer | Failure:
    """Read until the answer exists, or say why there is none.

    Closes the response unless an `Answer` comes back. Raises `NetworkTrouble`.
    """
    answer: Answer | Failure | None = None
    try:
        if response.status != 200:
            answer = await _refused(response, provider, offer, now)
        elif coding := _coded(response):
            answer = network_failure(NetworkTrouble(Trouble.BAD_ANSWER, sent=True), coding)
        elif ask.stream:
            answer = await _first_content(response, ask, provider, offer, now)
        else:
            answer = await _whole_message(response, ask, provider, offer, now)
    except FrameTooLarge:
        raise NetworkTrouble(Trouble.TOO_LARGE, sent=True) from None
    finally:
        if not isinstance(answer, Answer):
            await response.aclose()
    return answer


def _coded(response: UpstreamResponse) -> str:
    """Why the body cannot be read, where it is not as it is; else empty. We ask for `identity` and decode nothing.

    So a small body can never become a large one here, and what is cut within a coding is no short success.
    """
    for name, plain in (("content-encoding", "identity"), ("transfer-encoding", "chunked")):
        if (header(response.headers, name) or plain).strip().lower() != plain:
            return "in a coding that was not asked for"
    return ""


async def _refused(response: UpstreamResponse, provider: Provider, offer: Offer, now: Instant) -> Failure:
    body = bytearray()
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            async for chunk in response.chunks():
                body += chunk
                if len(body) > MAX_REFUSAL_BYTES:
                    break
    except (NetworkTrouble, TimeoutError):
        pass  # the status alone says most of it
    if response.status < 400:
        return network_failure(NetworkTrouble(Trouble.BAD_ANSWER, sent=True), f"status {response.status}")
    return _failure(provider, response, response.status, bytes(body[:MAX_REFUSAL_BYTES]), offer, now)


def _failure(
    provider: Provider, response: UpstreamResponse, status: int, body: bytes, offer: Offer, now: Instant
) -> Failure:
    """A refusal as the provider reads it, with those of its headers that go back from this provider alone."""
    failure = provider.read_failure(Refusal(status, response.headers, body), offer, now)
    told = tuple(pair for pair in response.headers if pair[0].startswith(provider.passes_back))
    return replace(failure, headers=(*failure.headers, *told)) if told else failure


async def _whole_message(
    response: UpstreamResponse, ask: Ask, provider: Provider, offer: Offer, now: Instant
) -> Answer | Failure:
    body = await read_all(response, MAX_MESSAGE_BYTES)
    message = read_message(body)
    if message is None:
        return _no_answer(response, body, provider, offer, now)
    heard = Listener(usage=message.usage, content=True, done=True, stop_reason=message.stop_reason)
    held = body if message.model == ask.model else rename_message(body, ask.model)
    return Answer(response, returning_headers(response.headers, provider.passes_back), held, listener=heard)


async def _first_content(
    response: UpstreamResponse, ask: Ask, provider: Provider, offer: Offer, now: Instant
) -> Answer | Failure:
    frames, heard = Frames(), Listener()
    held = bytearray()
    rest = response.chunks()
    async for chunk in rest:
        whole = frames.feed(chunk)
        heard.feed(whole)
        held += whole
        if heard.error is not None and not heard.content:
            return _failure(provider, response, 200, heard.error, offer, now)
        if heard.content and heard.started:
            first = _sound(heard, bytes(held))
            if heard.model != ask.model:
                first = _renamed(first, ask.model)
            back = returning_headers(response.headers, provider.passes_back)
            return Answer(response, back, first, frames, rest, heard)
        if len(held) > MAX_HELD_BYTES:
            raise NetworkTrouble(Trouble.TOO_LARGE, sent=True)
    if heard.started:
        raise NetworkTrouble(Trouble.CUT, sent=True)
    return _no_answer(response, bytes(held) + frames.tail, provider, offer, now)


def _renamed(frames: bytes, asked: str) -> bytes:
    return b"".join(rename(frame, asked) for frame in split(frames))


def _no_answer(response: UpstreamResponse, body: bytes, provider: Provider, offer: Offer, now: Instant) -> Failure:
    """A 200 that is none: an error document, a login page, nothing at all."""
    if not body.lstrip().startswith(b"{") or read_message(body) is not None:
        return network_failure(NetworkTrouble(Trouble.BAD_ANSWER, sent=True), "status 200, but no message")
    return _failure(provider, response, 200, body[:MAX_REFUSAL_BYTES], offer, now)


def network_failure(trouble: NetworkTrouble, detail: str = "") -> Failure:
    """What no answer at all is to the client."""
    if trouble.trouble is Trouble.NO_FILES:
        retry = (("retry-after", "1"),)
        return Failure(Blame.NETWORK, 529, error_type(529), f"The proxy is overloaded: {trouble}", headers=retry)
    status = 504 if trouble.trouble in (Trouble.READ_TIMEOUT, Trouble.CONNECT_TIMEOUT) else 502
    message = f"upstream: {trouble}" + (f" ({detail})" if detail else "")
    return Failure(Blame.NETWORK, status, error_type(status), message, reached=trouble.sent)


async def relay(answer: Answer) -> AsyncIterator[bytes]:
    """The answer's frames as they come, whole ones only, so that a ping or an error fits between any two.

    Raises `CutShort` where the upstream ends before its end; what was whole until then has been given.
    """
    heard = answer.listener
    yield answer.held
    answer.held = b""
    if answer.frames is None or answer.rest is None:
        return
    loop = asyncio.get_running_loop()
    begun = last = loop.time()
    try:
        while not heard.over and loop.time() <= min(last + FRAME_SECONDS, begun + STREAM_SECONDS):
            chunk = await anext(answer.rest, None)
            if whole := answer.frames.end() if chunk is None else answer.frames.feed(chunk):
                heard.feed(whole)
                yield _sound(heard, whole)
                last = loop.time()
            if chunk is None:
                break
        if heard.over and (whole := await _behind_the_end(answer.frames, answer.rest)):
            heard.feed(whole)
            yield _sound(heard, whole)
    except (NetworkTrouble, FrameTooLarge):
        pass  # what was heard until then tells whether it matters
    if not heard.over:
        raise CutShort(told=heard.block_done)


def _sound(heard: Listener, frames: bytes) -> bytes:
    """The frames that were just heard, without what is none."""
    if not heard.noise:
        return frames
    heard.noise = False
    return without_noise(frames)


async def _behind_the_end(frames: Frames, rest: AsyncIterator[bytes]) -> bytes:
    """The frames behind the last event: there should be none but the end, and nobody waits for it for long."""
    found = bytearray()
    with contextlib.suppress(NetworkTrouble, FrameTooLarge, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while len(found) < MAX_HELD_BYTES and (chunk := await anext(rest, None)) is not None:
                found += frames.feed(chunk)
    return bytes(found)
