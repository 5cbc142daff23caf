"""Proto-JSON as Google reads it: both spellings of a name, and nothing that is not a field.

Source: protobuf.dev/programming-guides/json, and the messages of ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.wrongs import unknown_name, violation


@dataclass(frozen=True, slots=True)
class Listed:
    """A repeated field."""

    of: Kind


@dataclass(frozen=True, slots=True)
class Keyed:
    """A map from names to values."""

    of: Kind


@dataclass(frozen=True, slots=True)
class Enum:
    """One of some words, or its number."""

    words: tuple[str, ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """A message that is looked into elsewhere, and here only has to be an object."""


Kind: TypeAlias = "str | Listed | Keyed | Enum | Whole"
"""`string`, `int`, `number`, `bool`, `any`; else the name of a message."""

STRINGS = Listed("string")
TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT")
MESSAGES: dict[str, dict[str, Kind]] = {
    "Envelope": {
        "project": "string",
        "model": "string",
        "userAgent": "string",
        "requestType": Enum(("agent", "image_gen", "web_search", "checkpoint")),
        "requestId": "string",
        "enabledCreditTypes": Listed(Enum(("GOOGLE_ONE_AI",))),
        "request": "Request",
    },
    "Request": {
        "contents": Listed("Content"),
        "systemInstruction": "Content",
        "tools": Listed("Tool"),
        "toolConfig": "ToolConfig",
        "generationConfig": "GenerationConfig",
        "sessionId": "string",
    },
    "Content": {"role": "string", "parts": Listed("Part")},
    "Part": {
        "text": "string",
        "thought": "bool",
        "thoughtSignature": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
    },
    "Blob": {"mimeType": "string", "data": "string"},
    "FileData": {"mimeType": "string", "fileUri": "string"},
    "FunctionCall": {"id": "string", "name": "string", "args": Whole()},
    "FunctionResponse": {"id": "string", "name": "string", "response": Whole()},
    "Tool": {"functionDeclarations": Listed("FunctionDeclaration"), "googleSearch": "GoogleSearch"},
    "FunctionDeclaration": {"name": "string", "description": "string", "parameters": "Schema"},
    "GoogleSearch": {"enhancedContent": "EnhancedContent", "includedDomains": STRINGS},
    "EnhancedContent": {"imageSearch": "ImageSearch"},
    "ImageSearch": {"maxResultCount": "int"},
    "Schema": {
        "type": Enum((*TYPES, *(word.lower() for word in TYPES))),
        "description": "string",
        "properties": Keyed("Schema"),
        "required": STRINGS,
        "items": "Schema",
        "enum": STRINGS,
        "nullable": "bool",
    },
    "ToolConfig": {"functionCallingConfig": "FunctionCallingConfig"},
    "FunctionCallingConfig": {
        "mode": Enum(("AUTO", "ANY", "NONE", "VALIDATED")),
        "allowedFunctionNames": STRINGS,
    },
    "GenerationConfig": {
        "maxOutputTokens": "int",
        "temperature": "number",
        "topP": "number",
        "topK": "int",
        "candidateCount": "int",
        "stopSequences": STRINGS,
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseModalities": Listed(Enum(("TEXT", "IMAGE"))),
        "imageConfig": "ImageConfig",
        "thinkingConfig": "ThinkingConfig",
    },
    "ImageConfig": {
        "aspectRatio": Enum(("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "5:4", "4:5", "21:9")),
        "imageSize": "string",
    },
    "ThinkingConfig": {
        "includeThoughts": "bool",
        "thinkingBudget": "int",
        "thinkingLevel": Enum(("minimal", "low", "medium", "high")),
    },
    "Counting": {"request": "Counted"},
    "Counted": {"contents": Listed("Content")},
    "OfProject": {"project": "string"},
    "Load": {"metadata": "Metadata", "mode": "int", "cloudaicompanionProject": "string"},
    "Onboard": {"tierId": "string", "metadata": "Metadata", "cloudaicompanionProject": "string"},
    "Metadata": {
        "ideType": Enum(("IDE_UNSPECIFIED", "PLUGINS", "ANTIGRAVITY", "JETSKI"), (0, 7, 9, 10)),
        "platform": Enum(
            (
                "PLATFORM_UNSPECIFIED",
                "DARWIN_AMD64",
                "DARWIN_ARM64",
                "LINUX_AMD64",
                "LINUX_ARM64",
                "WINDOWS_AMD64",
            ),
            (0, 1, 2, 3, 4, 5),
        ),
        "pluginType": Enum(("PLUGIN_UNSPECIFIED", "CLOUD_CODE", "GEMINI"), (0, 1, 2)),
        "ideVersion": "string",
        "ideName": "string",
        "updateChannel": "string",
        "duetProject": "string",
    },
}
"""What is known of each message. Fields that exist and that we have no use for are not in it: stricter than Google."""

SIMPLE = {"string": str, "bool": bool}


def read(value: Any, kind: Kind, where: str = "") -> Any:
    """The value with every name in its camelCase. Raises `Denied` for what is no such message."""
    match kind:
        case Listed(of):
            if not isinstance(value, list):
                raise invalid(where, "LIST", value)
            return [read(item, of, f"{where}[{index}]") for index, item in enumerate(value)]
        case Keyed(of):
            if not isinstance(value, dict):
                raise invalid(where, "MAP", value)
            return {name: read(item, of, f"{where}[{index}].value") for index, (name, item) in enumerate(value.items())}
        case Enum(words, numbers):
            if value in words and isinstance(value, str):
                return value
            if type(value) is int and value in numbers:
                return words[numbers.index(value)]
            raise invalid(where, "ENUM", value)
        case Whole():
            if not isinstance(value, dict):
                raise invalid(where, "google.protobuf.Struct", value)
            return value
        case str():
            return read_message(value, kind, where) if kind in MESSAGES else read_simple(value, kind, where)


def read_simple(value: Any, kind: str, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": number and value == int(value),
        "number": number,
    }
    if not fits[kind]:
        raise invalid(where, {"int": "TYPE_INT32", "number": "TYPE_FLOAT"}.get(kind, f"TYPE_{kind.upper()}"), value)
    return value


def read_message(value: Any, name: str, where: str) -> Json:
    if not isinstance(value, dict):
        raise invalid(where, f"type.googleapis.com/{name}", value)
    fields, found = MESSAGES[name], {}
    for given, inner in value.items():
        field = camel(given)
        if field not in fields:
            raise unknown_name(given, where)
        if field in found:
            raise violation(where, f"Invalid value at '{where}' (oneof), oneof field '{given}' is already set.")
        found[field] = read(inner, fields[field], f"{where}.{snake(field)}" if where else snake(field))
    return found


def invalid(where: str, kind: str, value: Any) -> Exception:
    return violation(where, f"Invalid value at '{where}' ({kind}), {str(value)[:80]!r}")


def camel(name: str) -> str:
    """A field's JSON name from either of its spellings."""
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)
