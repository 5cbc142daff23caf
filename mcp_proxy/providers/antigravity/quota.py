"""What is left: of each family of models, in five hours and in a week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Transport
from mcp_proxy.core.provider import Access
from mcp_proxy.core.quota import Bucket, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.providers._times import moment
from mcp_proxy.providers.antigravity.calling import call, project
from mcp_proxy.providers.antigravity.families import CLAUDE, GEMINI, pool_of, window
from mcp_proxy.providers.antigravity.models import available, published

_BUCKETS: Mapping[str, Bucket] = {
    "gemini-5h": GEMINI[0],
    "gemini-weekly": GEMINI[1],
    "3p-5h": CLAUDE[0],
    "3p-weekly": CLAUDE[1],
}


async def quotas(transport: Transport, access: Access, now: Instant) -> tuple[Quota, ...] | Failure:
    """Both windows of both families; of a family that the summary leaves out, what the list of models says."""
    document = await call(transport, access, "retrieveUserQuotaSummary", project(access), now)
    told = () if isinstance(document, Failure) else tuple(read_summary(document, now))
    silent = [windows for windows in (GEMINI, CLAUDE) if not any(quota.bucket in windows for quota in told)]
    if not silent:
        return told
    models = await available(transport, access, now)
    if isinstance(models, Failure):
        return told or models
    listed = tuple(quota for windows in silent for quota in read_listed(models, windows, now))
    if not told and not listed and isinstance(document, Failure):
        return document
    return (*told, *listed)


def read_summary(document: Mapping[str, Any], now: Instant) -> Iterator[Quota]:
    """The buckets of a summary, each once, whatever it is wrapped in."""
    seen: set[Bucket] = set()
    for wrapped in (document, document.get("quotaSummary"), document.get("response")):
        groups = wrapped.get("groups") if isinstance(wrapped, dict) else None
        for group in groups if isinstance(groups, list) else ():
            rows = group.get("buckets") if isinstance(group, dict) else None
            for row in rows if isinstance(rows, list) else ():
                quota = _row(row, now)
                if quota is not None and quota.bucket not in seen:
                    seen.add(quota.bucket)
                    yield quota


def _row(row: Any, now: Instant) -> Quota | None:
    name = row.get("bucketId") if isinstance(row, dict) else None
    if not isinstance(name, str) or name not in _BUCKETS or row.get("disabled") is True:
        return None
    return Quota(_BUCKETS[name], left(row), moment(row.get("resetTime")), now)


def read_listed(document: Mapping[str, Any], windows: tuple[Bucket, Bucket], now: Instant) -> Iterator[Quota]:
    """What a family's models say of their pool. All say the same; where they do not, the least holds."""
    told = [
        (fraction, moment(info.get("resetTime")))
        for model, entry in published(document)
        if pool_of(model) == windows and isinstance(info := entry.get("quotaInfo"), dict)
        if (fraction := left(info)) is not None
    ]
    if told:
        fraction, resets = min(told, key=lambda pair: pair[0])
        # what is used up and stays so for days is the week
        ahead = resets - now if resets is not None and fraction == 0.0 else None
        yield Quota(window(windows, ahead), fraction, resets, now)


def left(row: Mapping[str, Any]) -> float | None:
    """The fraction left. Protobuf leaves a 0 out: where only the reset is told it is 0, where nothing is, unknown."""
    value = row.get("remainingFraction")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(1.0, max(0.0, float(value)))
    return 0.0 if value is None and row.get("resetTime") else None
