"""Small doubles of the ports in `mcp_proxy.core`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.core.http import Headers, NetworkTrouble, UpstreamRequest


@dataclass(slots=True)
class FakeResponse:
    """A response with its body at hand; an exception among the pieces is raised in its turn."""

    status: int = 200
    headers: Headers = ()
    pieces: tuple[bytes | NetworkTrouble, ...] = ()
    closed: bool = False
    hurried: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, NetworkTrouble):
                raise piece
            if piece:
                yield piece

    def expect_end(self) -> None:
        self.hurried = True

    async def aclose(self) -> None:
        self.closed = True


@dataclass(slots=True)
class FakeTransport:
    """Answers the requests in turn, the last answer for ever, and remembers what it was asked."""

    answers: list[FakeResponse | NetworkTrouble]
    asked: list[UpstreamRequest] = field(default_factory=list)

    async def send(self, request: UpstreamRequest) -> FakeResponse:
        self.asked.append(request)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, NetworkTrouble):
            raise answer
        return answer


def answering(*documents: Any, status: int = 200) -> FakeTransport:
    """A transport that answers with these bodies: bytes as they are, anything else as JSON."""
    bodies = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in documents]
    return FakeTransport([FakeResponse(status, (("content-type", "application/json"),), (body,)) for body in bodies])
