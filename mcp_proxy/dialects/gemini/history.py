"""A conversation in the strict form Gemini's wire wants, whatever state it came in.

Turns alternate, the user's comes first and last. A turn with calls is followed by one that begins with a result for
each of them, in their order; a call that was interrupted is answered as such, a result nobody asked for becomes text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.dialects.gemini.blocks import Part, blocks_of, parts, reminder, result
from mcp_proxy.dialects.gemini.names import sent_id
from mcp_proxy.dialects.gemini.profile import Profile
from mcp_proxy.dialects.gemini.signature import unsealed
from mcp_proxy.dialects.gemini.tools import Tools
from mcp_proxy.dialects.json_text import loads

_NOTHING = {"text": "."}
"""What a user says who says nothing: an empty text is refused."""

_GO_ON = {"text": "Continue."}
"""Claude 4.6 refuses a conversation that ends with its own words."""

_INTERRUPTED = {"error": "Interrupted: there is no result."}


@dataclass(slots=True)
class Call:
    """A tool call of the model's.

    id    as the client knows it
    sent  as the upstream gets it
    """

    id: object
    sent: str
    name: str
    args: dict[str, Any]
    signature: str | None


@dataclass(slots=True)
class Said:
    """A turn of the model's.

    foreign  some of its thoughts were another model's, or unsigned, and are left out
    """

    thoughts: list[Part] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    foreign: bool = False


@dataclass(slots=True)
class Heard:
    """A turn of the user's.

    results  tool results as they came
    answers  of those, what answers the calls before it
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    answers: list[Part] = field(default_factory=list)


