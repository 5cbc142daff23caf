"""What the upstream would refuse, said aloud: a validator stricter than Google's, and samples to hold against it."""

from __future__ import annotations

import json
import re
from typing import Any

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.profile import Family, Profile, profile_of

CLAUDE = profile_of(ModelId("claude-sonnet-4-6"))
GEMINI = profile_of(ModelId("gemini-3-pro-high"))
FLASH = profile_of(ModelId("gemini-3.8-flash-high"))
GPT = profile_of(ModelId("gpt-oss-120b-medium"))

CLAUDE_SIGNATURE = "UkVYQU1QTEUtU0lHTkFUVVJFLUxPTkdFUi1USEFOLUZJRlRZLUNIQVJBQ1RFUlM="
GEMINI_SIGNATURE = "Q0VYQU1QTEUtR0VNSU5JLVNJR05BVFVSRS1MT05HRVItVEhBTi1GSUZUWQ=="

_SCHEMA = {"type", "description", "properties", "required", "items", "enum", "nullable"}
_TYPES = {"string", "number", "integer", "boolean", "array", "object"}
_REQUEST = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "sessionId"}
_GENERATION = {
    "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "thinkingConfig", "responseMimeType",
    "responseSchema",
}  # fmt: skip
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check_schema(schema: Any, *, fill: bool) -> None:
    assert isinstance(schema, dict) and schema.keys() <= _SCHEMA, schema
    assert schema["type"] in _TYPES, schema
    assert isinstance(schema.get("description", "x"), str) and schema.get("description", "x")
    assert schema.get("nullable", True) is True
    if "enum" in schema:
        assert schema["type"] == "string" and schema["enum"]
        assert all(isinstance(word, str) and word for word in schema["enum"]), schema
    assert ("items" in schema) == (schema["type"] == "array"), schema
    if "items" in schema:
        check_schema(schema["items"], fill=fill)
    if schema["type"] != "object":
        assert not schema.keys() & {"properties", "required"}, schema
        return
    properties = schema.get("properties")
    assert properties is None or (isinstance(properties, dict) and properties), schema
    required = schema.get("required")
    assert required is None or (required and set(required) <= set(properties or {})), schema
    assert len(set(required or [])) == len(required or [])
    assert required or not fill, schema
    for value in (properties or {}).values():
        check_schema(value, fill=fill)


def check_request(encoded: Encoded) -> dict[str, Any]:
    """The request, which must break no rule of its model's."""
    request: dict[str, Any] = json.loads(encoded.request)
    if encoded.search is not None:
        assert request.keys() == {"contents", "systemInstruction", "tools", "generationConfig"}
        return request
    assert request.keys() <= _REQUEST and {"contents", "systemInstruction", "sessionId"} <= request.keys()
    assert re.fullmatch(r"-\d{1,19}", request["sessionId"])
    assert int(request["sessionId"]) >= -(2**63)
    system = request["systemInstruction"]
    assert system["role"] == "user" and system["parts"]
    assert all(part.keys() == {"text"} and part["text"].strip() for part in system["parts"])
    _check_generation(request.get("generationConfig", {}), encoded, request)
    _check_tools(request, encoded)
    _check_contents(request, encoded)
    return request


def _check_generation(config: dict[str, Any], encoded: Encoded, request: dict[str, Any]) -> None:
    profile = encoded.profile
    assert config.keys() <= _GENERATION, config
    assert profile.max_output is None or config.get("maxOutputTokens", 1) <= profile.max_output
    assert config.get("maxOutputTokens", 1) >= 1
    assert len(config.get("stopSequences", ["x"])) in range(1, profile.max_stops + 1)
    thinking = config.get("thinkingConfig")
    assert encoded.thoughts == bool(thinking and thinking["includeThoughts"])
    if thinking is not None:
        assert profile.thinks and thinking.keys() == {"includeThoughts", "thinkingBudget"}
        assert profile.budgets[0] <= thinking["thinkingBudget"] <= profile.budgets[1]
        assert thinking["thinkingBudget"] < config.get("maxOutputTokens", 10**9)
    if encoded.thoughts and profile.family is Family.CLAUDE:
        assert not config.keys() & {"temperature", "topP", "topK"}
        assert request.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode") != "ANY"
    assert ("responseSchema" in config) == ("responseMimeType" in config)
    if "responseSchema" in config:
        assert "tools" not in request
        check_schema(config["responseSchema"], fill=False)


