"""Faults in an answer that arrives: wrong lengths, wrong coding, the wrong kind, less than it should be."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.faults import Fault, Scene, reply_with, typed
from mcp_proxy.sandbox.replies import JSON, SSE, Cut, Reply, Step, body_steps, chunk, ending, head, head_bytes


def wrong_length(by: int) -> Fault:
    """A content-length that is `by` too large (the end comes early) or too small (there is too much)."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head_bytes(reply.status, (*reply.headers, ("content-length", str(max(0, len(reply.body) + by)))))
        yield reply.body
        yield Cut()

    return Fault(f"content-length off by {by}", steps)


def two_lengths() -> Fault:
    """Content-length and chunked together, which do not agree."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = replace(scene.reply, chunked=True)
        yield head(reply.having(("content-length", "7")))
        yield from body_steps(reply)
        yield ending(reply)

    return Fault("two lengths", steps)


def until_close() -> Fault:
    """Neither length nor chunks: the body ends where the connection does."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head_bytes(reply.status, (*reply.headers, ("connection", "close")))
        yield reply.body
        yield Cut()

    return Fault("until close", steps)


def truncated_json(keep: float = 0.5) -> Fault:
    """The first part of the body under a length that fits it: HTTP is content, JSON is not."""

    def shortened(reply: Reply) -> Reply:
        whole = reply.body
        return replace(reply, parts=(whole[: int(len(whole) * keep)],), chunked=False)

    return reply_with("truncated json", shortened)


def json_for_stream() -> Fault:
    """One message where a stream was asked for; a request without `stream` is answered as it should be."""
    return reply_with(
        "json for stream",
        lambda reply: replace(reply, headers=typed(reply, JSON), parts=(folded(reply),), chunked=False),
    )


def stream_for_json() -> Fault:
    """The content-type of a stream, whatever comes."""
    return reply_with("stream for json", lambda reply: replace(reply, headers=typed(reply, SSE)))


def gzipped(*, keep: float = 1.0, declared: bool = True) -> Fault:
    """A gzip'd body although identity was asked for.

    keep      the part of the coded body that comes, the framing content with it
    declared  whether `content-encoding` says so
    """

    def coded(reply: Reply) -> Reply:
        packed = squeeze([reply.body])
        body = packed[: int(len(packed) * keep)]
        plain = replace(reply, parts=(body,), chunked=False)
        return plain.having(("content-encoding", "gzip")) if declared else plain

    return reply_with("gzipped", coded)


def not_gzipped() -> Fault:
    """A plain body that says it is gzip'd."""
    return reply_with("not gzipped", lambda reply: reply.having(("content-encoding", "gzip")))


def gzip_bomb(size: int = 200 << 20) -> Fault:
    """A small body that decodes to `size` bytes of blanks."""

    def steps(scene: Scene) -> Iterator[Step]:
        packed = squeeze([b" " * (1 << 20)] * max(1, size >> 20))
        headers = (("content-type", JSON), ("content-encoding", "gzip"))
        yield head(Reply(200, headers, (packed,)))
        yield packed

    return Fault("gzip bomb", steps)


def flood(size: int = 200 << 20) -> Fault:
    """A stream that begins honestly and then sends `size` bytes of text deltas as fast as they are read."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        yield head(reply)
        delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        delta += b'{"type":"text_delta","text":"' + b"a" * 65_000 + b'"}}\n\n'
        opening = tuple(part for part in reply.parts if b"_delta" not in part and b"_stop" not in part)
        yield from body_steps(reply, opening[:2])
        for _ in range(max(1, size // len(delta))):
            yield chunk(delta)
        yield from body_steps(reply, reply.parts[-3:])
        yield ending(reply)

    return Fault("flood", steps)


def setting(*fields: tuple[str, str]) -> Fault:
    """An honest answer with headers more."""
    return reply_with("with " + ", ".join(name for name, _ in fields), lambda reply: reply.having(*fields))


def set_cookie(value: str = "sandbox=1; Path=/; HttpOnly") -> Fault:
    """An honest answer that sets a cookie; nobody should keep it."""
    return setting(("set-cookie", value))


def no_content_type() -> Fault:
    """An honest body of no declared kind."""
    return reply_with(
        "no content-type",
        lambda reply: replace(reply, headers=tuple(field for field in reply.headers if field[0] != "content-type")),
    )


def squeeze(pieces: list[bytes]) -> bytes:
    """gzip, without the time of day in it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


def folded(reply: Reply) -> bytes:
    """A stream's events as the message they make; a document as it is."""
    if not reply.chunked:
        return reply.body
    message: Json = {}
    pieces: dict[int, str] = {}
    for part in reply.parts:
        event = json.loads(part.partition(b"data: ")[2])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                fill(message["content"][event["index"]], event["delta"], pieces, event["index"])
            case "message_delta":
                usage = {**message["usage"], **event["usage"]}
                message = {**message, **event["delta"], "usage": usage}
    for index, written in pieces.items():
        message["content"][index]["input"] = json.loads(written)
    return json.dumps(message).encode()


def fill(block: Json, delta: Json, pieces: dict[int, str], index: int) -> None:
    """One delta into its block; a tool's input is gathered until it is whole."""
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            pieces[index] = pieces.get(index, "") + delta["partial_json"]
