"""Anthropic with an API key: the wire that all others copy.

Wire: docs.anthropic.com/en/api (errors, rate limits, models); wording as observed, 2026-08 to 2026-11.
"""

from __future__ import annotations

import re
from datetime import UTC

from accounts.model import ApiKeySignIn
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import Headers, header
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Offer, Provider, Serves, Size
from mcp_proxy.core.quota import ACCOUNT, Bucket, Kind, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.cleaning.rules import ANY_TASTE, Taste, Thinking
from mcp_proxy.dialects.native import native_request
from mcp_proxy.providers._asking import discover_models, models_question, verify_by
from mcp_proxy.providers._errors import Case, reader
from mcp_proxy.providers._times import DAY, moment, next_month, prose_time
from mcp_proxy.providers._unified import unified

FAMILIES = ("requests", "tokens", "input-tokens", "output-tokens")
"""What is counted a minute, as the headers `anthropic-ratelimit-<family>-…` name it."""

MILLION = 1_000_000
_MODELS: tuple[tuple[str, str, int | None], ...] = (
    # Documented windows. Sonnet 4.5 has 1M too for those who send its beta, so it never is too small here.
    ("claude-opus-5-5", "Claude Opus 5.5", None),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", None),
    ("claude-haiku-5-5", "Claude Haiku 5.5", None),
    ("claude-fable-5-2", "Claude Fable 5.2", None),
    ("claude-opus-5", "Claude Opus 5", MILLION),
    ("claude-sonnet-5", "Claude Sonnet 5", MILLION),
    ("claude-fable-5", "Claude Fable 5", MILLION),
    ("claude-opus-4-8", "Claude Opus 4.8", MILLION),
    ("claude-opus-4-7", "Claude Opus 4.7", MILLION),
    ("claude-opus-4-6", "Claude Opus 4.6", MILLION),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", MILLION),
    ("claude-opus-4-5", "Claude Opus 4.5", 200_000),
    ("claude-opus-4-5-20251101", "Claude Opus 4.5", 200_000),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5", None),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", None),
    ("claude-haiku-4-5", "Claude Haiku 4.5", 200_000),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", 200_000),
)
_NAME = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?")
_REGAIN = re.compile(r"regain access on \d{4}-\d{2}-\d{2}")
NOT_ENTITLED = re.compile(
    r"Extra usage is required for long context requests|Usage credits are required for fast mode|Fast request rejected"
)
_SPENT = re.compile(r"You have reached your (?:specified )?(?:workspace )?API usage limits")
_UNPAID = "Your credit balance is too low"
_DISABLED = "This organization has been disabled"
_NO_OAUTH = "OAuth authentication is currently not allowed for this organization"


def taste(model: ModelId) -> Taste:
    """What a request for one model has to become for another (docs: "Models overview", "Extended thinking").

    To 4.5 they think by a budget, 4.6 knows both ways, all that came later think as they see fit; 4.5 says 64k tokens
    at most, later ones 128k. A name that tells no version is left alone.
    """
    named = _NAME.fullmatch(model)
    if named is None:
        return ANY_TASTE
    version = int(named[2]), int(named[3] or 0)
    if version <= (4, 5):
        return Taste(Thinking.BUDGET, 64_000 if version == (4, 5) else None)
    return Taste(Thinking.ANY if version == (4, 6) else Thinking.ADAPTIVE, 128_000)


def limit_class(model: ModelId) -> str:
    """The class of models that shares this one's limits (docs: "Rate limits"): 4.5 to 4.8 one, each later its own."""
    named = _NAME.fullmatch(model)
    if named is None:
        return model
    family, major, minor = named.groups()
    if major == "4" and family != "haiku" and int(minor or 0) >= 5:
        return f"{family}-4"
    return f"{family}-{major}-{minor}" if minor else f"{family}-{major}"


def rate(family: str, model: ModelId) -> Bucket:
    """The bucket of what `family` counts, for the class of `model`."""
    return Bucket(f"{family}:{limit_class(model)}", Kind.RATE)


def offer(model: ModelId, display_name: str | None = None, context_window: int | None = None) -> Offer:
    """Any model, with the buckets of its class."""
    return Offer(model, tuple(rate(family, model) for family in FAMILIES), display_name, context_window)


def _plain_offer(model: ModelId) -> Offer:
    return offer(model)


def read_headers(headers: Headers, offer: Offer, now: Instant) -> tuple[Quota, ...]:
    """What is left a minute. `reset` is when a bucket is full again; parts of it are free earlier."""
    found = []
    for family in FAMILIES:
        limit = _count(header(headers, f"anthropic-ratelimit-{family}-limit"))
        left = _count(header(headers, f"anthropic-ratelimit-{family}-remaining"))
        if not limit or left is None:
            continue
        resets = moment(header(headers, f"anthropic-ratelimit-{family}-reset"))
        found.append(Quota(rate(family, offer.model), min(1.0, left / limit), resets, now))
    return tuple(found)


def _count(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 16 else None


def special(case: Case) -> Failure | None:
    """The refusals whose scope the status does not tell. The wording decides only where it opens the message."""
    message = case.message
    if message.startswith((_DISABLED, _NO_OAUTH)):
        return case.refused()
    if case.status in (400, 429) and message.startswith(_UNPAID):
        return case.billing()
    details = case.error.get("details")
    enforced = isinstance(details, dict) and details.get("error_code") == "enforced_spend_limit_reached"
    if case.status in (400, 429) and (enforced or _SPENT.match(message)):
        return _spent(case)
    return _throttled(case) if case.status == 429 else None


def _spent(case: Case) -> Failure:
    """A spend limit: until the date in the prose (UTC), else the next month, when such limits start over."""
    said = prose_time(case.message, UTC, case.now, 32 * DAY) if _REGAIN.search(case.message) else None
    until = said or next_month(case.now)
    return Failure(Blame.ACCOUNT, 429, "rate_limit_error", f"billing: {case.message}", ACCOUNT, until)


def _throttled(case: Case) -> Failure | None:
    if NOT_ENTITLED.match(case.message):
        return case.request()
    if explained := unified(case):
        return explained
    if case.retry_at is None:
        return None
    for family in FAMILIES:
        if header(case.refusal.headers, f"anthropic-ratelimit-{family}-remaining") == "0":
            return case.limited(rate(family, case.offer.model), case.retry_at)
    return None


PROVIDER = Provider(
    name=ProviderName("anthropic"),
    title="Anthropic API",
    base_url="https://api.anthropic.com",
    auth="x-api-key",
    sign_in=ApiKeySignIn(key_page="https://platform.claude.com/settings/keys"),
    serves=Serves(
        offers=tuple(offer(ModelId(name), title, window) for name, title, window in _MODELS),
        sizes={
            Size.FABLE: ModelId("claude-fable-5-2"),
            Size.OPUS: ModelId("claude-opus-5-5"),
            Size.SONNET: ModelId("claude-sonnet-5-5"),
            Size.HAIKU: ModelId("claude-haiku-5-5"),
        },
        offer=_plain_offer,
    ),
    request=native_request(to_anthropic=True, taste=taste),
    read_failure=reader(special),
    read_headers=read_headers,
    discover=discover_models(optional=False),
    verify=verify_by(models_question),
    counts=True,
)