class History:
    """A conversation, read once and repaired.

    mentioned  the tools it names
    """

    def __init__(self, messages: list[Any], tools: Tools, profile: Profile, trust_signatures: bool) -> None:
        self.mentioned: set[str] = set()
        self._tools = tools
        self._profile = profile
        self._trust = trust_signatures
        self._ids: set[str] = set()
        self._turns: list[Said | Heard] = []
        for message in messages:
            if isinstance(message, dict):
                self._read(message)
        self._pair()

    def _read(self, message: dict[str, Any]) -> None:
        role, content = message.get("role"), message.get("content")
        if role in ("assistant", "model"):
            said = self._said(content)
            if not (said.parts or said.calls):
                return
            if self._turns and isinstance(last := self._turns[-1], Said):
                last.thoughts += said.thoughts
                last.parts += said.parts
                last.calls += said.calls
                last.foreign = last.foreign or said.foreign
            else:
                self._turns.append(said)
            return
        last_turn = self._turns[-1] if self._turns else None
        heard = last_turn if isinstance(last_turn, Heard) else Heard()
        if role == "system":
            heard.parts += reminder(content)
            if not heard.parts and heard is not last_turn:
                return
        else:
            self._hear(content, heard)
        if heard is not last_turn:
            self._turns.append(heard)

    def _hear(self, content: Any, heard: Heard) -> None:
        for block in blocks_of(content):
            if isinstance(block, dict) and block.get("type") == "tool_result":
                heard.results.append(block)
                self._mention(block.get("content"))
            else:
                heard.parts += parts(block, self._profile)

    def _mention(self, content: Any) -> None:
        if isinstance(content, list):
            for block in content:
                if isinstance(block, dict) and isinstance(name := block.get("tool_name"), str):
                    self.mentioned.add(name)

    def _said(self, content: Any) -> Said:
        said = Said()
        signature: str | None = None  # of the thoughts before, where it goes back on what follows them
        for block in blocks_of(content):
            match block:
                case {"type": "thinking"}:
                    signature = self._think(block, said) or signature
                case {"type": "redacted_thinking"}:
                    said.foreign = True
                case {"type": "tool_use"}:
                    said.calls.append(self._call(block, signature))
                    signature = None
                case {"type": "image" | "document"}:
                    pass  # no model's own turn holds one
                case _:
                    for part in parts(block, self._profile):
                        said.parts.append(part if signature is None else {**part, "thoughtSignature": signature})
                        signature = None
        return said

    def _think(self, block: dict[str, Any], said: Said) -> str | None:
        signature = unsealed(block.get("signature"), self._profile) if self._trust else None
        if signature is None:
            said.foreign = True
            return None
        if not self._profile.returns_thoughts:
            return signature
        text = block.get("thinking")
        thought = text if isinstance(text, str) else ""
        said.thoughts.append({"text": thought, "thought": True, "thoughtSignature": signature})
        return None

    def _call(self, block: dict[str, Any], signature: str | None) -> Call:
        name = block.get("name")
        name = name if isinstance(name, str) and name else "unknown"
        self.mentioned.add(name)
        sent = sent_id(block.get("id"), self._ids)
        return Call(block.get("id"), sent, self._tools.sent_as(name), _arguments(block.get("input")), signature)

    def _pair(self) -> None:
        """Give each call its result, and see to it that the user begins and ends."""
        if not self._turns or isinstance(self._turns[0], Said):
            self._turns.insert(0, Heard())
        if isinstance(last := self._turns[-1], Said):
            self._turns.append(Heard(parts=[] if last.calls else [_GO_ON]))
        calls: list[Call] = []
        for turn in self._turns:
            if isinstance(turn, Said):
                calls = turn.calls
                continue
            self._answer(calls, turn)
            calls = []

    def _answer(self, calls: list[Call], heard: Heard) -> None:
        left = list(heard.results)
        media: list[Part] = []
        for call in calls:
            found = next((block for block in left if block.get("tool_use_id") == call.id), None)
            response: Any = _INTERRUPTED
            if found is not None:
                left = [block for block in left if block is not found]
                response, more = result(found, self._profile)
                media += more
            answer = {"id": call.sent, "name": call.name, "response": response}
            heard.answers.append({"functionResponse": answer})
        orphans: list[Part] = []
        for block in left:
            response, more = result(block, self._profile)
            if told := next(iter(response.values())):
                orphans.append({"text": f"Result of an earlier tool call:\n{told}"})
            orphans += more
        heard.parts = [*media, *orphans, *heard.parts]

    def can_think(self) -> bool:
        """Whether a model that wants its own thoughts at the head of a round of calls under way finds them there."""
        underway: list[Said] = []
        for turn in reversed(self._turns):
            if isinstance(turn, Said):
                underway.append(turn)
            elif not turn.answers:
                break
        return not underway or (any(said.thoughts for said in underway) and not any(said.foreign for said in underway))

    def contents(self, thinking: bool) -> list[dict[str, Any]]:
        """The request's `contents`. `thinking`: whether the model will think, so that its thoughts go back to it."""
        return [
            {"role": "model", "parts": self._spoken(turn, thinking)}
            if isinstance(turn, Said)
            else {"role": "user", "parts": [*turn.answers, *turn.parts] or [_NOTHING]}
            for turn in self._turns
        ]

    def _spoken(self, said: Said, thinking: bool) -> list[Part]:
        """Thoughts first, calls last: anything else is refused. Of several calls at once the first is signed."""
        spoken = [*said.thoughts, *said.parts] if thinking else list(said.parts)
        for index, call in enumerate(said.calls):
            part: Part = {"functionCall": {"id": call.sent, "name": call.name, "args": call.args}}
            signature = call.signature or (self._profile.sentinel if index == 0 else None)
            if signature is not None:
                part["thoughtSignature"] = signature
            spoken.append(part)
        return spoken


def _arguments(given: Any) -> dict[str, Any]:
    """A call's input as an object; some clients send the text of one."""
    if isinstance(given, str):
        read = loads(given.encode("utf-8", "surrogatepass"))
        given = read if isinstance(read, dict) else given
    if given is None or given == "":
        return {}
    return given if isinstance(given, dict) else {"input": given}
