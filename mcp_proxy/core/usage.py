"""Tokens, as Anthropic counts them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """The four counts of an answer; total input is the three input numbers together.

    reasoning  of `output`, what was thought; None where the upstream does not say

    Source: Anthropic "Messages" reference, `usage`. Numbers in a stream are cumulative: the larger holds.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int | None = None
