"""What a sound Anthropic upstream says, as bytes that a fault can be made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def event(kind: str, **fields: Any) -> bytes:
    """One frame of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def chunk(data: bytes) -> bytes:
    """In the framing of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def message(text: str = "hello", model: str = "claude-sonnet-5", stop: str | None = "end_turn") -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


START = event("message_start", message=message("", stop=None))
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
BLOCK_END = event("content_block_stop", index=0)
STOP = event(
    "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 5}
) + event("message_stop")


def delta(text: str) -> bytes:
    """A bit of text."""
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def stream(texts: Iterable[str] = ("hel", "lo")) -> list[bytes]:
    """The frames of a whole answer, one delta for each text."""
    return [START, BLOCK, *map(delta, texts), BLOCK_END, STOP]


def answer(body: bytes | dict[str, Any], kind: str = "application/json", *fields: str, status: int = 200) -> bytes:
    """A whole HTTP answer of declared length. fields: further lines of its head."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(data)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def streamed(texts: Iterable[str] = ("hel", "lo")) -> bytes:
    """A whole HTTP answer that streams."""
    return EVENT_STREAM + b"".join(map(chunk, stream(texts))) + LAST_CHUNK


def refusal(status: int, kind: str, text: str = "no", *fields: str) -> bytes:
    """A whole HTTP answer that is an error in Anthropic's shape."""
    return answer(
        {"type": "error", "error": {"type": kind, "message": text}}, "application/json", *fields, status=status
    )
