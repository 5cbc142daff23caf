"""A client's request as one upstream takes it: the client's bytes, but for what a rule names."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mcp_proxy.core.http import Headers
from mcp_proxy.core.messages import Ask, Member, Span
from mcp_proxy.dialects.cleaning.edits import Edit, edited, removed, whole
from mcp_proxy.dialects.cleaning.generation import OFF, READ, told
from mcp_proxy.dialects.cleaning.history import repaired, sound
from mcp_proxy.dialects.cleaning.rules import ANY_TASTE, Drop, Name, Rules, Taste
from mcp_proxy.dialects.json_text import BadJson, elements, loads, members, members_at, quoted

_BILLING = "x-anthropic-billing-header:"
_BILLING_WITHIN = 200
"""Bytes from the start of `system` in which a billing line has begun."""


class Cleaned(NamedTuple):
    """A body to send. names: what was done to it besides its model's name; each once, in no order that matters."""

    body: bytes
    names: tuple[str, ...] = ()


def cleaned(ask: Ask, model: str, rules: Rules, taste: Taste = ANY_TASTE) -> Cleaned:
    """The body for `model` at an upstream of these `rules`; the client's very object where nothing changes.

    Never raises. Within tools and messages the names of fields are looked for as every client writes them, without
    escapes; what is missed so gets the upstream's own refusal.
    """
    work = _Work(ask, rules)
    if loads(ask.body[slice(*ask.model_span)]) != model:
        work.edits.append(Edit(*ask.model_span, quoted(model)))
    work.leave_fields()
    work.leave_billing_line()
    work.leave_tool_fields()
    if not (rules.own_names and ask.model == model):
        work.tell(taste)
    work.repair_history()
    return work.done()


class _Work:
    """One request on its way through the rules."""

    def __init__(self, ask: Ask, rules: Rules) -> None:
        self.edits: list[Edit] = []
        self._ask, self._body, self._rules = ask, ask.body, rules
        self._members = ask.members or _members(ask.body)
        self._leaving: set[int] = set()
        self._told: dict[str, bytes] = {}
        self._names: list[str] = []

    def value(self, key: str) -> Span | None:
        """Where the value of a member stands: of two of one name the last, as parsers have it."""
        return next((part.value for part in reversed(self._members) if part.key == key), None)

    def done(self) -> Cleaned:
        """All changes at once."""
        added: list[bytes] = []
        for key, text in self._told.items():
            span = self.value(key)
            if span is None:
                added.append(b"," + quoted(key) + b":" + text)
            elif not any(place in self._leaving for place, part in enumerate(self._members) if part.key == key):
                self.edits.append(Edit(*span, text))
        if self._leaving:
            self.edits += removed(whole(self._members), self._leaving)
        if added:
            last = max(part.value.end for place, part in enumerate(self._members) if place not in self._leaving)
            self.edits.append(Edit(last, last, b"".join(added)))
        return Cleaned(edited(self._body, self.edits), tuple(dict.fromkeys(map(str, self._names))))

    def leave_fields(self) -> None:
        """Fields at the top."""
        names = {drop.field for drop in self._rules.fields}
        for place, part in enumerate(self._members):
            if part.key in names:
                self._leaving.add(place)
                self._names.append(part.key)

    def _leave(self, key: str) -> None:
        self._leaving.update(place for place, part in enumerate(self._members) if part.key == key)

    def leave_billing_line(self) -> None:
        """The first block of the system prompt, where it is the client's billing line."""
        span = self.value("system")
        if self._rules.billing_line or span is None:
            return
        if self._body.find(_BILLING.encode(), span.start, min(span.end, span.start + _BILLING_WITHIN)) < 0:
            return
        blocks = elements(self._body, span)
        first = loads(self._body[slice(*blocks[0])]) if blocks else None
        text = first.get("text") if isinstance(first, dict) else None
        if not isinstance(text, str) or not text.startswith(_BILLING):
            return
        self._names.append(Name.BILLING_LINE)
        if len(blocks) == 1:
            self._leave("system")
        else:
            self.edits += removed(blocks, {0})

    def leave_tool_fields(self) -> None:
        """Fields of the tools."""
        span, drops = self.value("tools"), self._rules.tool_fields
        if span is None or not any(self._body.find(b'"%s"' % drop.field.encode(), *span) >= 0 for drop in drops):
            return
        for tool in elements(self._body, span):
            self._leave_of_tool(tool, drops)

    def _leave_of_tool(self, tool: Span, drops: tuple[Drop, ...]) -> None:
        if not any(self._body.find(b'"%s"' % drop.field.encode(), *tool) >= 0 for drop in drops):
            return
        names = {drop.field for drop in drops}
        parts = members_at(self._body, tool)
        leaving = {place for place, part in enumerate(parts) if part.key in names}
        self.edits += removed(whole(parts), leaving)
        self._names += [parts[place].key for place in leaving]

    def tell(self, taste: Taste) -> None:
        """How much to say and to think, as the model knows it."""
        if taste == ANY_TASTE:
            return
        given = {key: loads(self._body[slice(*span)]) for key in READ if (span := self.value(key)) is not None}
        changed, names = told(given, taste)
        self._names += names
        for key, value in changed.items():
            if value is None:
                self._leave(key)
            else:
                self._told[key] = msgspec.json.encode(value)

    def repair_history(self) -> None:
        """What an upstream that looks at signatures would refuse; all thoughts, where it has refused one."""
        span, rules, unsigned = self.value("messages"), self._rules, self._ask.unsigned
        if span is None or not (rules.signed or unsigned):
            return
        if not unsigned and sound(self._body, span, rules.seals):
            return
        change = repaired(self._body, span, rules, unsigned=unsigned)
        self.edits += change.edits
        self._names += change.names
        if change.bare:
            self._stop_thinking()

    def _stop_thinking(self) -> None:
        """A model with a budget wants each round of tool calls to begin with a thought: this one goes on without."""
        span = self.value("thinking")
        thinking = loads(self._told.get("thinking") or self._body[slice(*span)]) if span is not None else None
        if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
            return
        self._names.append(Name.BARE_ROUND)
        self._told["thinking"] = msgspec.json.encode(OFF)
        managed = self.value("context_management")
        if managed is not None and self._body.find(b"clear_thinking", *managed) >= 0:
            self._leave("context_management")  # it may not clear thoughts while there are to be none


def _members(body: bytes) -> tuple[Member, ...]:
    try:
        return members(body)
    except BadJson:
        return ()


def without_betas(headers: Headers, starts: tuple[str, ...]) -> Headers:
    """Headers without the betas whose names begin so; without the header where none is left."""
    return tuple(pair for name, value in headers if (pair := (name, _kept(name, value, starts)))[1])


def _kept(name: str, value: str, starts: tuple[str, ...]) -> str:
    if name != "anthropic-beta" or not any(start in value for start in starts):
        return value
    return ",".join(beta for beta in value.split(",") if not beta.strip().startswith(starts))
