"""A history that Anthropic refuses, made one that it takes: thoughts it did not sign, ids out of its patterns.

Facts: docs "Extended thinking" (signatures), the wording of refusals as observed. Thoughts leave whole, since a changed
one is refused like a foreign one. Of a message that held nothing else nothing is left: the API reads messages of one
role in a row as one, so its place needs nobody. A server tool's use and its result go in pair.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mcp_proxy.core.messages import Span
from mcp_proxy.dialects.cleaning.edits import Edit, removed
from mcp_proxy.dialects.cleaning.rules import Name, Rules
from mcp_proxy.dialects.json_text import elements, loads, members_at, quoted

THOUGHTS = ("thinking", "redacted_thinking")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ID_AT = {"tool_use": "id", "tool_result": "tool_use_id"}
"""Where the ids of client tools stand. Those of other tools are left alone: each kind has a pattern of its own."""

_SERVER_ID = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    tool_use_id: str | None = None
    signature: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Block]


_MESSAGES = msgspec.json.Decoder(list[_Message])


@dataclass(slots=True)
class Change:
    """What a history needs.

    names  what was done, each once
    bare   whether the round of tool calls under way no longer begins with a thought
    """

    edits: list[Edit] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    bare: bool = False

    def note(self, name: Name) -> None:
        if name not in self.names:
            self.names.append(name)


def sound(body: bytes, messages: Span, seals: tuple[str, ...]) -> bool:
    """Whether there is surely nothing to do. Costs a search where nobody but the user has spoken, else one reading."""
    if body.find(b'"assistant"', *messages) < 0:
        return True
    try:
        read = _MESSAGES.decode(memoryview(body)[slice(*messages)])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    ids: list[str] = []
    for message in read:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            match block.type:
                case "text":
                    continue
                case "thinking":
                    if not block.signature or block.signature.startswith(seals):
                        return False
                case "server_tool_use":
                    if not _SERVER_ID.fullmatch(block.id or ""):
                        return False
                case "tool_use":
                    ids.append(block.id or "")
                case "tool_result":
                    ids.append(block.tool_use_id or "")
    return not ids or ("" not in ids and _ID.fullmatch("".join(ids)) is not None)


def repaired(body: bytes, messages: Span, rules: Rules, *, unsigned: bool) -> Change:
    """What to change in the messages at `messages`. Never raises; what is no message stays as it is.

    unsigned  whether all thoughts go, also signed ones: the upstream has refused a signature
    """
    change = Change()
    spans = elements(body, messages)
    turns = [_turn(body, span) for span in spans]
    foreign = {id for id in _used(turns, "server_tool_use") if rules.signed and not _SERVER_ID.fullmatch(id)}
    answered = foreign - _used(turns, "tool_use") if foreign else foreign
    empty: set[int] = set()
    lost: set[int] = set()
    inner: list[tuple[int, list[Edit]]] = []
    for at, turn in enumerate(turns):
        leaving: set[int] = set()
        edits: list[Edit] = []
        for place, (span, block) in enumerate(turn):
            if name := _unwanted(block, rules, answered if block.get("type") == "tool_result" else foreign, unsigned):
                change.note(name)
                leaving.add(place)
                if block["type"] in THOUGHTS:
                    lost.add(at)
            elif rules.signed and (id_edits := _ids(body, span, block)):
                change.note(Name.TOOL_ID)
                edits += id_edits
        if leaving and len(leaving) == len(turn):
            empty.add(at)
            continue
        inner.append((at, edits + removed([span for span, _ in turn], leaving)))
    change.edits = [edit for _, edits in inner for edit in edits] + removed(spans, empty)
    change.bare = bool(lost) and _bare(body, spans, lost)
    return change


def _turn(body: bytes, span: Span) -> list[tuple[Span, dict[str, Any]]]:
    """The blocks of one message; none where it says nothing of thoughts or tools, or is no message."""
    if body.find(b"thinking", *span) < 0 and body.find(b"tool_use", *span) < 0:
        return []
    content = next((part.value for part in members_at(body, span) if part.key == "content"), None)
    blocks = [(where, loads(body[slice(*where)])) for where in elements(body, content)] if content else []
    return blocks if all(isinstance(block, dict) for _, block in blocks) else []


def _used(turns: list[list[tuple[Span, dict[str, Any]]]], kind: str) -> set[str]:
    """The ids of the uses of one kind of tools."""
    blocks = (block for turn in turns for _, block in turn if block.get("type") == kind)
    return {id for block in blocks if isinstance(id := block.get("id"), str)}


def _unwanted(block: dict[str, Any], rules: Rules, foreign: set[str], unsigned: bool) -> Name | None:
    kind = block.get("type")
    if kind in THOUGHTS and unsigned:
        return Name.REFUSED_THINKING
    if kind == "thinking" and rules.signed:
        signature = block.get("signature")
        good = isinstance(signature, str) and signature and not signature.startswith(rules.seals)
        return None if good else Name.UNSIGNED_THINKING
    named = block.get("id") if kind == "server_tool_use" else block.get("tool_use_id")
    return Name.SERVER_TOOL if isinstance(named, str) and named in foreign and kind != "tool_use" else None


def _ids(body: bytes, span: Span, block: dict[str, Any]) -> list[Edit]:
    """A tool's id brought into the pattern, in its use and in its result alike."""
    kind = block.get("type")
    key = _ID_AT.get(kind) if isinstance(kind, str) else None
    given = block.get(key) if key is not None else None
    if not isinstance(given, str) or _ID.fullmatch(given):
        return []
    value = quoted(mapped(given))
    return [Edit(*part.value, value) for part in members_at(body, span) if part.key == key]


def mapped(id: str) -> str:
    """An id in Anthropic's pattern: always the same for the same one, and another for every other."""
    return "toolu_" + hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _bare(body: bytes, spans: tuple[Span, ...], lost: set[int]) -> bool:
    """Whether thoughts were lost behind the last word of a person: within the round of tool calls under way."""
    answered = False
    for at in range(len(spans) - 1, -1, -1):
        role = next((loads(body[slice(*part.value)]) for part in members_at(body, spans[at]) if part.key == "role"), "")
        if role == "assistant":
            if answered and at in lost:
                return True
        elif role == "user":
            if body.find(b'"tool_result"', *spans[at]) < 0:
                return False
            answered = True
    return False
