"""Z.AI and its Chinese site Zhipu (BigModel): native Anthropic endpoints behind a bearer key.

Wire: docs.z.ai/devpack/tool/claude and docs.bigmodel.cn (error codes); the monitor endpoint as observed, 2026-08.
Two windows a key, shared by all its models. The sites' keys are not interchangeable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from accounts.model import ApiKeySignIn, Verdict, Works
from mcp_proxy.core.failure import Failure, Refusal
from mcp_proxy.core.http import Transport, UpstreamRequest
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Access, Offer, Provider, Serves, Size
from mcp_proxy.core.quota import ACCOUNT, Bucket, Quota
from mcp_proxy.core.time import Instant, after
from mcp_proxy.dialects.cleaning.rules import ANY_TASTE, SAFEGUARDS, Drop, Rules, Taste, Thinking
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.native import native_request
from mcp_proxy.providers._asking import ask, get, unreadable, verdict
from mcp_proxy.providers._errors import Case, reader
from mcp_proxy.providers._times import CHINA, DAY, HOUR, MINUTE, from_milliseconds, next_day, prose_time

FIVE_HOURS, WEEK = Bucket("5h"), Bucket("7d")

COMFORT = 3
"""Requests in flight a key takes without refusals; undocumented, 1 to 5 measured, more on larger plans."""

REFUSED = "mostly ignored, on some models refused as 1210, 1213 or 1214 (field reports, 2026-08)"

NOTICE = (
    "The Coding Plan's terms allow its own subscriber in supported coding tools only: "
    "pooling or sharing such keys can end in throttling or a ban. Pay-as-you-go keys have no such rule."
)

_RULES = Rules(
    fields=(
        SAFEGUARDS,
        Drop("context_management", REFUSED, "context-management-"),
        Drop("container", REFUSED, "skills-"),
        Drop("mcp_servers", REFUSED, "mcp-client-"),
        Drop("service_tier", REFUSED),
        Drop("speed", REFUSED, "fast-mode-"),
        Drop("inference_geo", REFUSED),
    ),
    tool_fields=(Drop("strict", REFUSED), Drop("defer_loading", REFUSED, "advanced-tool-use-")),
    billing_line=False,
)

_MODELS: tuple[tuple[str, int | None], ...] = (
    ("glm-5.3", None),
    ("glm-5.3[1m]", 1_000_000),
    ("glm-5.2", 1_000_000),
    ("glm-5.2[1m]", 1_000_000),
    ("glm-5.1", 200_000),
    ("glm-5", 200_000),
    ("glm-5-turbo", 200_000),
    ("glm-5v-turbo", None),
    ("glm-4.7", 200_000),
    ("glm-4.7-flash", 200_000),
    ("glm-4.6", 200_000),
    ("glm-4.6v", None),
    ("glm-4.5", 128_000),
    ("glm-4.5-air", 128_000),
    ("glm-4.5v", None),
)

_VERSION = re.compile(r"glm-(\d+)(?:\.(\d+))?")


def taste(model: ModelId) -> Taste:
    """How a generation is told to think, by its version (observed, 2026-08); what names none is left alone.

    To 5.1 it is on or off. From 5.2 it goes by effort, and a budget means the most there is; 5.3 always thinks.
    """
    named = _VERSION.match(model.lower())
    if named is None:
        return ANY_TASTE
    version = int(named[1]), int(named[2] or 0)
    if version >= (5, 3):
        return Taste(Thinking.ALWAYS)
    if version >= (5, 2) or "turbo" in model:
        return Taste(Thinking.EFFORT)
    return Taste(Thinking.BUDGET)


TRANSIENT = frozenset({"500", "1100", "1200", "1230", "1234"})
CREDENTIAL = frozenset({"1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112", "1120", "1121"})
OF_THE_REQUEST = frozenset({"1210", "1212", "1213", "1214", "1215", "1231", "1300", "1301"})
NO_SUCH_MODEL = frozenset({"1211", "1220", "1221", "1222"})
TOO_MANY_AT_ONCE = frozenset({"1302", "1303"})
MODEL_BUSY = frozenset({"1305", "1312"})
PLAN_OVER = frozenset({"1309", "1314"})
WINDOWS: dict[str, tuple[Bucket, float]] = {
    # The bucket that is empty, and how far ahead its reset can be.
    "1308": (FIVE_HOURS, 5 * HOUR + MINUTE),
    "1310": (WEEK, 8 * DAY),
    "1316": (FIVE_HOURS, 5 * HOUR + MINUTE),
    "1317": (WEEK, 8 * DAY),
    "1318": (ACCOUNT, 32 * DAY),
    "1319": (ACCOUNT, 32 * DAY),
    "1320": (ACCOUNT, 32 * DAY),
    "1321": (ACCOUNT, 32 * DAY),
}
"""The error table, by what the codes have in common (docs.bigmodel.cn, "Error codes", and field reports)."""

_IN_BRACKETS = re.compile(r"\s*\[(\d{3,4})\]")


def special(case: Case) -> Failure | None:
    """By `error.code`, else the number in brackets that opens the message; None leaves it to the status."""
    if "404 NOT_FOUND" in case.message and not case.error:
        return case.misdirected()
    code = _code(case)
    if code in OF_THE_REQUEST or case.status == 435:
        return case.request()
    if code == "1261":
        # In these words a client knows that it must compact.
        return case.request(f"prompt is too long: {case.message}")
    if code in CREDENTIAL:
        return case.refused()
    if code in TRANSIENT:
        return case.trouble(500)
    if code in NO_SUCH_MODEL:
        return case.model(status=403 if code == "1220" else 404)
    if case.status == 434:
        return case.model(status=403)
    return _limit(case, code)


def _code(case: Case) -> str:
    opening = _IN_BRACKETS.match(case.message)
    return case.code or (opening[1] if opening else "")


def _limit(case: Case, code: str) -> Failure | None:
    if code in WINDOWS:
        bucket, within = WINDOWS[code]
        until = prose_time(case.message, CHINA, case.now, within)
        return case.limited(bucket, until or case.in_seconds(15 * MINUTE))
    if code in PLAN_OVER:
        return case.billing()
    if code in TOO_MANY_AT_ONCE:
        # Said by several requests at once, so it must not count as several refusals in a row.
        return case.limited(until=case.in_seconds(5))
    if code in MODEL_BUSY:
        return case.limited(until=case.in_seconds(10))
    match code:
        case "1113":
            # "Balance too low" also comes falsely, under concurrency or for models outside the plan: so it closes
            # the model only, and for longer as it is repeated.
            return case.limited()
        case "1304":
            return case.limited(ACCOUNT, next_day(case.now, CHINA))
        case "1311":
            return case.model(after(case.now, DAY), 403)
        case "1313":
            return case.limited(ACCOUNT, case.in_seconds(30 * MINUTE))
    return None


def monitor(access: Access) -> UpstreamRequest:
    """The question what is left. This endpoint takes the key in `authorization` only."""
    url = access.at("quota_url", "/api/monitor/usage/quota/limit")
    return get(access, url, "bearer", (("accept-language", "en-US,en"), ("content-type", "application/json")))


async def quotas(transport: Transport, access: Access, now: Instant) -> tuple[Quota, ...] | Failure:
    """The two windows as the monitor sees them."""
    answer = await ask(transport, monitor(access))
    if isinstance(answer, Failure):
        return answer
    document = loads(answer.body)
    limits = document.get("data", {}) if isinstance(document, dict) else {}
    rows = limits.get("limits") if isinstance(limits, dict) else None
    if answer.status != 200 or not isinstance(rows, list):
        return unreadable(answer, now, refused=_refuses(answer))
    return tuple(read_windows(rows, now))


def read_windows(rows: Iterable[Any], now: Instant) -> Iterable[Quota]:
    """The rows about models, told apart by their unit; tool calls have rows of their own that mean nothing here."""
    for row in rows:
        if not isinstance(row, dict) or row.get("type") not in ("TOKENS_LIMIT", "CREDIT_LIMIT"):
            continue
        bucket = {3: FIVE_HOURS, 6: WEEK}.get(row["unit"]) if isinstance(row.get("unit"), int) else None
        if bucket is None:
            continue
        used = row.get("percentage")
        known = isinstance(used, int | float) and not isinstance(used, bool) and 0 <= used < 1e6
        left = max(0.0, 1.0 - used / 100) if known and used is not None else None
        yield Quota(bucket, left, from_milliseconds(row.get("nextResetTime")), now)


def _refuses(answer: Refusal) -> bool:
    """A wrong key is told inside a 200."""
    document = loads(answer.body)
    code = document.get("code") if isinstance(document, dict) else None
    return isinstance(code, int | str) and str(code) in CREDENTIAL | {"401"}


async def verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether the monitor knows the key."""
    answer = await ask(transport, monitor(access))
    found = verdict(answer, now, refused=isinstance(answer, Refusal) and _refuses(answer))
    if found.works is not Works.YES or isinstance(answer, Failure) or answer.status != 200:
        return found
    document = loads(answer.body)
    if isinstance(document, dict) and document.get("success") is True:
        return found
    return Verdict(Works.UNREACHABLE, f"{access.base_url} gave no answer about this key")


