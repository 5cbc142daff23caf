"""The `anthropic-ratelimit-unified-*` headers of plans, and of gateways that keep a cap of their own.

Observed; their existence is documented. Missing windows are unknown, not empty.
"""

from __future__ import annotations

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.core.time import Instant
from mcp_proxy.providers._errors import Case
from mcp_proxy.providers._times import moment

_PREFIX = "anthropic-ratelimit-unified-"
_MODEL_CLAIMS = frozenset({"seven_day_overage_included", "seven_day_opus", "seven_day_sonnet"})
"""Windows that belong to one model: the account's others stay usable."""


def unified(case: Case) -> Failure | None:
    """A refusal that these headers explain; None where they do not reject."""
    headers = case.refusal.headers
    told = {name.removeprefix(_PREFIX): value for name, value in headers if name.startswith(_PREFIX)}
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
