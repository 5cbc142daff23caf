"""What the tests of this provider share: an account, its samples, and its requests."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from accounts.model import Secret, Token
from mcp_proxy.core.http import UpstreamRequest
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, Offer
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.providers.antigravity import PROVIDER
from mcp_proxy.providers.antigravity.models import offer

WIRE = Path(__file__).parents[3] / "wire" / "antigravity"
TOKEN = "sk-fake-token"
ACCESS = Access(
    "https://daily-cloudcode-pa.googleapis.com",
    "bearer",
    Token(Secret(TOKEN)),
    known={"project": "cogent-sample-4mnnp"},
)
SONNET = offer(ModelId("claude-sonnet-4-6"))
GEMINI = offer(ModelId("gemini-3.8-flash-high"))
WEATHER = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def sample(name: str) -> Any:
    return json.loads((WIRE / name).read_text(encoding="utf-8"))


def instant(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text).timestamp())


NOW = instant("2026-10-07T09:19:48Z")


def wish(*, endpoint: Endpoint = Endpoint.MESSAGES, headers: tuple[tuple[str, str], ...] = (), **fields: Any) -> Ask:
    """A client's request; what is not said is a short conversation with a tool, in events."""
    body = {
        "model": "sonnet-please",
        "max_tokens": 8000,
        "stream": True,
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "tools": [WEATHER],
        "messages": [{"role": "user", "content": "Weather in Oslo?"}],
        **fields,
    }
    ask = read_ask(endpoint, json.dumps(body).encode(), headers)
    assert isinstance(ask, Ask)
    return ask


def built(ask: Ask, model: Offer = SONNET, access: Access = ACCESS) -> UpstreamRequest:
    """The request for an ask. It can always be translated back."""
    made = PROVIDER.request(ask, model, access)
    assert isinstance(made, UpstreamRequest) and made.translate is not None
    return made


def sent(ask: Ask, model: Offer = SONNET, access: Access = ACCESS) -> Any:
    return json.loads(built(ask, model, access).body)
