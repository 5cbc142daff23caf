"""What a real client sends and gets, from tests/fixtures."""

from __future__ import annotations

import json
from pathlib import Path

from mcp_proxy.core.http import Headers
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import read_ask

FOLDER = Path(__file__).parents[2] / "fixtures" / "claude-code"
INDEX = [entry for entry in json.loads((FOLDER / "index.json").read_text()) if entry["method"] == "POST"]
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "index")
STREAMS = {path.stem: path.read_bytes() for path in sorted((FOLDER / "responses").glob("*.sse"))}


def body(name: str) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


def headers(name: str) -> Headers:
    """A fixture's headers as the server hands them on: lower case, without credentials and framing."""
    pairs = json.loads((FOLDER / "headers" / f"{name}.json").read_text())
    return tuple((key.lower(), value) for key, value in pairs if key.lower() not in ("x-api-key", "authorization"))


def ask(data: bytes, headers: Headers = (), *, beta: bool = False) -> Ask:
    """A request that must be good."""
    read = read_ask(Endpoint.MESSAGES, data, headers, beta)
    assert isinstance(read, Ask), read
    return read
