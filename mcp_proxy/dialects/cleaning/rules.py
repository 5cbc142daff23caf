"""What one upstream is not sent, as data: each rule with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Drop(NamedTuple):
    """A field that stays here.

    field   at the top of a request, or in each of its tools
    reason  why; for people
    beta    how the names of the betas begin that speak of it: field and beta travel together or not at all
    """

    field: str
    reason: str
    beta: str | None = None


class Name(StrEnum):
    """What was done to a request, besides leaving fields out, which goes by their names."""

    BILLING_LINE = "billing_line"
    UNSIGNED_THINKING = "unsigned_thinking"
    REFUSED_THINKING = "refused_thinking"
    TOOL_ID = "tool_id"
    SERVER_TOOL = "server_tool"
    THINKING = "thinking"
    EFFORT = "effort"
    MAX_TOKENS = "max_tokens"
    BARE_ROUND = "bare_round"


class Thinking(StrEnum):
    """How a model is told to think.

    ANY       as the client says
    BUDGET    on with a budget of tokens, or off; knows neither `adaptive` nor effort
    ADAPTIVE  as it sees fit, or off; a budget is refused
    EFFORT    the same, and how much goes by effort: a budget would be ignored, for the most it can
    ALWAYS    the same, and cannot be switched off
    """

    ANY = "any"
    BUDGET = "budget"
    ADAPTIVE = "adaptive"
    EFFORT = "effort"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Taste:
    """What one model takes.

    max_output  the most `max_tokens` may say; None: unknown
    """

    thinking: Thinking = Thinking.ANY
    max_output: int | None = None


ANY_TASTE = Taste()

SAFEGUARDS = Drop(
    "safeguards", "it names the user's folders and rules, and nobody else can judge", "dangerous-tool-use-"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an upstream is not sent.

    fields        at the top of a request
    tool_fields   in its tools
    billing_line  whether it gets the client's billing line, which is part of the prompt for whoever does not strip it
    signed        whether it looks at the history as Anthropic does: signatures it issued, ids in its own pattern
    seals         how signatures begin that are ours, around another upstream's own
    own_names     whether a model keeps what was said to it under its own name, also what it refuses: the client has to
                  hear of it
    """

    fields: tuple[Drop, ...] = ()
    tool_fields: tuple[Drop, ...] = ()
    billing_line: bool = True
    signed: bool = False
    seals: tuple[str, ...] = ()
    own_names: bool = False

    @property
    def betas(self) -> tuple[str, ...]:
        """How the names of betas begin that stay here."""
        return tuple(drop.beta for drop in (*self.fields, *self.tool_fields) if drop.beta is not None)


ELSEWHERE = Rules(fields=(SAFEGUARDS,), billing_line=False)
"""Any upstream but Anthropic, as long as nothing more is known of it."""
