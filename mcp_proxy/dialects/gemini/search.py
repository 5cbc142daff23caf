"""Anthropic's web search tool by Google's: a request of its own, and its answer with what it rests on.

Wire: ai.google.dev/gemini-api/docs/google-search, docs.anthropic.com "Web search tool".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcp_proxy.core.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    CitationsDelta,
    Event,
    InputJsonDelta,
    ServerToolUseBlock,
    TextBlock,
    TextDelta,
    WebSearchResultBlock,
)
from mcp_proxy.dialects.conversation import text_of
from mcp_proxy.dialects.gemini.wire import written

_SYSTEM = "You are a search engine. Search the web for what is asked and answer from what you find."
_RESULTS = 5
_LONGEST_CITED = 150
"""Characters of a cited text, as Anthropic cuts it (docs: "Web search tool", citations)."""


def search_request(query: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The `request` object that searches the web.

    options  the tool as the client defined it: `max_uses`, `allowed_domains`
    """
    most = options.get("max_uses")
    count = most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else _RESULTS
    search: dict[str, Any] = {"enhancedContent": {"imageSearch": {"maxResultCount": count}}}
    allowed = options.get("allowed_domains")
    if isinstance(allowed, list) and (domains := [name for name in allowed if isinstance(name, str) and name]):
        search["includedDomains"] = domains
    return {
        "contents": [{"role": "user", "parts": [{"text": query}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": _SYSTEM}]},
        "tools": [{"googleSearch": search}],
        "generationConfig": {"candidateCount": 1},
    }


def searched(messages: list[Any]) -> str:
    """What a request that may only search is to look for: the last thing the user said."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            text = text_of(message.get("content"))
            if text and not text.isspace():
                return text
    return "."


def search_events(text: str, grounding: Mapping[str, Any], asked: str, new_id: Callable[[str], str]) -> Iterator[Event]:
    """The blocks of an answer that searched: what was looked for, what was found, the text with its citations.

    grounding  the answer's `groundingMetadata`
    asked      looked for where the upstream does not say what it looked for
    """
    queries = [query for query in _list(grounding, "webSearchQueries") if isinstance(query, str) and query]
    sources = [_source(chunk) for chunk in _list(grounding, "groundingChunks")]
    use = new_id("srvtoolu_")
    query = {"query": queries[0] if queries else asked}
    yield BlockStart(0, ServerToolUseBlock(use, "web_search"))
    yield BlockDelta(0, InputJsonDelta(written(query).decode()))
    yield BlockStop(0)
    found = [
        {"type": "web_search_result", "title": title, "url": url, "encrypted_content": "", "page_age": None}
        for title, url in dict.fromkeys(source for source in sources if source is not None)
    ]
    yield BlockStart(1, WebSearchResultBlock(use, found))
    yield BlockStop(1)
    index = 2
    for piece, cited in _pieces(text, grounding, sources):
        yield BlockStart(index, TextBlock())
        yield BlockDelta(index, TextDelta(piece))
        for title, url in cited:
            yield BlockDelta(index, CitationsDelta(_citation(piece, title, url)))
        yield BlockStop(index)
        index += 1


def _citation(piece: str, title: str, url: str) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "cited_text": piece[:_LONGEST_CITED],
        "url": url,
        "title": title,
        "encrypted_index": "",
    }


def _pieces(
    text: str, grounding: Mapping[str, Any], sources: list[tuple[str, str] | None]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The text cut where its supports begin and end, each piece with what it rests on; together all of it.

    Supports count bytes of UTF-8. One that overlaps an earlier one, or cuts a character, is not used.
    """
    data = text.encode("utf-8", "surrogatepass")
    position = 0
    for start, end, cited in sorted(_supports(grounding, sources), key=lambda support: support[:2]):
        if start < position or not _whole(data, start) or not _whole(data, end):
            continue
        if start > position:
            yield _text(data[position:start]), []
        yield _text(data[start:end]), cited
        position = end
    if position < len(data):
        yield _text(data[position:]), []


def _supports(
    grounding: Mapping[str, Any], sources: list[tuple[str, str] | None]
) -> Iterator[tuple[int, int, list[tuple[str, str]]]]:
    for support in _list(grounding, "groundingSupports"):
        segment = support.get("segment") if isinstance(support, dict) else None
        if not isinstance(segment, dict):
            continue
        start, end = segment.get("startIndex", 0), segment.get("endIndex")
        numbers = [number for number in _list(support, "groundingChunkIndices") if isinstance(number, int)]
        cited = [source for number in numbers if 0 <= number < len(sources) and (source := sources[number])]
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end and cited:
            yield start, end, list(dict.fromkeys(cited))


def _whole(data: bytes, index: int) -> bool:
    """Whether a cut at `index` falls between two characters."""
    return index == len(data) or (index < len(data) and data[index] & 0xC0 != 0x80)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _source(chunk: Any) -> tuple[str, str] | None:
    """Title and address of a page; None where the upstream tells none."""
    web = chunk.get("web") if isinstance(chunk, dict) else None
    if not isinstance(web, dict):
        return None
    url, title = web.get("uri"), web.get("title")
    if not isinstance(url, str) or not url:
        return None
    return title if isinstance(title, str) and title else url, url


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []
