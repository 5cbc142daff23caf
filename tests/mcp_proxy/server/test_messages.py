"""A client's body on its way in, as the framework hands it over: pieces, and an empty one at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from blacksheep import Request

from mcp_proxy.gateway.apart import LARGE
from mcp_proxy.server.messages import MAX_BODY_BYTES, read_limited


class Sent:
    """As much of a request as is read here."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def stream(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


async def body_of(*pieces: bytes) -> bytes | None:
    return await read_limited(cast("Request", Sent(*pieces)))


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"one", b"", b"two", b""), (bytes(LARGE), b"x", b"")])
async def test_a_body_is_all_of_its_pieces(pieces: tuple[bytes, ...]) -> None:
    assert await body_of(*pieces) == b"".join(pieces)


async def test_a_body_that_comes_in_one_piece_is_not_copied() -> None:
    piece = b"one piece"
    assert await body_of(piece, b"") is piece


async def test_a_body_may_be_as_large_as_we_take_and_no_larger() -> None:
    piece = bytes(MAX_BODY_BYTES)
    assert await body_of(piece, b"") is piece
    assert await body_of(piece, b"x") is None
