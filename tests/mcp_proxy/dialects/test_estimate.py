from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.dialects.estimate import IMAGE_TOKENS, LONG, estimate_tokens, image_size
from tests.mcp_proxy.dialects.fixtures import NAMES, body


def tokens_of(*content: Any, **fields: Any) -> int:
    return estimate_tokens(json.dumps({"messages": [{"role": "user", "content": list(content)}], **fields}).encode())


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def image(data: bytes, kind: str = "image") -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    return {"type": kind, "source": source}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_request_is_estimated_near_its_size(name: str) -> None:
    data = body(name)
    estimate = estimate_tokens(data)
    assert 1 <= estimate <= len(data) / 2.5 + 2 * IMAGE_TOKENS
    if b"base64" not in data and len(data) > 3000:
        assert estimate >= len(data) / 6


def test_text_counts_the_same_as_string_and_as_block() -> None:
    text = "word " * 720
    as_string = estimate_tokens(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert as_string == tokens_of({"type": "text", "text": text}) == 1004


def test_an_image_costs_its_pixels_whatever_its_bytes() -> None:
    small, large = tokens_of(image(png(300, 250))), tokens_of(image(png(300, 250) + bytes(900_000)))
    assert small == large == 104
    assert tokens_of(image(png(8000, 8000))) == tokens_of(image(b"no image at all")) == IMAGE_TOKENS + 4


def test_an_image_inside_a_tool_result_is_an_image() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image(png(300, 250))]}
    assert tokens_of(result) == 108


def test_a_pdf_costs_by_its_size() -> None:
    assert tokens_of(image(bytes(3000), "document")) < tokens_of(image(bytes(600_000), "document")) < 30_000


def test_base64_in_an_unknown_block_is_not_text() -> None:
    assert tokens_of({"type": "new", "inner": {"type": "base64", "data": "A" * 1_000_000}}) < 3 * IMAGE_TOKENS


def test_tools_and_system_count() -> None:
    bare = tokens_of({"type": "text", "text": "hi"})
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    assert tokens_of({"type": "text", "text": "hi"}, tools=[{"name": "Read", "input_schema": schema}]) > bare + 20
    assert tokens_of({"type": "text", "text": "hi"}, system="x" * 360) == bare + 100


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (png(640, 480), (640, 480)),
        (b"GIF89a" + struct.pack("<HH", 640, 480), (640, 480)),
        (b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08" + struct.pack(">HH", 480, 640), (640, 480)),
        (b"RIFF0000WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"), (640, 480)),
        (b"RIFF0000WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480), (640, 480)),
        (b"RIFF0000WEBPVP8L" + bytes(5) + (639 | 479 << 14).to_bytes(4, "little") + bytes(5), (640, 480)),
        (b"RIFF0000WEBPVP9 " + bytes(20), None),
        (b"\xff\xd8\xff\xe0\x00\x00\xff\xe0\x00", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_sizes_are_read_from_the_head(head: bytes, size: tuple[int, int] | None) -> None:
    assert image_size(head) == size


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "messages", "content", "source", "data", "tools", "system"]),
                inner | st.sampled_from(["image", "document", "base64", "text", "tool_result"]),
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_there_is_always_an_estimate(data: bytes) -> None:
    assert estimate_tokens(data) >= 1


def test_depth_is_no_obstacle() -> None:
    deep = b'{"messages":[{"content":[' + b'{"type":"x","a":' * 400 + b"1" + b"}" * 400 + b"]}]}"
    assert estimate_tokens(deep) >= 1


@pytest.mark.parametrize("text", ["words and words ", 'a "line"\n', "é", "語", "🙂", "C:\\users\\u", '\\"', "\\"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_text_too_long_to_read_at_once_counts_as_its_parts_do(text: str, ascii_only: bool) -> None:
    def estimated(times: int) -> int:
        request = {"messages": [{"role": "user", "content": text * times}]}
        return estimate_tokens(json.dumps(request, ensure_ascii=ascii_only).encode())

    long = LONG // len(text)
    assert estimated(long) == pytest.approx(100 * estimated(long // 100), rel=0.01)
