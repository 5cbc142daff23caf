"""What Google's models say when nobody told them what to say: made from the request alone, so the same each time."""

from __future__ import annotations

import re
from typing import Any

from mcp_proxy.sandbox.answers import Answer, Block, Json, Raw, Text, Thinking, ToolUse
from mcp_proxy.sandbox.voice import Voice, answer_to, shaped

CALLED = re.compile(r"\bcall the tools? ((?:[\w.:-]+(?:,? and |, ?)?)+)")
"""How a prompt asks for tools by name, one or several at once."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAGE = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/SANDBOX"


def as_anthropic(request: Json, model: str) -> Json:
    """The request as far as a voice looks at one, in the form that all voices know."""
    config = request.get("generationConfig", {})
    body: Json = {
        "model": model,
        "messages": [
            {"role": "user" if content["role"] == "user" else "assistant", "content": _blocks(content["parts"])}
            for content in request.get("contents", ())
        ],
        "tools": [
            {"name": tool["name"], "input_schema": lowered(tool["parameters"])}
            for entry in request.get("tools", ())
            for tool in entry.get("functionDeclarations", ())
        ],
    }
    if "maxOutputTokens" in config:
        body["max_tokens"] = config["maxOutputTokens"]
    if config.get("thinkingConfig", {}).get("includeThoughts"):
        body["thinking"] = {"type": "enabled"}
    if "stopSequences" in config:
        body["stop_sequences"] = config["stopSequences"]
    if "responseSchema" in config:
        body["output_config"] = {"format": {"schema": lowered(config["responseSchema"])}}
    return body


def _blocks(parts: list[Json]) -> list[Json]:
    found: list[Json] = []
    for part in parts:
        if "functionCall" in part:
            found.append({"type": "tool_use", "name": part["functionCall"]["name"]})
        elif "functionResponse" in part:
            answer = part["functionResponse"]
            told = next(iter(answer["response"].values()))
            found.append({"type": "tool_result", "name": answer["name"], "content": told})
        elif "text" in part:
            found.append({"type": "thinking" if part.get("thought") else "text", "text": part["text"]})
        else:
            kind = (part.get("inlineData") or part.get("fileData") or {}).get("mimeType", "")
            found.append({"type": "image", "media_type": kind})
    return found


def lowered(schema: Json) -> Json:
    """A schema with the names of types as JSON Schema has them."""
    found = {**schema, "type": str(schema.get("type", "string")).lower()}
    if "items" in schema:
        found["items"] = lowered(schema["items"])
    if "properties" in schema:
        found["properties"] = {name: lowered(inner) for name, inner in schema["properties"].items()}
    return found


def google_voice(name: str, forced: tuple[str, ...] = ()) -> Voice:
    """The default voice of the account called `name`. forced: of these tools one has to be called."""

    def speak(body: Json) -> Answer:
        blocks = _last(body)
        results = [block for block in blocks if block["type"] == "tool_result"]
        thoughts: tuple[Block, ...] = (Thinking(f"{name} thinks of tools."),) if "thinking" in body else ()
        if results:
            names = ", ".join(str(block["name"]) for block in results)
            return Answer((*thoughts, Text(f"This is {name}, simulated. I have what {names} told.")))
        if calls := wanted(body, forced):
            return Answer((*thoughts, *calls))
        answer = answer_to(body, name)
        shown = sorted({block["media_type"] for block in blocks if block["type"] == "image"})
        return Answer((*answer.blocks, Text(f" You showed me {', '.join(shown)}."))) if shown else answer

    return speak


def wanted(body: Json, forced: tuple[str, ...]) -> list[ToolUse]:
    """The tools that the last text asks to be called, by name, each with the smallest arguments it takes."""
    schemas = {tool["name"]: tool["input_schema"] for tool in body["tools"]}
    texts = [block["text"] for block in _last(body) if block["type"] == "text"]
    asked = CALLED.search(texts[-1]) if texts else None
    names = re.split(r",? and |, ?", asked[1].rstrip(" .,")) if asked else []
    found = [name for name in names if name in schemas] or [name for name in forced[:1] if name in schemas]
    return [ToolUse(name, shaped(schemas[name], name)) for name in found]


def _last(body: Json) -> list[Json]:
    """The last turn's blocks."""
    return body["messages"][-1]["content"] if body["messages"] else []


def picture(count: int = 1) -> Answer:
    """What a model for images makes."""
    return Answer(tuple(Raw({"inlineData": {"mimeType": "image/png", "data": PIXEL}}) for _ in range(count)))


def found_on_the_web(query: str, name: str) -> tuple[Answer, Json]:
    """An answer that searched, and what it rests on. Offsets count bytes."""
    told, rest = f"“{query[:60]}”, says the web.", f" This is {name}, simulated."
    segment: Json = {"startIndex": 0, "endIndex": len(told.encode()), "text": told}
    grounding: dict[str, Any] = {
        "webSearchQueries": [query[:100]],
        "groundingChunks": [{"web": {"uri": PAGE, "title": "example.org"}}],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}],
    }
    return Answer((Text(told + rest),)), grounding
