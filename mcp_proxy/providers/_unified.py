"""The `anthropic-ratelimit-unified-*` headers of plans, and of gateways that keep a cap of their own.

Observed; their existence is documented. Missing windows are unknown, not empty.
"""

from __future__ import annotations

import math

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Headers
from mcp_proxy.core.quota import ACCOUNT, Bucket, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.providers._errors import Case
from mcp_proxy.providers._times import moment

PREFIX = "anthropic-ratelimit-unified-"
FIVE_HOURS, WEEK, APART = Bucket("5h"), Bucket("7d"), Bucket("7d_oi")
"""A plan's windows, as the headers call them; the last is of models that a plan counts by themselves."""

PAID_BEYOND = 0.01
"""What a window that is used up has left while the plan's owner pays for what goes beyond it: the last to be spent."""

_MODEL_CLAIMS = frozenset({"seven_day_overage_included", "seven_day_opus", "seven_day_sonnet"})
"""Windows that belong to one model: the account's others stay usable."""


def unified(case: Case) -> Failure | None:
    """A refusal that these headers explain; None where they do not reject."""
    told = _told(case.refusal.headers)
    spent = [window for window in ("5h", "7d") if told.get(f"{window}-status") == "rejected"]
    if not spent and told.get("status") != "rejected":
        return None
    if not spent and (told.get("7d_oi-status") == "rejected" or told.get("representative-claim") in _MODEL_CLAIMS):
        return case.limited(until=case.retry_at)
    # Only the windows that reject count: the others' resets are later and mean nothing here.
    resets = [told.get(f"{window}-reset") for window in spent] or [told.get("reset")]
    ends = [end for end in map(moment, resets) if end is not None and end > case.now]
    until = max([*ends, *([case.retry_at] if case.retry_at else [])], default=None)
    return case.limited(ACCOUNT, Instant(until) if until is not None else None)


def read_unified(headers: Headers, now: Instant) -> tuple[Quota, ...]:
    """What is left of each window that is told of, in any response."""
    told = _told(headers)
    paid = told.get("status", "").startswith("allowed")
    return tuple(
        Quota(bucket, left, moment(told.get(f"{bucket.name}-reset")), now)
        for bucket in (FIVE_HOURS, WEEK, APART)
        if (left := _left(told, bucket, paid=paid and bucket != APART)) is not None
    )


def _left(told: dict[str, str], bucket: Bucket, *, paid: bool) -> float | None:
    """The fraction of a window that is free; None where nothing sensible is said.

    paid  whether the request was let through all the same, so that an account's window is no end of it
    """
    if told.get(f"{bucket.name}-status") == "rejected":
        left = 0.0
    else:
        try:
            used = float(told.get(f"{bucket.name}-utilization", "nan"))
        except ValueError:
            return None
        if not math.isfinite(used) or used < 0.0:
            return None
        left = max(0.0, 1.0 - used)
    return max(left, PAID_BEYOND) if paid else left


def _told(headers: Headers) -> dict[str, str]:
    return {name.removeprefix(PREFIX): value for name, value in headers if name.startswith(PREFIX)}
