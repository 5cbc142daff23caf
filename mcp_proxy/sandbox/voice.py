"""What an account says when nobody told it what to say: made from the request alone, so the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from mcp_proxy.sandbox.answers import Answer, Block, Json, Text, Thinking

Voice: TypeAlias = Callable[[Json], Answer]
"""From a request's body to its answer."""

ECHOED = 8
"""How many words of the question an answer repeats."""


def voice_of(name: str) -> Voice:
    """The default voice of the account called `name`."""

    def speak(body: Json) -> Answer:
        return answer_to(body, name)

    return speak


def answer_to(body: Json, name: str) -> Answer:
    """Plain text that names who answers and a few words of the question.

    Three kinds of request want more: a verdict (a stop sequence that closes a tag), a document of a given
    shape (`output_config.format`), and one that lets the model think.
    """
    if verdict := _verdict(body.get("stop_sequences")):
        return Answer((Text(verdict[0]),), stop_reason="stop_sequence", stop_sequence=verdict[1])
    output = body.get("output_config")
    shape = output.get("format") if isinstance(output, dict) else None
    if isinstance(shape, dict) and isinstance(shape.get("schema"), dict):
        return _bounded(Answer((Text(json.dumps(shaped(shape["schema"], name))),)), body)
    words = last_user_text(body).split()
    asked = " ".join(words[:ECHOED]) + (" …" if len(words) > ECHOED else "")
    text = Text(f"This is {name}, simulated. You asked: “{asked}”" if asked else f"This is {name}, simulated.")
    thinking = body.get("thinking")
    thinks = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    blocks: tuple[Block, ...] = (Thinking(f"{name} reads the question and repeats it."), text) if thinks else (text,)
    return _bounded(Answer(blocks), body)


def _verdict(stops: object) -> tuple[str, str] | None:
    """What a yes-or-no classifier wants to read, and the sequence that ends it."""
    closing = stops[0] if isinstance(stops, list) and stops else None
    match closing:
        case "</block>":
            return "<block>no", closing
        case "</severity>":
            return "<severity>0", closing
        case _:
            return None


def _bounded(answer: Answer, body: Json) -> Answer:
    """Cut where `max_tokens` is so small that even a simulated answer does not fit."""
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or answer.tokens <= limit:
        return answer
    last = answer.blocks[-1]
    assert isinstance(last, Text)  # noqa: S101 - every default answer ends with text
    return Answer((Text(last.text[: max(1, limit) * 4]),), stop_reason="max_tokens")


def last_user_text(body: Json) -> str:
    """The last text a user wrote; empty where there is none."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            texts = [block["text"] for block in content or () if isinstance(block, dict) and block.get("text")]
            if texts:
                return str(texts[-1])
    return ""


def shaped(schema: Json, name: str) -> Any:
    """The smallest value that a JSON schema takes, with our name where it wants a string."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            wanted = schema.get("required", list(properties))
            return {key: shaped(properties.get(key, {}), name) for key in wanted}
        case "array":
            return [shaped(schema.get("items", {}), name)] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return name
