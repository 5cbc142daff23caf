"""What the preset vendors mean by their own error codes. Where a reader says None, the HTTP status tells.

Wire: the vendors' error tables and field reports, 2026-08; tests/wire holds one answer of each kind.
"""

from __future__ import annotations

import re

from mcp_proxy.core.failure import Blame, Failure, error_type
from mcp_proxy.core.quota import Bucket
from mcp_proxy.core.time import after
from mcp_proxy.providers._errors import Case
from mcp_proxy.providers._times import DAY, yearless_time

FIVE_HOURS, WEEK = Bucket("5h"), Bucket("7d")
PLAN = Bucket("plan")
"""Alibaba's plan allowance: it cannot be asked for, but its refusals say when it starts over."""


def moonshot(case: Case) -> Failure | None:
    """Moonshot: 429 means rate, overload or an empty purse; the type or the words tell which."""
    if "exceeded_current_quota" in (case.type + case.code):
        return case.billing()
    if "incorrect_api_key" in case.type:
        return case.refused()
    if case.status == 429 and ("overloaded" in case.type or "engine is currently overloaded" in case.message):
        return case.trouble(529)
    return None


def kimi_code(case: Case) -> Failure | None:
    """Kimi Code takes known coding agents only and tells by the user agent: the account is not at fault."""
    if case.status == 403 and "exceeded_current_quota" not in (case.type + case.code):
        return Failure(Blame.MODEL, 403, error_type(403), case.message, headers=case.headers)
    return moonshot(case)


MINIMAX_TRANSIENT = frozenset({"1000", "1001", "1024", "1033"})
MINIMAX_THROTTLED = frozenset({"1002", "1041", "2045"})
MINIMAX_CREDENTIAL = frozenset({"1004", "2049"})
MINIMAX_OF_THE_REQUEST = frozenset({"1026", "1027", "1039", "2013"})
_MINIMAX_CODES = (
    MINIMAX_TRANSIENT
    | MINIMAX_THROTTLED
    | MINIMAX_CREDENTIAL
    | MINIMAX_OF_THE_REQUEST
    | frozenset({"1008", "2056", "2064"})
)
_IN_PARENTHESES = re.compile(r"\((\d{4})\)")


def minimax(case: Case) -> Failure | None:
    """MiniMax: a plan's wall and a throttle have the same status and type, the code in parentheses tells."""
    said = [case.code, *_IN_PARENTHESES.findall(case.message)]
    code = next((code for code in reversed(said) if code in _MINIMAX_CODES), "")
    if code in MINIMAX_OF_THE_REQUEST:
        return case.request()
    if code in MINIMAX_CREDENTIAL:
        return case.refused()
    if code in MINIMAX_TRANSIENT:
        return case.trouble(504 if code == "1001" else 500)
    if code in MINIMAX_THROTTLED:
        return case.limited(until=case.in_seconds(10))
    match code:
        case "1008":
            return case.billing()
        case "2056":
            return case.limited(FIVE_HOURS, case.retry_at)
        case "2064":
            return case.trouble(529)
    return None


def alibaba(case: Case) -> Failure | None:
    """Alibaba: code strings; a plan's wall has a time in its prose, UTC and without a year."""
    match case.code or case.type:
        case "Throttling.RateQuota" | "Throttling.BurstRate":
            return case.limited(until=case.in_seconds(10))
        case "Throttling.AllocationQuota":
            # Without a time it is the minute's tokens.
            until = yearless_time(case.message, case.now, 32 * DAY)
            return case.limited(PLAN, until) if until else case.limited(until=case.retry_at)
        case "AllocationQuota.FreeTierOnly":
            return case.model(after(case.now, DAY), 403)
        case "Arrearage":
            return case.billing()
        case "InvalidApiKey":
            return case.refused()
        case "DataInspectionFailed":
            return case.request()
    return None


def openrouter(case: Case) -> Failure | None:
    """OpenRouter: its codes are HTTP statuses; 403 is its moderation of this request."""
    if case.status == 403 and case.json:
        return case.request()
    return None
