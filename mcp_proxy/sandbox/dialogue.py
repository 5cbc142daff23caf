"""The rules for `messages`: who may speak, of what, and that every tool use has its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.wrongs import Wrong

ROLES = ("user", "assistant", "system")
KINDS = (  # noqa: SIM905 - words read best as words
    "text image document search_result thinking redacted_thinking tool_use tool_result tool_reference "
    "server_tool_use web_search_tool_result web_fetch_tool_result code_execution_tool_result "
    "bash_code_execution_tool_result text_editor_code_execution_tool_result tool_search_tool_result "
    "mcp_tool_use mcp_tool_result container_upload fallback compaction"
).split()
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
SERVER_ID = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")
NO_RESULT = (
    "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. "
    "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
)
NO_USE = (
    "messages.{at}.content.{block}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. "
    "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
)
TWO_RESULTS = (
    "messages.{at}.content.{block}: each tool_use must have a single result. "
    "Found multiple `tool_result` blocks with id: {id}"
)


class Spot(NamedTuple):
    """A block and where it stands."""

    at: int
    place: int
    block: Json


class Speech(NamedTuple):
    """Messages of one role in a row: the API reads them as one."""

    role: str
    at: int
    spots: tuple[Spot, ...]

    def of(self, kind: str) -> list[Spot]:
        return [spot for spot in self.spots if spot.block["type"] == kind]


def check_messages(body: Json, genuine: Callable[[Json], bool] | None) -> None:
    """Raises `Wrong` at the first fault.

    genuine  whether a thinking block carries a signature this host issued; None: the host does not look
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Wrong("messages: Input should be a valid list")
    if not messages:
        raise Wrong("messages: at least one message is required")
    last = len(messages) - 1
    speeches = in_turn(read_speech(message, at, is_last=at == last) for at, message in enumerate(messages))
    if speeches[0].role != "user":
        raise Wrong('messages: first message must use the "user" role')
    for speech in speeches:
        check_thoughts(speech, genuine)
    check_tool_turns(speeches)
    thinking = body.get("thinking")
    if genuine is not None and isinstance(thinking, dict) and thinking.get("type") == "enabled":
        check_round(speeches)


def in_turn(speeches: Iterable[Speech]) -> list[Speech]:
    """Who spoke one after the other: a row of one role is one speech, a system message is no turn."""
    turns: list[Speech] = []
    for speech in speeches:
        if turns and speech.role == "system":
            continue
        if turns and turns[-1].role == speech.role:
            turns[-1] = Speech(speech.role, turns[-1].at, turns[-1].spots + speech.spots)
        else:
            turns.append(speech)
    return turns


