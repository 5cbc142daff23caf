"""Google's answer as Anthropic would have given it, streamed or whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from mcp_proxy.core.events import AnswerUsage, Error, Event, MessageDelta
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import Headers, NetworkTrouble, Trouble, UpstreamResponse
from mcp_proxy.dialects.fold import Fold, to_json, to_sse
from mcp_proxy.dialects.gemini.decode import GeminiDecoder
from mcp_proxy.dialects.gemini.ending import cut_short
from mcp_proxy.dialects.sse import frame
from mcp_proxy.providers.antigravity.told import read

_OURS = frozenset({"content-type", "content-length"})


class Translated:
    """A response in another form: under its own status and headers, but for those that tell of the form."""

    __slots__ = ("_decoder", "_response", "headers", "status")

    def __init__(self, response: UpstreamResponse, decoder: GeminiDecoder, content_type: str) -> None:
        self._response, self._decoder = response, decoder
        kept = tuple(pair for pair in response.headers if pair[0] not in _OURS)
        self.status = response.status
        self.headers: Headers = (("content-type", content_type), *kept)

    async def _events(self) -> AsyncIterator[list[Event]]:
        """The events as they come, never none, until the answer ends or breaks off. Raises `NetworkTrouble`."""
        decoder = self._decoder
        try:
            async for chunk in self._response.chunks():
                if events := decoder.feed(chunk):
                    yield events
                if decoder.failure is not None:
                    return
                if decoder.finished:
                    self.expect_end()
        except NetworkTrouble:
            if not decoder.finished:  # then what is still to come is of no weight
                raise
        if events := decoder.end():
            yield events

    def _failure(self) -> Failure | None:
        """Why there is no answer, or no more of it. One that was cut has to look cut: raises `NetworkTrouble`."""
        failure = self._decoder.failure
        if failure is not None and failure.blame is Blame.NETWORK:
            raise NetworkTrouble(Trouble.CUT if failure == cut_short() else Trouble.BAD_ANSWER, sent=True)
        return failure

    def expect_end(self) -> None:
        """As the upstream's own."""
        self._response.expect_end()

    async def aclose(self) -> None:
        """As the upstream's own."""
        await self._response.aclose()


class Stream(Translated):
    """An answer in events."""

    __slots__ = ()

    def __init__(self, response: UpstreamResponse, decoder: GeminiDecoder) -> None:
        super().__init__(response, decoder, "text/event-stream; charset=utf-8")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The events as Anthropic writes them."""
        begun = False
        async for events in self._events():
            told = [event for event in events if not isinstance(event, Error)]
            begun = begun or bool(told)
            if told:
                yield to_sse(told)
            if (failure := self._failure()) is not None:
                yield frame("error", to_json(shown(failure)) if begun else document(failure))


class Message(Translated):
    """An answer in one piece."""

    __slots__ = ()

    def __init__(self, response: UpstreamResponse, decoder: GeminiDecoder) -> None:
        super().__init__(response, decoder, "application/json")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The message, or why there is none."""
        whole = Fold()
        async for events in self._events():
            for event in events:
                whole.add(event)
        failure = self._failure()
        message = whole.message() if failure is None else document(failure)
        if message is None:
            raise NetworkTrouble(Trouble.BAD_ANSWER, sent=True)
        yield message


class Pictures(Translated):
    """A message of nothing but pictures, in one piece."""

    __slots__ = ("_head",)

    def __init__(self, response: UpstreamResponse, decoder: GeminiDecoder, head: dict[str, Any]) -> None:
        super().__init__(response, decoder, "application/json")
        self._head = head

    async def chunks(self) -> AsyncIterator[bytes]:
        """The message, or why there is none."""
        end: MessageDelta | None = None
        async for events in self._events():
            end = next((event for event in events if isinstance(event, MessageDelta)), end)
        made = [
            {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}
            for image in self._decoder.images
        ]
        if not made:
            yield self._none(end)
            return
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        yield to_json({**self._head, "content": made, **stop, "usage": end.usage if end else AnswerUsage()})

    def _none(self, end: MessageDelta | None) -> bytes:
        """Why there is no picture. One that the model refuses to make, it refuses to everybody."""
        if (failure := self._failure()) is not None:
            return document(failure)
        if end is not None and end.delta.stop_reason == "refusal":
            return to_json(error("invalid_request_error", "the model refuses to make this picture", code=400))
        return to_json(error("api_error", "the model made no picture", code=502))


def document(failure: Failure) -> bytes:
    """Why there is no answer, for our own reader: as the upstream wrote it, in one line, where it wrote anything."""
    if failure.body is not None:
        return failure.body.translate(None, b"\r\n")  # they stand between a document's values only
    return to_json(error(failure.type, failure.message, code=failure.status))


def shown(failure: Failure) -> dict[str, Any]:
    """Why an answer breaks off, for the client."""
    said = failure.message if failure.body is None else read(failure.status, failure.body).message
    return error(failure.type, said)


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """An error as Anthropic writes it."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}}
