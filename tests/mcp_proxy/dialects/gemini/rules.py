"""What the simulated Google would refuse, and samples to hold against it."""

from __future__ import annotations

import json
from typing import Any

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.profile import Family, Profile, profile_of
from mcp_proxy.sandbox.google import models
from mcp_proxy.sandbox.google import rules as sandbox
from mcp_proxy.sandbox.google.proto import read

CLAUDE = profile_of(ModelId("claude-sonnet-4-6"))
GEMINI = profile_of(ModelId("gemini-3-pro-high"))
FLASH = profile_of(ModelId("gemini-3.8-flash-high"))
GPT = profile_of(ModelId("gpt-oss-120b-medium"))

CLAUDE_SIGNATURE = "UkVYQU1QTEUtU0lHTkFUVVJFLUxPTkdFUi1USEFOLUZJRlRZLUNIQVJBQ1RFUlM="
GEMINI_SIGNATURE = "Q0VYQU1QTEUtR0VNSU5JLVNJR05BVFVSRS1MT05HRVItVEhBTi1GSUZUWQ=="

_KINDS = {Family.CLAUDE: models.Family.CLAUDE, Family.GEMINI: models.Family.GEMINI, Family.GPT: models.Family.GPT}
_SIGNED = {models.Family.CLAUDE: CLAUDE_SIGNATURE, models.Family.GEMINI: GEMINI_SIGNATURE}


def check_request(encoded: Encoded) -> dict[str, Any]:
    """The request, which must break no rule of its model's. Raises `Denied`, as the sandbox would say it."""
    request: dict[str, Any] = json.loads(encoded.request)
    assert read(request, "Request", "request") == request, "names are in camelCase"
    kind = "agent" if encoded.search is None else "web_search"
    sandbox.check_request(request, _model(encoded), kind, lambda family, _, signature: signature == _SIGNED[family])
    config = request.get("generationConfig", {})
    thinking = config.get("thinkingConfig")
    assert encoded.thoughts == bool(thinking and thinking["includeThoughts"])
    assert len(config.get("stopSequences", ())) <= encoded.profile.max_stops
    declared = [tool for entry in request.get("tools", ()) for tool in entry.get("functionDeclarations", ())]
    assert {tool["name"] for tool in declared} <= encoded.names.keys()
    return request


def check_schema(schema: Any, *, fill: bool) -> None:
    assert read(schema, "Schema", "schema") == schema
    sandbox.check_schema(schema, "schema", fill=fill)


def _model(encoded: Encoded) -> models.GoogleModel:
    profile = encoded.profile
    return models.GoogleModel(
        "model",
        "Model",
        family=_KINDS[profile.family] if encoded.search is None else models.Family.GEMINI,
        kind=models.Kind.CHAT if encoded.search is None else models.Kind.SEARCH,
        output=profile.max_output or 65_536,
        budgets=profile.budgets if profile.thinks else None,
        sees=profile.takes != frozenset(),
    )


def good(ask: dict[str, Any], profile: Profile = CLAUDE, session: str = "s", **more: Any) -> Encoded:
    """An ask that must be encoded, and must break no rule."""
    encoded = encode(json.dumps(ask).encode(), profile, session, **more)
    assert isinstance(encoded, Encoded), encoded
    check_request(encoded)
    return encoded


def request(ask: dict[str, Any], profile: Profile = CLAUDE, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good(ask, profile, **more).request)
    return found
