"""Google as a row of the table of hosts: its sign-in and its Cloud Code, all under one address."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_proxy.sandbox.accounts import MINUTE, Account, Window
from mcp_proxy.sandbox.google.account import google_windows
from mcp_proxy.sandbox.google.models import CATALOG
from mcp_proxy.sandbox.google.wrongs import (
    BARE,
    NO_CREDENTIALS,
    NOT_FOUND,
    error_info,
    google_error,
    google_refusal,
)
from mcp_proxy.sandbox.hosts import Host, rfc3339
from mcp_proxy.sandbox.replies import Reply, page


@dataclass(frozen=True, slots=True, kw_only=True)
class Google(Host):
    """Google's row.

    oldest  the oldest version of each kind of client that gets answers and not the note to upgrade
    recent  the oldest version of the client in an editor that gets the newest models
    """

    oldest: tuple[tuple[str, tuple[int, ...]], ...] = (("", (2, 0, 0)), ("hub", (2, 0, 0)), ("cli", (1, 1, 0)))
    recent: tuple[int, ...] = (2, 9, 0)


def unknown_key(sent: bool, trace: str) -> Reply:
    info = error_info("ACCESS_TOKEN_INVALID" if sent else "CREDENTIALS_MISSING", service="cloudcode-pa.googleapis.com")
    return google_error(401, NO_CREDENTIALS, info)


def lost(trace: str) -> Reply:
    return page(404, "<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title>")


def crowded(trace: str) -> Reply:
    return google_error(429, BARE)


def exhausted(account: Account, window: Window, trace: str, now: float) -> Reply:
    resets_at = window.resets_at or now + MINUTE
    return google_error(429, *quota_used_up(max(0.0, resets_at - now), now, ""))


def quota_used_up(seconds: float, now: float, model: str) -> tuple[str, dict[str, object], dict[str, object]]:
    """The message and the details of a 429 for a spent window, each with the time it starts over in its own way."""
    info = error_info(
        "QUOTA_EXHAUSTED",
        model=model,
        quotaResetDelay=go_duration(seconds),
        quotaResetTimeStamp=rfc3339(now + seconds),
        uiMessage="true",
    )
    prose = f"Individual quota reached. Contact your administrator to enable overages. Resets in {whole(seconds)}."
    return prose, info, retry_info(seconds)


def retry_info(seconds: float) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:.9f}s"}


def go_duration(seconds: float) -> str:
    """As Go writes it: `71h15m27.5s`, `479.4ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.6f}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{int(hours)}h"] * bool(hours) + [f"{int(minutes)}m"] * bool(hours or minutes)
    return "".join(parts) + f"{rest:.9f}".rstrip("0").rstrip(".") + "s"


def whole(seconds: float) -> str:
    return go_duration(float(int(seconds))) if seconds >= 1 else "0s"


ANTIGRAVITY = Google(
    name="antigravity",
    models=CATALOG,
    auth=("authorization",),
    key="1//sk-fake-antigravity-{n}",
    refuse=google_refusal,
    unknown_key=unknown_key,
    lost=lost,
    exhausted=exhausted,
    crowded=crowded,
    windows=google_windows,
    tool_id=lambda text: f"toolu_vrtx_01{text}",
)

__all__ = ["ANTIGRAVITY", "NOT_FOUND", "Google", "go_duration", "quota_used_up", "retry_info"]
