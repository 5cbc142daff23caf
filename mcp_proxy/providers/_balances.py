"""What the preset vendors say is left. Observed, 2026-08; each endpoint can be set by the name given here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from accounts.model import Verdict, Works
from mcp_proxy.core.failure import Failure, Refusal
from mcp_proxy.core.http import Transport, UpstreamRequest
from mcp_proxy.core.provider import Access
from mcp_proxy.core.quota import Bucket, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.providers._asking import ask, get, unreadable, verdict
from mcp_proxy.providers._times import from_milliseconds, moment
from mcp_proxy.providers._vendors import FIVE_HOURS, MINIMAX_CREDENTIAL, WEEK


def deepseek_balance(access: Access) -> UpstreamRequest:
    """DeepSeek's purse. It knows the key in `authorization` only."""
    return get(access, access.at("balance_url", "/user/balance"), "bearer")


def moonshot_balance(access: Access) -> UpstreamRequest:
    """Moonshot's purse."""
    return get(access, access.at("balance_url", "/v1/users/me/balance"), "bearer")


def openrouter_key(access: Access) -> UpstreamRequest:
    """What OpenRouter knows of a key."""
    return get(access, access.at("key_url", "/api/v1/key"), "bearer")


def kimi_usages(access: Access) -> UpstreamRequest:
    """Kimi Code's windows."""
    return get(access, access.at("quota_url", "/coding/v1/usages"), "bearer")


def minimax_remains(access: Access) -> UpstreamRequest:
    """MiniMax's windows."""
    return get(access, access.at("quota_url", "/v1/api/openplatform/coding_plan/remains"), "bearer")


async def kimi_quotas(transport: Transport, access: Access, now: Instant) -> tuple[Quota, ...] | Failure:
    """`usage` is the week, the limit of 300 minutes the five hours; their numbers are strings."""
    answer = await ask(transport, kimi_usages(access))
    if isinstance(answer, Failure):
        return answer
    document = loads(answer.body)
    if answer.status != 200 or not isinstance(document, dict):
        return unreadable(answer, now)
    found = [_kimi_window(WEEK, document.get("usage"), now)]
    limits = document.get("limits")
    for limit in limits if isinstance(limits, list) else ():
        window = limit.get("window") if isinstance(limit, dict) else None
        if isinstance(window, dict) and _number(window.get("duration")) == 300:
            found.append(_kimi_window(FIVE_HOURS, limit.get("detail"), now))
    return tuple(quota for quota in found if quota is not None)


def _kimi_window(bucket: Bucket, told: Any, now: Instant) -> Quota | None:
    if not isinstance(told, dict):
        return None
    return Quota(bucket, _fraction(told.get("remaining"), told.get("limit")), moment(told.get("resetTime")), now)


async def minimax_quotas(transport: Transport, access: Access, now: Instant) -> tuple[Quota, ...] | Failure:
    """The text models' window of five hours."""
    answer = await ask(transport, minimax_remains(access))
    if isinstance(answer, Failure):
        return answer
    document = loads(answer.body)
    rows = document.get("model_remains") if isinstance(document, dict) else None
    if answer.status != 200 or not isinstance(rows, list):
        return unreadable(answer, now, refused=_minimax_refuses(answer))
    return tuple(minimax_windows(rows, now))


def minimax_windows(rows: Iterable[Any], now: Instant) -> Iterable[Quota]:
    """`current_interval_usage_count` is, against its name, what REMAINS. Other rows are speech and video."""
    for row in rows:
        if isinstance(row, dict) and str(row.get("model_name", "")).startswith("MiniMax-M"):
            left = _fraction(row.get("current_interval_usage_count"), row.get("current_interval_total_count"))
            yield Quota(FIVE_HOURS, left, from_milliseconds(row.get("end_time")), now)
            return


def _minimax_refuses(answer: Refusal) -> bool:
    """A wrong key is told inside a 200."""
    document = loads(answer.body)
    base = document.get("base_resp") if isinstance(document, dict) else None
    return isinstance(base, dict) and str(base.get("status_code")) in MINIMAX_CREDENTIAL


async def minimax_verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether the windows can be read with this key; a key without a plan has none and works too."""
    answer = await ask(transport, minimax_remains(access))
    return verdict(answer, now, refused=isinstance(answer, Refusal) and _minimax_refuses(answer))


async def deepseek_verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether the key opens its purse; an empty one is said."""
    answer = await ask(transport, deepseek_balance(access))
    found = verdict(answer, now)
    document = loads(answer.body) if isinstance(answer, Refusal) else None
    if found.works is Works.YES and isinstance(document, dict) and document.get("is_available") is False:
        return Verdict(Works.YES, "the balance is used up")
    return found


def _fraction(left: Any, whole: Any) -> float | None:
    part, total = _number(left), _number(whole)
    if part is None or not total:
        return None
    return min(1.0, max(0.0, part / total))


def _number(value: Any) -> float | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value)
