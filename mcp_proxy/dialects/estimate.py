"""How many tokens a request may hold, guessed where nobody upstream can count."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mcp_proxy.core.messages import Member
from mcp_proxy.dialects.json_text import NULL, BadJson, Bytes, is_text, items, loads, members, picked

BYTES_PER_TOKEN = 3.6
"""UTF-8 bytes of English prose and code in one token; between the 3.5 and 4 that vendors quote."""

JSON_BYTES_PER_TOKEN = 3.0
"""The same for JSON (tool schemas, tool inputs): its punctuation costs more."""

IMAGE_TOKENS = 1600
"""An image whose size we cannot read, and the most one costs (docs: "Vision": about 1.15 megapixels)."""

IMAGE_PIXELS_PER_TOKEN = 750
"""docs: "Vision": tokens = width * height / 750."""

PDF_BYTES_PER_TOKEN = 30
"""A page is 1500 to 3000 tokens (docs: "PDF support") and, as a rough mean, 60 KB."""

LONG = 1_000_000
"""Bytes of a content that is one text from which on it is not read at once: nobody else's work goes on meanwhile."""

PER_MESSAGE = 4
"""The marks around a message or a tool."""


class Measure(NamedTuple):
    """A request's size in tokens, by what they are of; each by our own rates, as no model counts exactly.

    prose  text as people and programs write it
    json   tools, what they are given, and unknown blocks
    fixed  what does not go by bytes: pictures, documents, the marks around messages
    """

    prose: float = 0.0
    json: float = 0.0
    fixed: float = 0.0

    @property
    def tokens(self) -> int:
        """All together, at least 1."""
        return max(1, math.ceil(self.prose + self.json + self.fixed))


def estimate_tokens(body: bytes) -> int:
    """Tokens of a Messages request by our own rates; see `measure`."""
    return measure(body).tokens


def measure(body: bytes, found: Sequence[Member] = ()) -> Measure:
    """The size of a Messages request. Never raises.

    Base64 counts by what it holds, not by its length. A body that is no request counts as text. It may take a
    second for the largest bodies; in a thread it keeps nobody waiting, since it goes through them piece by piece.

    found  the top-level members of `body`, where they are known already
    """
    try:
        parts = {part.key: memoryview(body)[slice(*part.value)] for part in found or members(body)}
    except BadJson:
        return Measure(prose=len(body) / BYTES_PER_TOKEN)
    scale = _Scale()
    try:
        scale.content(parts.get("system", NULL))
        for tool in items(parts.get("tools", NULL)):
            scale.fixed += PER_MESSAGE
            scale.json += _json(loads(tool))
        for message in items(parts.get("messages", NULL)):
            if bytes(message[:1]) == b"{":
                scale.fixed += PER_MESSAGE
                scale.content(*picked(message, "content"))
    except RecursionError:
        return Measure(json=len(body) / JSON_BYTES_PER_TOKEN)
    return Measure(scale.prose, scale.json, scale.fixed)


class _Scale:
    """Adds up."""

    __slots__ = ("fixed", "json", "prose")

    def __init__(self) -> None:
        self.prose = self.json = self.fixed = 0.0

    def content(self, content: Bytes) -> None:
        """A string, or an array of blocks."""
        if is_text(content):
            self.prose += _text(loads(content)) if len(content) < LONG else _written(content)
        else:
            for block in items(content):
                self.block(loads(block))

    def parsed(self, content: Any) -> None:
        """The same, parsed already."""
        if isinstance(content, str):
            self.prose += _text(content)
        for block in content if isinstance(content, list) else ():
            self.block(block)

    def block(self, block: Any) -> None:
        if not isinstance(block, dict):
            self.json += _json(block)
            return
        match block.get("type"):
            case "text":
                self.prose += _text(block.get("text"))
            case "image":
                self.fixed += _image(block.get("source"))
            case "document":
                self.document(block)
            case "tool_result":
                self.fixed += PER_MESSAGE
                self.parsed(block.get("content"))
            case "thinking":
                # Its signature is not read by the model.
                self.prose += _text(block.get("thinking"))
            case "redacted_thinking":
                self.prose += _text(block.get("data")) / 2
            case _:
                self.json += _json({key: value for key, value in block.items() if key != "cache_control"})

    def document(self, block: dict[str, Any]) -> None:
        source = block.get("source")
        self.prose += _text(block.get("title")) + _text(block.get("context"))
        if not isinstance(source, dict):
            return
        match source.get("type"):
            case "base64":
                self.fixed += max(IMAGE_TOKENS, _base64_bytes(source.get("data")) / PDF_BYTES_PER_TOKEN)
            case "text":
                self.prose += _text(source.get("data"))
            case "content":
                self.parsed(source.get("content"))
            case _:
                self.fixed += IMAGE_TOKENS


def _text(text: Any) -> float:
    return _bytes(text) / BYTES_PER_TOKEN if isinstance(text, str) else 0


def _bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    if text.isascii():
        return len(text)
    pieces = (text[at : at + LONG] for at in range(0, len(text), LONG))
    return sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces)


def _written(text: Bytes) -> float:
    """The tokens of a JSON string that would take long to read."""
    pieces = (bytes(text[at : at + LONG]) for at in range(0, len(text), LONG))
    return (len(text) - 2 - sum(map(_spared, pieces))) / BYTES_PER_TOKEN


def _spared(written: bytes) -> int:
    """About how many bytes a part of a JSON string is longer than what it says.

    An escape says one byte; a numbered one, of six, three, or two where it is low or half of a pair.
    """
    backslashes = written.count(b"\\\\")
    if backslashes:
        written = written.replace(b"\\\\", b"")  # what follows one of these is no escape
    single, numbered = written.count(b"\\"), written.count(b"\\u")
    return backslashes + single + 2 * numbered + sum(map(written.count, (b"\\u0", b"\\ud", b"\\uD")))


def _json(value: Any) -> float:
    """The tokens of a value written as JSON."""
    if isinstance(value, str):
        return (_bytes(value) + 2) / JSON_BYTES_PER_TOKEN
    if isinstance(value, dict):
        if value.get("type") == "base64" and isinstance(value.get("data"), str):
            return IMAGE_TOKENS
        return sum(_json(key) + _json(member) + 2 / JSON_BYTES_PER_TOKEN for key, member in value.items())
    if isinstance(value, list):
        return sum(_json(member) + 1 / JSON_BYTES_PER_TOKEN for member in value)
    return 5 / JSON_BYTES_PER_TOKEN


def _base64_bytes(data: Any) -> float:
    return len(data) * 0.75 if isinstance(data, str) else 0


def _image(source: Any) -> float:
    data = source.get("data") if isinstance(source, dict) else None
    size = image_size(_head(data)) if isinstance(data, str) else None
    if size is None:
        return IMAGE_TOKENS
    width, height = size
    return min(IMAGE_TOKENS, max(1, width * height / IMAGE_PIXELS_PER_TOKEN))


def _head(data: str) -> bytes:
    """The first bytes of a base64 text; a JPEG names its size behind its colour profile."""
    try:
        return base64.b64decode(data[:65536].encode("ascii", "ignore")[: 65536 // 4 * 4])
    except ValueError:
        return b""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels from an image's first bytes (PNG, GIF, WebP, JPEG); None where they do not tell."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp_size(head)
    return _jpeg_size(head) if head.startswith(b"\xff\xd8") else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """From the first start-of-frame segment (ITU T.81, B.2.2)."""
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = head[position + 5 : position + 7], head[position + 7 : position + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return None
