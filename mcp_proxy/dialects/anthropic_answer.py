"""An upstream's answer in Anthropic's own form: listened to and relayed, never taken apart.

Wire: docs.anthropic.com/en/api/messages-streaming, and tests/fixtures/claude-code/responses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mcp_proxy.core.messages import Span
from mcp_proxy.core.usage import Usage
from mcp_proxy.dialects import sse
from mcp_proxy.dialects.anthropic_ask import splice
from mcp_proxy.dialects.json_text import BadJson, loads, members, quoted

_MOST_TOKENS = 2**53
"""A count above what every JSON reader can hold is no count."""

_DELTAS = re.compile(rb"(?:event: ?content_block_delta\ndata: ?[^\n]*\n\n)+")


@dataclass(slots=True)
class Listener:
    """What a relayed stream says, learnt in passing.

    usage        the largest numbers seen in `message_start` and `message_delta`
    started      `message_start` seen
    content      the answer exists: a `content_block_start`, or a `message_delta` with a stop reason
    block_done   a `content_block_stop` seen: the client may have acted on it
    stop_reason  None until told, and where the upstream tells none
    done         `message_stop` seen
    error        the data of an `error` event; None where there was none
    model        as the upstream wrote it in `message_start`
    noise        there was a frame that is none (`sse.is_noise`)
    """

    usage: Usage = field(default_factory=Usage)
    started: bool = False
    content: bool = False
    block_done: bool = False
    stop_reason: str | None = None
    done: bool = False
    error: bytes | None = None
    model: str | None = None
    noise: bool = False

    @property
    def over(self) -> bool:
        """Whether its last event was heard, good or bad."""
        return self.done or self.error is not None

    def feed(self, frames: bytes) -> None:
        """Listen to complete frames, as `Frames.feed` returns them. Never raises."""
        if b"\r" in frames:
            for frame in sse.split(frames):
                self._hear(frame)
            return
        position, size = 0, len(frames)
        while position < size:
            deltas = _DELTAS.match(frames, position)
            if deltas is not None:
                position = deltas.end()
                continue
            end = frames.find(b"\n\n", position) + 2
            if end == 1:
                end = size
            self._hear(frames[position:end])
            position = end

    def _hear(self, frame: bytes) -> None:
        event, data = sse.parse(frame)
        match event:
            case "content_block_delta" | "ping":
                pass
            case None:
                self.noise = self.noise or sse.is_noise(frame)
            case "message_start":
                self._start(data)
            case "content_block_start":
                self.content = self.content or isinstance(loads(data), dict)
            case "content_block_stop":
                self.block_done = True
            case "message_delta":
                self._delta(data)
            case "message_stop":
                self.done = True
            case "error":
                self.error = data if self.error is None else self.error

    def _start(self, data: bytes) -> None:
        message = _member(loads(data), "message")
        if not isinstance(message, dict):
            return
        self.started = True
        self.model = _string(message.get("model"))
        self.usage = larger(self.usage, message.get("usage"))

    def _delta(self, data: bytes) -> None:
        event = loads(data)
        if reason := _string(_member(_member(event, "delta"), "stop_reason")):
            self.stop_reason = reason
            self.content = True
        self.usage = larger(self.usage, _member(event, "usage"))


@dataclass(frozen=True, slots=True)
class Message:
    """What is read of an answer that was not streamed."""

    usage: Usage
    stop_reason: str | None
    id: str | None
    model: str | None


def read_message(body: bytes) -> Message | None:
    """The answer, or None where the body is no message: a 200 alone is no proof of one. Never raises."""
    parts = _parts(body)
    if parts is None or loads(parts.type) != "message" or bytes(parts.content)[:1] != b"[":
        return None
    return Message(
        usage=larger(Usage(), loads(parts.usage)),
        stop_reason=_string(loads(parts.stop_reason)),
        id=_string(loads(parts.id)),
        model=_string(loads(parts.model)),
    )


_NOTHING = msgspec.Raw(b"")


class _Parts(msgspec.Struct):
    """The members of an answer that are looked at, as they were written."""

    type: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    stop_reason: msgspec.Raw = _NOTHING
    id: msgspec.Raw = _NOTHING
    model: msgspec.Raw = _NOTHING


_PARTS = msgspec.json.Decoder(_Parts)


def _parts(body: bytes) -> _Parts | None:
    """None where the body is no JSON object."""
    try:
        if body.isascii():
            return _PARTS.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        # what msgspec does not look at, or refuses though it is JSON
        found = {part.key: msgspec.Raw(body[slice(*part.value)]) for part in members(body)}
    except BadJson:
        return None
    return _Parts(**{name: found[name] for name in _Parts.__struct_fields__ if name in found})


def rename_message(body: bytes, asked: str) -> bytes:
    """A message that was not streamed, under the model name the client asked for; all else as it came."""
    try:
        spans = [part.value for part in members(body) if part.key == "model"]
    except BadJson:
        return body
    named = spans and body[spans[-1].start : spans[-1].start + 1] == b'"'
    return splice(body, spans[-1], asked) if named else body


def rename(frame: bytes, asked: str) -> bytes:
    """A `message_start` frame under the model name the client asked for; all else, and other frames, as they came."""
    event, data = sse.parse(frame)
    if event != "message_start":
        return frame
    span = _model_span(data)
    if span is None or loads(data[slice(*span)]) == asked:
        return frame
    offset = 0
    for start, end in sse.data_lines(frame):
        if offset <= span.start and span.end <= offset + end - start:
            at = start - offset
            return frame[: at + span.start] + quoted(asked) + frame[at + span.end :]
        offset += end - start + 1
    return frame


def _model_span(data: bytes) -> Span | None:
    """Where `message.model` stands in a `message_start` event; None where there is no such string."""
    try:
        outer = [part.value for part in members(data) if part.key == "message"]
        start, end = outer[-1]
        inner = [part.value for part in members(data[start:end]) if part.key == "model"]
    except (BadJson, IndexError):
        return None
    if not inner or data[start + inner[-1].start : start + inner[-1].start + 1] != b'"':
        return None
    return Span(start + inner[-1].start, start + inner[-1].end)


def larger(usage: Usage, told: Any) -> Usage:
    """`usage` raised to the counts in an answer's `usage`, as far as they are counts."""
    if not isinstance(told, dict):
        return usage
    thought = _member(told.get("output_tokens_details"), "thinking_tokens")
    return Usage(
        input=max(usage.input, _count(told.get("input_tokens"))),
        cache_read=max(usage.cache_read, _count(told.get("cache_read_input_tokens"))),
        cache_write=max(usage.cache_write, _count(told.get("cache_creation_input_tokens"))),
        output=max(usage.output, _count(told.get("output_tokens"))),
        reasoning=usage.reasoning if thought is None else max(usage.reasoning or 0, _count(thought)),
    )


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return 0
    return int(value)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def ping_frame() -> bytes:
    """A ping, as Anthropic writes it."""
    return sse.frame("ping", b'{"type": "ping"}')


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """An error document of our own, in Anthropic's shape."""
    parts = (quoted(kind), quoted(message), quoted(request_id))
    return b'{"type":"error","error":{"type":%b,"message":%b},"request_id":%b}' % parts


def error_frame(kind: str, message: str, request_id: str) -> bytes:
    """The same as an event, for a stream whose status line is gone."""
    return sse.frame("error", error_body(kind, message, request_id))
