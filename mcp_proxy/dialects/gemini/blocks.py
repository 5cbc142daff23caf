"""Anthropic content blocks, other than thoughts and tool calls, as Gemini parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from mcp_proxy.dialects.gemini.profile import Profile

Part: TypeAlias = dict[str, Any]

_SHOWN_RESULTS = 10


def blocks_of(content: Any) -> list[Any]:
    """A content as blocks: a string is one text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def parts(block: Any, profile: Profile) -> list[Part]:
    """What a block is to the model; nothing for what it cannot take or has no use for. Never an empty part."""
    if not isinstance(block, dict):
        return []
    match block.get("type"):
        case "text":
            return _texts(block.get("text"))
        case "image":
            return _media(block, profile, "image/jpeg")
        case "document":
            return _document(block, profile)
        case "search_result":
            return _texts("\n".join(_strings(block, "title", "source") + _inner_texts(block.get("content"))))
        case "server_tool_use":
            return _texts(_searched(block))
        case "web_search_tool_result":
            return _texts(_found(block.get("content")))
        case _:
            return []


def reminder(content: Any) -> list[Part]:
    """A system message from within the conversation: at its place, in the user's turn, marked as what it is."""
    return [
        {"text": f"<system-reminder>\n{part['text']}\n</system-reminder>"}
        for block in blocks_of(content)
        if isinstance(block, dict) and block.get("type") == "text"
        for part in _texts(block.get("text"))
    ]


def result(block: dict[str, Any], profile: Profile) -> tuple[Any, list[Part]]:
    """A tool's result as `response`, and the images and documents it holds, which stand beside it."""
    texts: list[str] = []
    media: list[Part] = []
    for inner in blocks_of(block.get("content")):
        if isinstance(inner, dict) and inner.get("type") == "tool_reference":
            texts.append(f"Tool found: {inner.get('tool_name')}")
        for part in parts(inner, profile):
            if "text" in part:
                texts.append(part["text"])
            else:
                media.append(part)
    told = "\n".join(texts)
    if not told and media:
        told = "See what is attached."
    return {"error" if block.get("is_error") is True else "result": told}, media


def _texts(text: Any) -> list[Part]:
    """White space alone is refused by Claude, and an empty text by all."""
    return [{"text": text}] if isinstance(text, str) and text and not text.isspace() else []


def _media(block: dict[str, Any], profile: Profile, default: str) -> list[Part]:
    source = block.get("source")
    if not isinstance(source, dict):
        return []
    media_type = source.get("media_type")
    kind = media_type if isinstance(media_type, str) and media_type else default
    if profile.takes is not None and kind not in profile.takes:
        return _texts(f"[A file of type {kind}, which you cannot read, was left out here.]")
    match source:
        case {"type": "base64", "data": str(data)} if data:
            return [{"inlineData": {"mimeType": kind, "data": data}}]
        case {"type": "url", "url": str(url)} if url:
            return [{"fileData": {"mimeType": kind, "fileUri": url}}]
        case {"type": "file"}:
            return _texts("[A file that is stored elsewhere was left out here.]")
        case _:
            return []


def _document(block: dict[str, Any], profile: Profile) -> list[Part]:
    head = _texts("\n".join(_strings(block, "title", "context")))
    match block.get("source"):
        case {"type": "text", "data": str(data)}:
            return [*head, *_texts(data)]
        case {"type": "content", "content": content}:
            return [*head, *(part for inner in blocks_of(content) for part in parts(inner, profile))]
        case _:
            body = _media(block, profile, "application/pdf")
            return [*head, *body] if body else []


def _strings(block: dict[str, Any], *keys: str) -> list[str]:
    return [value for key in keys if isinstance(value := block.get(key), str) and value]


def _inner_texts(content: Any) -> list[str]:
    return [
        part["text"] for block in blocks_of(content) if isinstance(block, dict) for part in _texts(block.get("text"))
    ]


def _searched(block: dict[str, Any]) -> str:
    given = block.get("input")
    query = given.get("query") if isinstance(given, dict) else None
    return f"Searched the web for: {query}" if isinstance(query, str) and query else ""


def _found(content: Any) -> str:
    return "\n".join(_lines(content))


def _lines(content: Any) -> Iterator[str]:
    results = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    for item in results[:_SHOWN_RESULTS]:
        if told := " - ".join(_strings(item, "title", "url")):
            yield f"Found: {told}"
