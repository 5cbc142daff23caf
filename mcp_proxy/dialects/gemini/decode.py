"""`streamGenerateContent` bytes to canonical events.

Wire: ai.google.dev/api/generate-content, each object wrapped in `{"response": …}` by Google's Cloud Code API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mcp_proxy.core.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Error,
    ErrorDetail,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageStop,
    ServerToolUsage,
    SignatureDelta,
    Stop,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    started,
)
from mcp_proxy.core.failure import Failure
from mcp_proxy.dialects.gemini import ending
from mcp_proxy.dialects.gemini.encode import Encoded
from mcp_proxy.dialects.gemini.search import search_events
from mcp_proxy.dialects.gemini.signature import sealed
from mcp_proxy.dialects.gemini.wire import Chunks, written
from mcp_proxy.dialects.schema import without

LONGEST_NOTICE = 400
"""Characters of a text that can still be a notice in place of an answer; a longer one is an answer that quotes it."""

NewId: TypeAlias = Callable[[str], str]
"""Makes an id that no other answer has, from how it begins: `msg_`, `toolu_`, `srvtoolu_`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture the model made; `data` is base64."""

    media_type: str
    data: str


class GeminiDecoder:
    """An answer of Gemini's wire in, canonical events out.

    Feed it whatever arrived, cut anywhere: the events are the same. Gemini has no block boundaries, so a block is open
    until a part of another kind comes or the stream ends. Nothing is given before the first content.

    failure   why there is no answer, or none to its end: known from the moment the `Error` event is given. Its `body`
              is the upstream's own error document, where there was one, for the provider to read
    finished  the upstream has said how the answer ends; what is still to come is of no weight
    images    pictures in the answer, for those who asked for them

    `feed` raises `FrameTooLarge`.
    """

    def __init__(self, encoded: Encoded, asked: str, new_id: NewId) -> None:
        self._encoded = encoded
        self._profile = encoded.profile
        self._asked = asked
        self._new_id = new_id
        self._chunks = Chunks()
        self._events: list[Event] = []
        self._usage: dict[str, Any] = {}
        self._finish: str | None = None
        self._detail = ""
        self._heard = False
        self._begun = False
        self._called = False
        self._blocks = 0
        self._open: str | None = None  # "thinking" | "text" | "tool"
        self._signature = ""  # of the open thinking block
        self._loose = ""  # one that came without any thoughts
        self._held: str | None = ""  # the answer's first text while it may still be a notice; None: it is none
        self._found: list[str] = []  # the text of a search, until all is known
        self._grounding: dict[str, Any] = {}
        self._over = False
        self.failure: Failure | None = None
        self.images: list[Image] = []

    @property
    def finished(self) -> bool:
        return self._finish is not None

    def feed(self, data: bytes) -> list[Event]:
        """The events of what is complete now."""
        for value, document in self._chunks.feed(data):
            self._chunk(value, document)
        return self._given()

    def end(self) -> list[Event]:
        """The events of the answer's end. The stream is over; nothing may be fed any more."""
        for value, document in self._chunks.end():
            self._chunk(value, document)
        if not self._over:
            self._close()
        return self._given()

    def _given(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _fail(self, failure: Failure) -> None:
        """The last event: what is open stays open, for it is not whole."""
        self.failure = failure
        self._over = True
        self._events.append(Error(ErrorDetail(failure.type, failure.message)))

    def _chunk(self, value: Any, document: bytes) -> None:
        if self._over:
            return
        self._heard = True
        response = ending.response_in(value, document)
        if isinstance(response, Failure):
            if not self.finished:
                self._fail(response)
            return
        if isinstance(told := response.get("usageMetadata"), dict):
            self._usage.update(told)
        candidates = response.get("candidates")
        if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
            self._candidate(candidates[0])
        elif isinstance(blocked := response.get("promptFeedback"), dict) and blocked.get("blockReason"):
            self._finish = self._finish or "SAFETY"

    def _candidate(self, candidate: dict[str, Any]) -> None:
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and not self._over:
                self._part(part)
        if isinstance(grounding := candidate.get("groundingMetadata"), dict):
            self._grounding.update(grounding)
        finish = candidate.get("finishReason")
        if isinstance(finish, str) and finish:
            self._finish = finish
            detail = candidate.get("finishMessage")
            self._detail = detail if isinstance(detail, str) else ""

    def _part(self, part: dict[str, Any]) -> None:
        told = part.get("thoughtSignature")
        signature = sealed(told, self._profile) if isinstance(told, str) else ""
        text = part.get("text")
        if isinstance(call := part.get("functionCall"), dict):
            self._settle()
            self._call(call, signature)
        elif isinstance(picture := part.get("inlineData"), dict):
            self._settle()
            self._picture(picture)
        elif part.get("thought") is True:
            self._settle()
            self._think(text if isinstance(text, str) else "", signature)
        elif isinstance(text, str) and text:
            self._sign_text(signature)
            self._text(text)
        elif signature and self._open == "thinking" and not self._signature:
            self._signature = signature

    def _think(self, text: str, signature: str) -> None:
        """Thoughts nobody asked to see are not shown."""
        if not self._encoded.thoughts:
            return
        if text and self._open != "thinking":
            signature, self._loose = signature or self._loose, ""
            self._start("thinking", ThinkingBlock())
        if text:
            self._events.append(BlockDelta(self._blocks, ThinkingDelta(text)))
        if self._open == "thinking":
            self._signature = signature or self._signature
        else:
            self._loose = signature or self._loose

    def _sign_text(self, signature: str) -> None:
        """Where Gemini signs a text, the client gives that back on the thoughts before it; without any it may be lost.

        Of Claude it is the thoughts that are signed, even those that nobody was shown.
        """
        if self._open == "thinking" and signature and not (self._profile.returns_thoughts and self._signature):
            self._signature = signature
        if self._loose and self._profile.returns_thoughts:
            self._wordless(self._loose)
        self._loose = ""

    def _sign_call(self, signature: str) -> None:
        """Gemini must get a call's signature back. It travels on the thoughts right before, wordless if need be."""
        loose, self._loose = self._loose, ""
        own = "" if self._profile.returns_thoughts else signature
        if self._open != "thinking":
            if own or loose:
                self._wordless(own or loose)
        elif signature and (own or not self._signature):
            self._signature = signature

    def _wordless(self, signature: str) -> None:
        self._start("thinking", ThinkingBlock())
        self._signature = signature

    def _text(self, text: str) -> None:
        if self._encoded.search is not None:
            self._found.append(text)
            return
        if self._held is not None:
            self._held += text
            if len(self._held) <= LONGEST_NOTICE and self._may_be_notice(self._held):
                return
            text, self._held = self._held, None
        if self._open != "text":
            self._start("text", TextBlock())
        self._events.append(BlockDelta(self._blocks, TextDelta(text)))

    def _may_be_notice(self, text: str) -> bool:
        seen = text.lstrip()
        return any(seen.startswith(notice[: len(seen)]) for notice in self._profile.notices)

    def _settle(self) -> None:
        """What stands beside more than text is an answer: give the text that was held."""
        held, self._held = self._held, None
        if held:
            self._text(held)

    def _call(self, call: dict[str, Any], signature: str) -> None:
        sent = call.get("name")
        if not isinstance(sent, str) or not sent:
            self._fail(ending.broken("the model called a tool without a name"))
            return
        self._begin()
        self._sign_call(signature)
        args = call.get("args")
        given = without(args if isinstance(args, dict) else {}, self._encoded.injected.get(sent, ()))
        self._start("tool", ToolUseBlock(self._new_id("toolu_"), self._encoded.names.get(sent, sent)))
        self._events.append(BlockDelta(self._blocks, InputJsonDelta(written(given).decode())))
        self._called = True

    def _picture(self, picture: dict[str, Any]) -> None:
        """Assistants' turns hold no images, so a conversation only learns that there is one."""
        kind, data = picture.get("mimeType"), picture.get("data")
        if not isinstance(kind, str) or not isinstance(data, str) or not data:
            return
        self.images.append(Image(kind, data))
        self._text(f"[{kind}]")

    def _start(self, kind: str, block: TextBlock | ThinkingBlock | ToolUseBlock) -> None:
        self._begin()
        self._stop()
        self._events.append(BlockStart(self._blocks, block))
        self._open = kind

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            usage = ending.usage_of(self._usage)
            usage.output_tokens = 0
            self._events.append(started(self._new_id("msg_"), self._asked, usage))

    def _stop(self) -> None:
        """End the open block, if one is."""
        if self._open is None:
            return
        if self._signature:
            self._events.append(BlockDelta(self._blocks, SignatureDelta(self._signature)))
            self._signature = ""
        self._events.append(BlockStop(self._blocks))
        self._blocks += 1
        self._open = None

    def _close(self) -> None:
        """The answer's end, told only as the upstream told it."""
        finish = self._finish
        if finish is None:
            self._fail(ending.cut_short() if self._heard else ending.unreadable())
            return
        if self._held and any(self._held.lstrip().startswith(notice) for notice in self._profile.notices):
            self._fail(ending.outdated(self._held.strip()))
            return
        self._settle()
        reason = ending.stop_reason(finish, self._called)
        usage = ending.usage_of(self._usage)
        if reason is None:
            self._fail(ending.broken(f"the model gave no valid answer ({finish}) {self._detail}".rstrip()))
            return
        if self._found:
            self._search_answer()
            usage.server_tool_use = ServerToolUsage(1)
        if not self._begun and reason == "end_turn":
            self._fail(ending.broken("the model gave an empty answer"))
            return
        self._begin()
        self._stop()
        self._events += [MessageDelta(Stop(reason), usage), MessageStop()]
        self._over = True

    def _search_answer(self) -> None:
        self._begin()
        asked = self._encoded.search or ""
        self._events += search_events("".join(self._found), self._grounding, asked, self._new_id)
