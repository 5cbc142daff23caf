"""What a model says, on Gemini's wire: an answer's blocks as parts, in pieces or as one document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.sandbox.answers import Answer, Json, Raw, Redacted, Text, Thinking, ToolUse, cut
from mcp_proxy.sandbox.google.models import Family, GoogleModel
from mcp_proxy.sandbox.google.signing import of_call, sign

FINISHES = {"max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one exchange, as `usageMetadata` tells them."""

    prompt: int
    cached: int
    said: int
    thought: int

    def document(self, family: Family, *, last: bool) -> Json:
        """Only Google's own models tell thoughts apart; only the last piece tells the sum."""
        apart = family is Family.GEMINI and self.thought
        said = self.said if apart else self.said + self.thought
        told: Json = {"promptTokenCount": self.prompt, "candidatesTokenCount": said if last else 1}
        if self.cached:
            told["cachedContentTokenCount"] = self.cached
        if apart:
            told["thoughtsTokenCount"] = self.thought
        return {**told, "totalTokenCount": self.prompt + self.said + self.thought} if last else told


@dataclass(slots=True)
class Speech:
    """An answer bound to a request.

    thoughts   whether they are shown
    new_id     of a call
    remember   takes every signature that was given by a test, so that it is good when it comes back
    grounding  what it rests on, where it searched
    """

    answer: Answer
    model: GoogleModel
    counted: Counted
    id: str
    thoughts: bool
    new_id: Callable[[], str]
    remember: Callable[[str], None]
    grounding: Json | None = None
    _signed: bool = field(default=False, init=False)
    _called: bool = field(default=False, init=False)

    def pieces(self) -> list[Json]:
        """The parts, cut as a stream has them."""
        found: list[Json] = []
        for block in self.answer.blocks:
            match block:
                case Thinking(text, signature):
                    found += self._thought(text, signature)
                case Text(text):
                    found += self._text(text, after=bool(found) and "thought" in found[-1])
                case ToolUse(name, given, id):
                    found.append(self._call(name, dict(given), id))
                case Redacted():
                    raise ValueError("Google's models redact nothing")
                case Raw(raw):
                    found.append(dict(raw))
        if self.model.family is Family.CLAUDE or not found:
            found.append({"text": ""})
        elif self.model.budgets and not self._signed and "text" in found[-1] and not self.thoughts:
            found.append({"text": "", "thoughtSignature": sign(self.model.family, "")})
        return found

    def _thought(self, text: str, given: str | None) -> list[Json]:
        if not self.thoughts:
            return []
        found: list[Json] = [{"thought": True, "text": piece} for piece in cut(text, self.answer.pieces)]
        if given is not None:
            self.remember(given)
        if self.model.family is Family.CLAUDE:
            found.append({"thought": True, "text": "", "thoughtSignature": given or sign(Family.CLAUDE, text)})
        elif given is not None:
            found.append({"thought": True, "text": "", "thoughtSignature": given})
        return found

    def _text(self, text: str, *, after: bool) -> list[Json]:
        """Google's own models sign the first text behind their thoughts."""
        found: list[Json] = [{"text": piece} for piece in cut(text, self.answer.pieces)]
        if after and found and self.model.family is Family.GEMINI:
            found[0]["thoughtSignature"] = sign(Family.GEMINI, "")
            self._signed = True
        return found

    def _call(self, name: str, args: dict[str, Any], id: str | None) -> Json:
        """Of several calls at once Google's own models sign the first one, and give none an id."""
        call: Json = {"name": name, "args": args}
        if self.model.family is not Family.GEMINI:
            return {"functionCall": {"id": id or self.new_id(), **call}}
        part: Json = {"functionCall": {"id": id, **call} if id else call}
        if self.model.budgets and not self._called:
            part["thoughtSignature"] = sign(Family.GEMINI, of_call(call))
            self._called = True
        return part

    @property
    def finish(self) -> str:
        reason = self.answer.stop_reason or ""
        return reason if reason.isupper() else FINISHES.get(reason, "STOP")

    def chunks(self) -> Iterator[Json]:
        """The answer as a stream."""
        pieces = self.pieces()
        for index, part in enumerate(pieces):
            last = index == len(pieces) - 1
            candidate: Json = {"content": {"role": "model", "parts": [part]}}
            if last:
                candidate |= {"finishReason": self.finish, **self._grounds()}
            told: Json = {"candidates": [candidate]}
            if last or index == 0:
                told["usageMetadata"] = self.counted.document(self.model.family, last=last)
            yield self._wrapped(told)

    def document(self) -> Json:
        """The answer in one piece, as who does not stream gets it."""
        content = {"role": "model", "parts": self.pieces()}
        candidate: Json = {"index": 0, "content": content, "finishReason": self.finish, **self._grounds()}
        usage = self.counted.document(self.model.family, last=True)
        return self._wrapped({"candidates": [candidate], "usageMetadata": usage})

    def _grounds(self) -> Json:
        return {} if self.grounding is None else {"groundingMetadata": self.grounding}

    def _wrapped(self, told: Json) -> Json:
        told |= {"modelVersion": self.answer.model or self.model.id, "responseId": self.id}
        return {"response": told, "traceId": self.id[:16], "metadata": {}}


def data(chunk: Any) -> bytes:
    """One piece in the framing of `alt=sse`."""
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
