"""How these tests talk to a sandbox: over real sockets, reading what came and how it ended."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from mcp_proxy.sandbox import Account, Sandbox

FIXTURES = Path(__file__).parents[2] / "fixtures" / "claude-code"
HOPS = ("connection", "host", "accept-encoding", "content-length", "x-api-key", "authorization")
MODELS = {"anthropic": "claude-opus-5-5", "claude-subscription": "claude-opus-5-5", "zai": "glm-4.7"}


def body(model: str = "claude-opus-5-5", text: str = "How tall is a giraffe?", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": text}], **more}


def headers(account: Account, **more: str | None) -> dict[str, str]:
    """What a good proxy sends; a name with underscores replaces a header, None removes it."""
    found: dict[str, str | None] = {
        "authorization": f"Bearer {account.key}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "tests",
        "anthropic-version": "2023-06-01",
    }
    found |= {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in found.items() if value is not None}


def client() -> httpx.AsyncClient:
    """Plain HTTP to loopback: reading the certificates of the world would take longer than the tests."""
    return httpx.AsyncClient(trust_env=False, verify=False)


async def post(
    box: Sandbox, account: Account, sent: Any, path: str = "/v1/messages", at: str = "anthropic", **fields: str | None
) -> httpx.Response:
    async with client() as asking:
        data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        request = asking.build_request("POST", box.url(at) + path, content=data, headers=headers(account, **fields))
        for name in ("accept-encoding", "accept", "user-agent"):
            if fields.get(name.replace("-", "_"), "") is None:
                del request.headers[name]
        return await asking.send(request)


@dataclass
class Wire:
    """Bytes that came, and how they ended: `fin`, `reset`, or `silence` where nothing did within the time."""

    data: bytes
    ended: str

    @property
    def status(self) -> int:
        return int(self.data[9:12])

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def complete(self) -> bool:
        """Whether the last chunk came."""
        return self.data.endswith(b"0\r\n\r\n")

    def dechunked(self) -> bytes:
        rest, found = self.body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            found += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return found


async def wire(
    box: Sandbox, account: Account, sent: dict[str, Any], at: str = "anthropic", *, wait: float = 0.3, **fields: str
) -> Wire:
    """One request on a bare socket, everything that comes back until the end or a silence of `wait` seconds."""
    parts = urlsplit(box.url(at))
    data = json.dumps(sent).encode()
    found = {"host": parts.netloc, **headers(account), "content-length": str(len(data)), **fields}
    lines = [f"POST {parts.path}/v1/messages HTTP/1.1", *(f"{name}: {value}" for name, value in found.items())]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    got, ended = b"", "fin"
    try:
        while True:
            async with asyncio.timeout(0.03 if whole(got) else wait):
                bit = await reader.read(65536)
            if not bit:
                break
            got += bit
    except TimeoutError:
        ended = "silence"
    except ConnectionResetError:
        ended = "reset"
    finally:
        writer.transport.abort()
    return Wire(got, ended)


def whole(data: bytes) -> bool:
    """Whether what came is a whole answer by its own framing; if so, little more is to be expected."""
    head, found, rest = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(found) and (len(rest) >= int(length[1]) if length else rest.endswith(b"0\r\n\r\n"))


def events(data: bytes) -> list[dict[str, Any]]:
    """The data of each event of a whole stream."""
    found = []
    for frame in data.decode().strip().split("\n\n"):
        kind, _, written = frame.partition("\n")
        event = json.loads(written.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        found.append(event)
    return found


def fixture(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A recorded request and its headers, without what a proxy removes."""
    sent = json.loads((FIXTURES / f"{name}.json").read_text())
    named = json.loads((FIXTURES / "headers" / f"{name}.json").read_text())
    return sent, {key.lower(): value for key, value in named if key.lower() not in HOPS}
