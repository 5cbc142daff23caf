"""An Anthropic Messages request to the `request` object of Gemini's wire.

Wire: ai.google.dev/api/generate-content, as Google's Cloud Code API takes it. It refuses unknown fields, so nothing
is passed on that is not named here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mcp_proxy.core.failure import Failure
from mcp_proxy.dialects.anthropic_ask import bad_request
from mcp_proxy.dialects.conversation import text_of
from mcp_proxy.dialects.gemini.blocks import blocks_of
from mcp_proxy.dialects.gemini.generation import answer_limit, asked_schema, generation, thinking_budget
from mcp_proxy.dialects.gemini.history import History
from mcp_proxy.dialects.gemini.profile import Profile
from mcp_proxy.dialects.gemini.search import search_request, searched
from mcp_proxy.dialects.gemini.tools import read_tools, tool_mode
from mcp_proxy.dialects.gemini.wire import written
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.schema import Path

_BILLING = "x-anthropic-billing-header:"
"""How the client's attribution line starts. It differs between requests and would cost the upstream's prompt cache."""

_NO_SYSTEM = "You are a helpful assistant."
"""Requests without any system prompt are refused now and then, with a 429 that says nothing."""

_IN_JSON = "Answer with one JSON value that fits this JSON schema, and with nothing else:\n"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request as it goes out, and what its answer is read with.

    request   the `request` object, JSON
    names     what a tool was sent as, to the client's name for it
    injected  by the name it was sent as: arguments that the client never asked for
    thoughts  whether the client wants to see the model think
    search    what to look for on the web; None: it is no web search. Other models serve those, under another type
    """

    request: bytes
    profile: Profile
    names: Mapping[str, str] = field(default_factory=dict)
    injected: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    thoughts: bool = False
    search: str | None = None


class _Ask(msgspec.Struct):
    """What is read of a request."""

    messages: Any = None
    system: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"null")
    tool_choice: Any = None
    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    stop_sequences: Any = None
    thinking: Any = None
    output_config: Any = None


_ASK = msgspec.json.Decoder(_Ask)


def encode(body: bytes, profile: Profile, session: str = "", *, trust_signatures: bool = True) -> Encoded | Failure:
    """The request as `profile`'s model takes it, or why it is none (blame REQUEST, 400). Never raises.

    session           what the requests of one conversation have in common; empty: its first words are taken
    trust_signatures  False: leave out all the model's earlier thoughts, after it refused their signatures
    """
    try:
        ask = _read(body)
        return ask if isinstance(ask, Failure) else _encode(ask, profile, session, trust_signatures)
    except RecursionError:
        return bad_request("the body is nested too deeply")


def _encode(ask: _Ask, profile: Profile, session: str, trust_signatures: bool) -> Encoded | Failure:
    if not isinstance(ask.messages, list):
        return bad_request("messages: Input should be a valid list")
    if not ask.messages:
        return bad_request("messages: at least one message is required")
    tools = read_tools(bytes(ask.tools), profile.fills_schemas)
    if isinstance(tools, Failure):
        return tools
    if tools.search is not None and not _forbids(ask.tool_choice):
        query = searched(ask.messages)
        return Encoded(written(search_request(query, tools.search)), profile, search=query)
    history = History(ask.messages, tools, profile, trust_signatures)
    declared = tools.written(_wanted(history, ask.tool_choice))
    mode = tool_mode(ask.tool_choice, tools, profile) if declared else None
    if isinstance(mode, Failure):
        return mode
    limit = answer_limit(ask.max_tokens, profile)
    budget = thinking_budget(ask.thinking, ask.output_config, limit, profile)
    if profile.strict_thinking and (not history.can_think() or (mode or {}).get("mode") == "ANY"):
        budget = None
    schema = asked_schema(ask.output_config)
    prescribed = schema if profile.answer_schema and not declared else None
    system = _system(ask.system, profile)
    if schema is not None and prescribed is None:
        system.append(_IN_JSON + written(schema).decode())
    if budget is not None and declared and profile.hint is not None:
        system.append(profile.hint)
    members = [
        b'"contents":' + written(history.contents(thinking=budget is not None)),
        b'"systemInstruction":' + written({"role": "user", "parts": [{"text": text} for text in system]}),
        b'"generationConfig":' + written(generation(ask, limit, budget, prescribed, profile)),
        b'"sessionId":' + written(session_id(session or _first_words(ask))),
    ]
    if declared:
        members.append(b'"tools":' + declared)
    if mode is not None:
        members.append(b'"toolConfig":' + written({"functionCallingConfig": mode}))
    return Encoded(
        request=b"{%b}" % b",".join(members),
        profile=profile,
        names={sent: name for name, sent in tools.names.items()},
        injected=tools.injected,
        thoughts=budget is not None,
    )


def _read(body: bytes) -> _Ask | Failure:
    try:
        return _ASK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # half a surrogate pair is an error to it, and is sent by clients that cut a text
    given = loads(body)
    if not isinstance(given, dict):
        return bad_request("the body is not a JSON object")
    known = {name: given[name] for name in _Ask.__struct_fields__ if name in given}
    if "tools" in known:
        known["tools"] = msgspec.Raw(json.dumps(known["tools"]).encode())
    return _Ask(**known)


def _forbids(tool_choice: Any) -> bool:
    return isinstance(tool_choice, dict) and tool_choice.get("type") == "none"


def _wanted(history: History, tool_choice: Any) -> set[str]:
    """The tools that the conversation knows: named in it, or to be called now."""
    name = tool_choice.get("name") if isinstance(tool_choice, dict) else None
    return history.mentioned | {name} if isinstance(name, str) else history.mentioned


def _system(system: Any, profile: Profile) -> list[str]:
    told = [
        block["text"]
        for block in blocks_of(system)
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
    ]
    kept = [text for text in told if text and not text.isspace() and not text.startswith(_BILLING)]
    return [*profile.preamble, *kept] or [_NO_SYSTEM]


def _first_words(ask: _Ask) -> str:
    """What the requests of a conversation share where nobody named it. The attribution line is not of them."""
    told = [block for block in blocks_of(ask.system) if _is_own(block)]
    return f"{text_of(told)}\0{_first_text(ask.messages)}"


def _is_own(block: Any) -> bool:
    return not (isinstance(block, dict) and str(block.get("text")).startswith(_BILLING))


def session_id(session: str) -> str:
    """A conversation's name as Google's client writes it: a negative 64-bit number. Its prompt cache goes by it."""
    digest = hashlib.sha256(session.encode("utf-8", "surrogatepass")).digest()
    return f"-{int.from_bytes(digest[:8], 'big') >> 1}"


def _first_text(messages: Any) -> str:
    """The text of the first user message; empty where there is none."""
    said = messages if isinstance(messages, list) else []
    users = (each for each in said if isinstance(each, dict) and each.get("role") == "user")
    return text_of(next(users, {}).get("content"))