def read_speech(message: Any, at: int, *, is_last: bool) -> Speech:
    """One message, each of its blocks well formed."""
    if not isinstance(message, dict):
        raise Wrong(f"messages.{at}: Input should be a valid dictionary or object to extract fields from")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise Wrong(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    for name in message:
        if name not in ("role", "content", "output_config", "cache_control"):
            raise Wrong(f"messages.{at}.{name}: Extra inputs are not permitted")
    if "content" not in message:
        raise Wrong(f"messages.{at}.content: Field required")
    may_be_empty = role == "system" or (role == "assistant" and is_last)
    if not isinstance(content, str | list):
        raise Wrong(f"messages.{at}.content: Input should be a valid list")
    if not content and not may_be_empty:
        raise Wrong(f"messages.{at}: {role} messages must have non-empty content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    spots = tuple(Spot(at, index, block) for index, block in enumerate(blocks))
    for spot in spots if content else ():
        check_block(spot, role)
    return Speech(role, at, spots)


def check_block(spot: Spot, role: str) -> None:
    where, block = f"messages.{spot.at}.content.{spot.place}", spot.block
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise Wrong(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    match kind:
        case "text":
            if not isinstance(block.get("text"), str):
                raise Wrong(f"{where}.text.text: Field required")
            if not block["text"]:
                raise Wrong("messages: text content blocks must be non-empty")
        case "tool_use" | "server_tool_use":
            check_use(block, where)
        case "tool_result":
            if not isinstance(block.get("tool_use_id"), str):
                raise Wrong(f"{where}.tool_result.tool_use_id: Field required")
            if role != "user":
                raise Wrong(f"messages.{spot.at}: `tool_result` blocks can only be in `user` messages")
        case "thinking" | "redacted_thinking":
            if "cache_control" in block:
                raise Wrong(f"{where}.{kind}.cache_control: Extra inputs are not permitted")
    if role != "assistant" and kind in ("tool_use", "thinking", "redacted_thinking"):
        raise Wrong(f"messages.{spot.at}: `{kind}` blocks can only be in `assistant` messages")


def check_use(block: Json, where: str) -> None:
    kind, pattern = block["type"], SERVER_ID if block["type"] == "server_tool_use" else TOOL_ID
    for name in ("id", "name", "input"):
        if name not in block:
            raise Wrong(f"{where}.{kind}.{name}: Field required")
    if not isinstance(block["id"], str) or not pattern.fullmatch(block["id"]):
        raise Wrong(f"{where}.{kind}.id: String should match pattern '^{pattern.pattern}$'")
    if not isinstance(block["input"], dict):
        raise Wrong(f"{where}.{kind}.input: Input should be a valid dictionary")


def check_thoughts(speech: Speech, genuine: Callable[[Json], bool] | None) -> None:
    """Thinking comes back as it was issued, and is never the last thing said."""
    if speech.role == "assistant" and speech.spots and speech.spots[-1].block["type"] == "thinking":
        raise Wrong(f"messages.{speech.spots[-1].at}: The final block in an assistant message cannot be `thinking`.")
    if genuine is None:
        return
    for at, place, block in speech.of("thinking"):
        if not isinstance(block.get("signature"), str):
            raise Wrong(f"messages.{at}.content.{place}.thinking.signature: Field required")
        if not genuine(block):
            raise Wrong(f"messages.{at}.content.{place}: Invalid `signature` in `thinking` block")
    for at, place, block in speech.of("redacted_thinking"):
        if not genuine(block):
            raise Wrong(f"messages.{at}.content.{place}: Invalid `data` in `redacted_thinking` block")


def check_round(speeches: list[Speech]) -> None:
    """A round of tool calls under way begins with a thought, where the model has a budget to think."""
    if len(speeches) < 2 or not speeches[-1].of("tool_result"):
        return
    at, place, block = speeches[-2].spots[0]
    if block["type"] not in ("thinking", "redacted_thinking"):
        raise Wrong(
            f"messages.{at}.content.{place}.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{block['type']}`. When `thinking` is enabled, a final `assistant` message must start with a thinking "
            "block."
        )


def check_tool_turns(speeches: list[Speech]) -> None:
    """Uses and results in pairs, both directions, results first in their message; no id twice."""
    known: set[str] = set()
    offered: tuple[Spot, ...] = ()
    for speech in speeches:
        check_results(speech, offered)
        offered = tuple(speech.of("tool_use"))
        for spot in offered:
            if spot.block["id"] in known:
                raise Wrong("messages: `tool_use` ids must be unique")
            known.add(spot.block["id"])
    if offered:
        raise Wrong(NO_RESULT.format(at=offered[-1].at, ids=", ".join(spot.block["id"] for spot in offered)))


def check_results(speech: Speech, offered: tuple[Spot, ...]) -> None:
    """The results in one speech against the uses in the one before."""
    wanted = [spot.block["id"] for spot in offered]
    results = speech.of("tool_result")
    answered: set[str] = set()
    for at, place, block in results:
        name = block["tool_use_id"]
        if name not in wanted:
            raise Wrong(NO_USE.format(at=at, block=place, id=name))
        if name in answered:
            raise Wrong(TWO_RESULTS.format(at=at, block=place, id=name))
        answered.add(name)
    first = all(spot.block["type"] == "tool_result" for spot in speech.spots[: len(results)])
    if missing := [name for name in wanted if name not in answered or not first]:
        raise Wrong(NO_RESULT.format(at=offered[-1].at, ids=", ".join(missing)))
