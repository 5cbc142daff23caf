"""The table of simulated hosts: what differs between one native vendor and the next, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from mcp_proxy.core.http import Headers
from mcp_proxy.sandbox.accounts import DAY, HOUR, MINUTE, Account, Counts, Model, Window
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.generations import check_claude, check_glm
from mcp_proxy.sandbox.replies import Reply, document
from mcp_proxy.sandbox.wrongs import (
    Refuse,
    anthropic_body,
    anthropic_refusal,
    zai_body,
    zai_refusal,
    zai_time,
)

Limits: TypeAlias = Callable[[Account, float], Headers]
Exhausted: TypeAlias = Callable[[Account, Window, str, float], Reply]
NewId: TypeAlias = Callable[[str], str]
Monitor: TypeAlias = Callable[[Account | None, float], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One vendor.

    prefix       of its Messages endpoints
    auth         headers that may carry the key
    key          a demo key; `{n}` is the account's number
    native       Anthropic itself: takes safeguards and every header, looks at signatures
    signs        its thinking blocks carry a signature
    late_usage   its streams tell input tokens only at the end
    counts       it has `count_tokens`
    lists        it has `/v1/models`
    unknown_key  what a key that nobody has is told
    lost         what an unknown path is told
    limits       what its answers' headers say of the account's windows
    exhausted    what it answers once a window is empty
    crowded      what it answers to more requests at once than the account may have
    monitor      the path that tells what is left, and what it tells
    refuses      raises `Wrong` for what its models do not take, besides what nobody takes
    windows      makes the windows of an account that was given none
    beta         the beta that a request must name to be let in with such a key
    tool_id      a tool use's id from a unique piece of text
    """

    name: str
    models: tuple[Model, ...]
    prefix: str = ""
    auth: tuple[str, ...] = ("x-api-key", "authorization")
    key: str = "sandbox-key-{n}"
    native: bool = False
    signs: bool = True
    late_usage: bool = False
    counts: bool = True
    lists: bool = True
    refuse: Refuse = anthropic_refusal
    unknown_key: Callable[[bool, str], Reply] = field(kw_only=True)
    lost: Callable[[str], Reply] = field(kw_only=True)
    limits: Limits = lambda account, now: ()
    exhausted: Exhausted = field(kw_only=True)
    crowded: Callable[[str], Reply] = field(kw_only=True)
    monitor: tuple[str, Monitor] | None = None
    refuses: Callable[[Json], None] = lambda body: None
    windows: Callable[[], tuple[Window, ...]] = tuple
    beta: str | None = None
    tool_id: NewId = lambda text: f"toolu_01{text}"


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(window: Window, now: float) -> int:
    """Whole seconds until it starts over, never less than one."""
    return max(1, -int(-((window.resets_at or now + MINUTE) - now) // 1))


# Anthropic's dialect


def anthropic_unknown_key(sent: bool, trace: str) -> Reply:
    message = "invalid x-api-key" if sent else "x-api-key header is required"
    return document(401, anthropic_body("authentication_error", message, trace), (("request-id", trace),))


def anthropic_lost(trace: str) -> Reply:
    return document(404, anthropic_body("not_found_error", "Not found", trace), (("request-id", trace),))


def anthropic_limits(account: Account, now: float) -> Headers:
    """Four families, each the account's tightest window of that kind; `tokens` is the tightest of all of them."""
    found: list[tuple[str, str]] = []
    windows = list(account.windows.values())
    for family in Counts:
        own = [window for window in windows if window.counts is family]
        if family is Counts.TOKENS:
            own = own or [window for window in windows if window.counts in (Counts.INPUT, Counts.OUTPUT)]
        if own:
            window = min(own, key=lambda each: each.left)
            # The API rounds tokens to thousands; a window of a few would look empty
            rounded = family is not Counts.REQUESTS and window.capacity >= 100_000
            remaining = round(window.remaining, -3) if rounded else window.remaining
            named = (("limit", str(window.capacity)), ("remaining", str(remaining)))
            resets = rfc3339(window.resets_at or now)
            found += [(f"anthropic-ratelimit-{family}-{name}", value) for name, value in (*named, ("reset", resets))]
    return tuple(found)


def anthropic_exhausted(account: Account, window: Window, trace: str, now: float) -> Reply:
    message = "This request would exceed your account's rate limit. Please try again later."
    wait = ("retry-after", str(seconds_until(window, now)))
    body = anthropic_body("rate_limit_error", message, trace)
    return document(429, body, (("request-id", trace), wait, *anthropic_limits(account, now)))


def anthropic_crowded(trace: str) -> Reply:
    message = "Number of concurrent connections has exceeded your rate limit. Please try again later."
    return document(429, anthropic_body("rate_limit_error", message, trace), (("request-id", trace),))


def minute_windows() -> tuple[Window, ...]:
    """The start tier's limits a minute."""
    return (
        Window("requests", 1_000, counts=Counts.REQUESTS),
        Window("input-tokens", 2_000_000, counts=Counts.INPUT),
        Window("output-tokens", 400_000, counts=Counts.OUTPUT),
    )


# A Claude plan: windows of five hours and a week, told by every answer

CLAIMS = {"5h": "five_hour", "7d": "seven_day"}


def plan_windows() -> tuple[Window, ...]:
    return (Window("5h", 40_000_000, 5 * HOUR), Window("7d", 400_000_000, 7 * DAY))


def plan_limits(account: Account, now: float) -> Headers:
    """The unified headers: a fraction used, unix seconds, and one verdict over both windows."""
    windows = [window for window in account.windows.values() if window.name in CLAIMS]
    if not windows:
        return ()
    tightest = min(windows, key=lambda window: window.left)
    found = [
        ("status", "allowed" if tightest.left > 0 else "rejected"),
        ("reset", str(int(tightest.resets_at or now))),
        ("representative-claim", CLAIMS[tightest.name]),
    ]
    for window in windows:
        found += [
            (f"{window.name}-status", "allowed" if window.left > 0 else "rejected"),
            (f"{window.name}-reset", str(int(window.resets_at or now))),
            (f"{window.name}-utilization", f"{window.used / window.capacity:.2f}"),
        ]
    return tuple((f"anthropic-ratelimit-unified-{name}", value) for name, value in found)


def plan_exhausted(account: Account, window: Window, trace: str, now: float) -> Reply:
    message = "This request would exceed your account's rate limit. Please try again later."
    wait = (("retry-after", str(seconds_until(window, now))), ("x-should-retry", "true"))
    body = anthropic_body("rate_limit_error", message, trace)
    return document(429, body, (("request-id", trace), *wait, *plan_limits(account, now)))


def plan_unknown_login(sent: bool, trace: str) -> Reply:
    """A login that has run out and one that never was are told alike."""
    message = (
        "OAuth token has expired. Please obtain a new token or refresh your existing token."
        if sent
        else "x-api-key header is required"
    )
    return document(401, anthropic_body("authentication_error", message, trace), (("request-id", trace),))


def plan_monitor(account: Account | None, now: float) -> Reply:
    """What a plan has left, in percent; the path of a login that is a person's own."""
    if account is None:
        return plan_unknown_login(True, "req_sandbox_usage")
    told = {
        CLAIMS[window.name]: {"utilization": 100 * (1 - window.left), "resets_at": rfc3339(window.resets_at or now)}
        for window in account.windows.values()
        if window.name in CLAIMS
    }
    return document(200, told)


# Z.AI's dialect

ZAI_WINDOWS: Mapping[str, tuple[int, int, int, str]] = {"5h": (3, 5, 1308, "5 hour"), "7d": (6, 1, 1310, "week")}
"""A window's name to its unit and number on the monitor, its refusal's code and its name in prose."""


def zai_unknown_key(sent: bool, trace: str) -> Reply:
    code, message = (1000, "Authentication Failed") if sent else (1001, "Header is not received")
    return document(401, zai_body(code, message, trace, 401))


def zai_lost(trace: str) -> Reply:
    """A wrong path is a success to HTTP: status 200."""
    return document(200, {"code": 500, "msg": "404 NOT_FOUND", "success": False})


def zai_exhausted(account: Account, window: Window, trace: str, now: float) -> Reply:
    """The reset time stands in the prose alone, without its zone; no `retry-after`."""
    _, _, code, name = ZAI_WINDOWS.get(window.name, (0, 0, 1308, window.name))
    until = zai_time(window.resets_at or now)
    what = "Usage limit reached for 5 hour." if code == 1308 else f"Limit exhausted for this {name}."
    message = f"{what} Your limit will reset at {until}"
    return document(429, zai_body(code, message, trace, 429))


def zai_crowded(trace: str) -> Reply:
    message = "High concurrency usage of this API, please reduce concurrency or contact customer service"
    return document(429, zai_body(1302, message, trace, 429))


def zai_windows() -> tuple[Window, ...]:
    return (Window("5h", 40_000_000, 5 * HOUR), Window("7d", 200_000_000, 7 * DAY))


def zai_monitor(account: Account | None, now: float) -> Reply:
    """Percent used, milliseconds, and a row for tool calls that says nothing of models."""
    if account is None:
        return document(200, {"code": 401, "msg": "token expired or incorrect", "success": False})
    rows: list[dict[str, object]] = []
    for window in account.windows.values():
        unit, number, _, _ = ZAI_WINDOWS.get(window.name, (5, 1, 0, ""))
        resets = None if window.resets_at is None else int(window.resets_at * 1000)
        used = min(100, round(100 * (1 - window.left)))
        rows.append(
            {"type": "TOKENS_LIMIT", "unit": unit, "number": number, "percentage": used, "nextResetTime": resets}
        )
    tools = {"type": "TIME_LIMIT", "unit": 5, "number": 1, "usage": 1000, "currentValue": 14, "remaining": 986}
    details = [{"modelCode": "search-prime", "usage": 10}, {"modelCode": "web-reader", "usage": 4}]
    rows.append({**tools, "percentage": 1, "nextResetTime": int((now + 30 * DAY) * 1000), "usageDetails": details})
    data = {"level": account.level, "limits": rows}
    return document(200, {"code": 200, "msg": "Operation successful", "success": True, "data": data})


CLAUDE = tuple(
    Model(id, name, context)
    for id, name, context in (
        ("claude-fable-5-2", "Claude Fable 5.2", 1_000_000),
        ("claude-opus-5-5", "Claude Opus 5.5", 1_000_000),
        ("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000),
        ("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000),
        ("claude-fable-5", "Claude Fable 5", 1_000_000),
        ("claude-opus-5", "Claude Opus 5", 1_000_000),
        ("claude-sonnet-5", "Claude Sonnet 5", 1_000_000),
        ("claude-opus-4-8", "Claude Opus 4.8", 1_000_000),
        ("claude-opus-4-7", "Claude Opus 4.7", 1_000_000),
        ("claude-opus-4-6", "Claude Opus 4.6", 1_000_000),
        ("claude-sonnet-4-6", "Claude Sonnet 4.6", 1_000_000),
        ("claude-opus-4-5-20251101", "Claude Opus 4.5", 200_000),
        ("claude-opus-4-5", "Claude Opus 4.5", 200_000),
        ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", 200_000),
        ("claude-sonnet-4-5", "Claude Sonnet 4.5", 200_000),
        ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", 200_000),
        ("claude-haiku-4-5", "Claude Haiku 4.5", 200_000),
    )
)
GLM = (
    Model("glm-5.3", "GLM-5.3", 1_000_000, counts=False),
    Model("glm-5.2", "GLM-5.2", 1_000_000),
    *(Model(name, name.upper()) for name in ("glm-5.1", "glm-5", "glm-5-turbo", "glm-4.7", "glm-4.7-flash")),
    *(Model(name, name.upper(), 128_000) for name in ("glm-4.6", "glm-4.6v", "glm-4.5", "glm-4.5v", "glm-4.5-air")),
)
OWN = (Model("sandbox-large", "Sandbox Large"), Model("sandbox-small", "Sandbox Small"))

ANTHROPIC = Host(
    name="anthropic",
    models=CLAUDE,
    key="sk-ant-sandbox-{n}",
    native=True,
    unknown_key=anthropic_unknown_key,
    lost=anthropic_lost,
    limits=anthropic_limits,
    refuses=check_claude,
    exhausted=anthropic_exhausted,
    crowded=anthropic_crowded,
    windows=minute_windows,
)
SUBSCRIPTION = Host(
    name="claude-subscription",
    models=CLAUDE,
    auth=("authorization",),
    key="sk-ant-oat01-sandbox-{n}",
    native=True,
    unknown_key=plan_unknown_login,
    lost=anthropic_lost,
    limits=plan_limits,
    refuses=check_claude,
    exhausted=plan_exhausted,
    crowded=anthropic_crowded,
    monitor=("/api/oauth/usage", plan_monitor),
    windows=plan_windows,
    beta="oauth-2025-04-20",
)
ZAI = Host(
    name="zai",
    models=GLM,
    prefix="/api/anthropic",
    key="5a0db0c5000000000000000000000000.sandbox-{n}",
    signs=False,
    late_usage=True,
    lists=False,
    refuse=zai_refusal,
    refuses=check_glm,
    unknown_key=zai_unknown_key,
    lost=zai_lost,
    exhausted=zai_exhausted,
    crowded=zai_crowded,
    monitor=("/api/monitor/usage/quota/limit", zai_monitor),
    windows=zai_windows,
    tool_id=lambda text: f"call_{text.lower()}",
)
CUSTOM = Host(
    name="custom",
    models=OWN,
    key="sandbox-custom-{n}",
    counts=False,
    unknown_key=anthropic_unknown_key,
    lost=anthropic_lost,
    exhausted=anthropic_exhausted,
    crowded=anthropic_crowded,
)
NATIVE: Mapping[str, Host] = {host.name: host for host in (ANTHROPIC, SUBSCRIPTION, ZAI, CUSTOM)}