def offer(model: ModelId) -> Offer:
    """Any model: all draw on the same two windows."""
    return Offer(model, (FIVE_HOURS, WEEK), context_window=dict(_MODELS).get(model))


def _site(name: str, title: str, host: str, key_page: str) -> Provider:
    return Provider(
        name=ProviderName(name),
        title=title,
        base_url=f"https://{host}/api/anthropic",
        auth="bearer",
        sign_in=ApiKeySignIn(key_page=key_page, notice=NOTICE),
        serves=Serves(
            offers=tuple(offer(ModelId(model)) for model, _ in _MODELS),
            # The sites map Claude's names themselves, but change how from month to month. Auto mode's classifier
            # asks for a sonnet without thinking, which GLM-4.7 can switch off and every plan includes.
            sizes={
                Size.FABLE: ModelId("glm-5.3"),
                Size.OPUS: ModelId("glm-5.2"),
                Size.SONNET: ModelId("glm-4.7"),
                Size.HAIKU: ModelId("glm-4.5-air"),
            },
            offer=offer,
        ),
        request=native_request(to_anthropic=False, rules=_RULES, taste=taste),
        read_failure=reader(special),
        quotas=quotas,
        verify=verify,
        counts=True,
        comfort=COMFORT,
    )


PROVIDERS = (
    _site("zai", "Z.AI", "api.z.ai", "https://z.ai/manage-apikey/apikey-list"),
    _site("zhipu", "Zhipu (BigModel)", "open.bigmodel.cn", "https://open.bigmodel.cn/usercenter/apikeys"),
)
