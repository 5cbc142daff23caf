"""The two pools of an account's quota, and what they are called."""

from __future__ import annotations

from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.quota import Bucket
from mcp_proxy.dialects.gemini.profile import Family, Profile, profile_of
from mcp_proxy.providers._times import HOUR, MINUTE

GEMINI = (Bucket("gemini-5h"), Bucket("gemini-7d"))
CLAUDE = (Bucket("claude-5h"), Bucket("claude-7d"))
"""Five hours and a week. GPT draws on Claude's."""

FIVE_HOURS = 5 * HOUR + 5 * MINUTE
"""Seconds ahead that a window of five hours resets at most, and a little for clocks that differ."""


def pool(profile: Profile) -> tuple[Bucket, Bucket]:
    """The two windows that a model draws on."""
    return GEMINI if profile.family is Family.GEMINI else CLAUDE


def pool_of(model: str) -> tuple[Bucket, Bucket]:
    """The same by a model's name."""
    return pool(profile_of(ModelId(model)))


def window(windows: tuple[Bucket, Bucket], seconds: float | None) -> Bucket:
    """Which of a pool's windows it is that resets in so many seconds; None: nobody says."""
    return windows[0] if seconds is None or seconds <= FIVE_HOURS else windows[1]
