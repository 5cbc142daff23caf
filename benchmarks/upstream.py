"""The upstream that the benchmarks put behind everything: as little as can answer, so that it is not what is measured.

Which answer comes is in the model's name. A server of bytes: it finds the end of a head, counts the body, and writes
an answer that was made beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import cast

BURST_EVENTS = 200
BURSTS = 50
MODELS = ("bench-message", "bench-burst", "bench-bursts", "bench-paced", "bench-slow", "bench-toggle")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 %d Said\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def document(body: object, status: int = 200) -> bytes:
    data = json.dumps(body).encode()
    return JSON_HEAD % (status, len(data)) + data


def message(model: str, content: list[dict[str, str]], stop: str | None) -> dict[str, object]:
    usage = {"input_tokens": 20_000, "cache_read_input_tokens": 18_000, "output_tokens": 1}
    return {
        "id": "msg_benchmark",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def opening(model: str) -> bytes:
    return chunk(event("message_start", message=message(model, [], None))) + chunk(
        event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    )


def delta(text: str) -> bytes:
    return chunk(event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}))


CLOSING = (
    chunk(event("content_block_stop", index=0))
    + chunk(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 400}))
    + chunk(event("message_stop"))
    + b"0\r\n\r\n"
)
MESSAGE = document(message("bench-message", [{"type": "text", "text": "word " * 350}], "end_turn"))
EVENTS = [delta("some words of an answer")] * BURST_EVENTS
LISTED = document({"data": [{"id": name, "type": "model"} for name in MODELS], "has_more": False})
OVERLOADED = document({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)


def part(text: str, **more: object) -> bytes:
    """An event of Gemini's wire, as Google's Cloud Code API wraps it."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, **more}
    usage = {"promptTokenCount": 20_000, "candidatesTokenCount": 400, "totalTokenCount": 20_400}
    said = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "bench", "responseId": "benchmark"}
    return chunk(f"data: {json.dumps({'response': said})}\r\n\r\n".encode())


LAST_PART = part("", finishReason="STOP") + b"0\r\n\r\n"
PARTS = [part("some words of an answer")] * BURST_EVENTS
WHOLE_ANSWER = STREAM_HEAD + part("word " * 350) + LAST_PART
TRANSLATED = {"gemini-3-flash": "short", "gemini-3.1-pro-high": "burst"}
"""Models of Gemini's wire, each served under a path of its own: that tells what is to be answered."""

GOOGLE_SAYS = document(
    {"models": {name: {"displayName": name, "quotaInfo": {"remainingFraction": 1.0}} for name in TRANSLATED}}
)


class Upstream(asyncio.Protocol):
    """One connection. pace: seconds between two events of a paced stream; events: how many it has."""

    failed = True

    def __init__(self, pace: float, events: int, slow_pace: float, slow_events: int) -> None:
        self._paced = {b"bench-paced": (pace, events), b"bench-slow": (slow_pace, slow_events)}
        self._data = b""
        self._missing = 0
        self._head = b""
        self._answer: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._missing:
                data = self._data + data
                end = data.find(b"\r\n\r\n") + 4
                if end == 3:
                    self._data = data
                    return
                self._data, head = b"", data[:end].lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 : head.index(b"\r", at)]) if at >= 0 else 0
                if length and len(data) < end + min(length, 60):  # the model's name has to be in it
                    self._data = data
                    return
                self._answer = partial(self._say, head[: head.find(b"\r")], data[end : end + 60])
                self._missing = length
                data = data[end:]
                if not length:
                    self._answer()
                    continue
            taken = min(self._missing, len(data))
            self._missing -= taken
            data = data[taken:] if taken < len(data) else b""
            if not self._missing:
                self._answer()

    def _say(self, line: bytes, start: bytes) -> None:
        """Answer a request, by its first line and how its body starts."""
        if line.startswith(b"get "):
            self._transport.write(LISTED)
        elif b"/v1internal:" in line:
            self._translated(line)
        elif b"bench-message" in start:
            self._transport.write(MESSAGE)
        elif b"bench-bursts" in start:
            self._transport.write(STREAM_HEAD + opening("bench-bursts"))
            self._timer = asyncio.get_running_loop().call_later(0.001, self._bursts, BURSTS)
        elif b"bench-burst" in start:
            self._burst([STREAM_HEAD + opening("bench-burst"), *EVENTS, CLOSING])
        elif b"bench-toggle" in start:
            Upstream.failed = not Upstream.failed
            self._transport.write(OVERLOADED if Upstream.failed else MESSAGE)
        else:
            name = b"bench-slow" if b"bench-slow" in start else b"bench-paced"
            pace, events = self._paced[name]
            self._transport.write(STREAM_HEAD + opening(name.decode()))
            self._beat(pace, events, asyncio.get_running_loop().time() + pace)

    def _translated(self, line: bytes) -> None:
        if b":streamgeneratecontent" not in line:
            self._transport.write(GOOGLE_SAYS)
        elif line.startswith(b"post /burst/"):
            self._burst([STREAM_HEAD, *PARTS, LAST_PART])
        else:
            self._transport.write(WHOLE_ANSWER)

    def _burst(self, pieces: list[bytes]) -> None:
        """Every event in a packet of its own, as a server sends them that flushes each."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        for number, piece in enumerate(pieces):
            try:
                sent = 0 if self._transport.get_write_buffer_size() else os.write(descriptor, piece)
            except OSError:
                sent = 0
            if sent < len(piece):
                self._transport.write(piece[sent:] + b"".join(pieces[number + 1 :]))
                return

    def _bursts(self, left: int) -> None:
        """Burst after burst, each when the one before has left."""
        loop = asyncio.get_running_loop()
        if self._transport.get_write_buffer_size():
            self._timer = loop.call_later(0.001, self._bursts, left)
        elif left:
            self._burst(EVENTS)
            self._timer = loop.call_later(0, self._bursts, left - 1)
        else:
            self._transport.write(CLOSING)

    def _beat(self, pace: float, left: int, due: float) -> None:
        if not left:
            self._transport.write(CLOSING)
            return
        self._transport.write(delta(f"{time.monotonic_ns()};"))
        self._timer = asyncio.get_running_loop().call_at(due, self._beat, pace, left - 1, due + pace)


async def serve(port: int, pace: float, events: int, slow_pace: float, slow_events: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(pace, events, slow_pace, slow_events), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until told to stop."""
    reading = argparse.ArgumentParser()
    reading.add_argument("port", type=int)
    reading.add_argument("--pace", type=float, default=0.02)
    reading.add_argument("--events", type=int, default=100)
    reading.add_argument("--slow-pace", type=float, default=1.0)
    reading.add_argument("--slow-events", type=int, default=8)
    said = reading.parse_args()
    import uvloop

    uvloop.run(serve(said.port, said.pace, said.events, said.slow_pace, said.slow_events))


if __name__ == "__main__":
    main()