def _check_tools(request: dict[str, Any], encoded: Encoded) -> None:
    names: list[str] = []
    for entry in request.get("tools", []):
        assert entry.keys() == {"functionDeclarations"} and entry["functionDeclarations"]
        for tool in entry["functionDeclarations"]:
            assert tool.keys() <= {"name", "description", "parameters"}
            assert _NAME.fullmatch(tool["name"]) and tool.get("description", "x")
            assert tool["parameters"]["type"] == "object"
            check_schema(tool["parameters"], fill=encoded.profile.family is Family.CLAUDE)
            names.append(tool["name"])
    assert len(set(names)) == len(names) and set(names) <= encoded.names.keys()
    if "toolConfig" in request:
        assert names and request["toolConfig"].keys() == {"functionCallingConfig"}
        config = request["toolConfig"]["functionCallingConfig"]
        assert config["mode"] in ("AUTO", "ANY", "NONE", "VALIDATED")
        assert set(config.get("allowedFunctionNames", names)) <= set(names)


def _check_contents(request: dict[str, Any], encoded: Encoded) -> None:
    contents = request["contents"]
    roles = [content["role"] for content in contents]
    assert roles == ["user", "model"] * (len(roles) // 2) + ["user"], roles
    ids: list[str] = []
    waiting: list[tuple[str, str]] = []
    for content in contents:
        assert content.keys() == {"role", "parts"} and content["parts"]
        kinds = [_check_part(part, content["role"], encoded) for part in content["parts"]]
        if content["role"] == "user":
            answers = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
            assert [(answer["id"], answer["name"]) for answer in answers] == waiting
            assert kinds[: len(answers)] == ["functionResponse"] * len(answers)
            continue
        order = ["thought", "text", "functionCall"]
        assert [order.index(kind) for kind in kinds] == sorted(order.index(kind) for kind in kinds), kinds
        assert set(kinds) != {"thought"}
        calls = [part for part in content["parts"] if "functionCall" in part]
        waiting = [(part["functionCall"]["id"], part["functionCall"]["name"]) for part in calls]
        ids += [id for id, _ in waiting]
        if encoded.profile.family is Family.GEMINI and calls:
            assert calls[0]["thoughtSignature"]
    assert len(set(ids)) == len(ids)
    if encoded.thoughts and encoded.profile.family is Family.CLAUDE:
        _check_round(contents)


def _check_round(contents: list[dict[str, Any]]) -> None:
    """A round of tool calls under way holds the thoughts that led to it."""
    spoken: list[dict[str, Any]] = []
    for content in reversed(contents):
        if content["role"] == "model":
            spoken += content["parts"]
        elif not any("functionResponse" in part for part in content["parts"]):
            break
    assert not spoken or any(part.get("thought") for part in spoken)


def _check_part(part: dict[str, Any], role: str, encoded: Encoded) -> str:
    data = part.keys() & {"text", "inlineData", "fileData", "functionCall", "functionResponse"}
    assert len(data) == 1, part
    kind = next(iter(data))
    assert part.keys() <= {kind, "thought", "thoughtSignature"}, part
    family = encoded.profile.family
    if role == "user":
        assert part.keys() == {kind} and kind != "functionCall"
    else:
        assert kind in ("text", "functionCall")
    signature = part.get("thoughtSignature")
    if signature is not None:
        theirs = {Family.CLAUDE: CLAUDE_SIGNATURE, Family.GEMINI: GEMINI_SIGNATURE}.get(family)
        assert signature == theirs or (family is Family.GEMINI and signature == encoded.profile.sentinel), signature
    if part.get("thought"):
        assert kind == "text" and family is Family.CLAUDE and encoded.thoughts and signature
        return "thought"
    assert family is not Family.CLAUDE or signature is None
    match kind:
        case "text":
            assert part["text"].strip(), "empty text"
        case "inlineData":
            assert part[kind].keys() == {"mimeType", "data"} and part[kind]["data"]
        case "fileData":
            assert part[kind].keys() == {"mimeType", "fileUri"}
        case "functionCall":
            assert part[kind].keys() == {"id", "name", "args"} and isinstance(part[kind]["args"], dict)
            assert _NAME.fullmatch(part[kind]["name"]) and _ID.fullmatch(part[kind]["id"])
        case "functionResponse":
            assert part[kind].keys() == {"id", "name", "response"}
            assert part[kind]["response"].keys() in ({"result"}, {"error"})
    return kind


def good(ask: dict[str, Any], profile: Profile = CLAUDE, session: str = "s", **more: Any) -> Encoded:
    """An ask that must be encoded, and must break no rule."""
    encoded = encode(json.dumps(ask).encode(), profile, session, **more)
    assert isinstance(encoded, Encoded), encoded
    check_request(encoded)
    return encoded


def request(ask: dict[str, Any], profile: Profile = CLAUDE, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good(ask, profile, **more).request)
    return found
