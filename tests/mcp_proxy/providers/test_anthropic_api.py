from __future__ import annotations

import pytest

from accounts.model import Secret, Token
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.provider import Access, Listed
from mcp_proxy.core.quota import Bucket, Kind, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.providers.anthropic_api import PROVIDER, limit_class, offer, read_headers
from tests.fakes import answering
from tests.mcp_proxy.dialects.fixtures import FOLDER

NOW = Instant(1_788_177_600.0)
ACCESS = Access("https://api.anthropic.com", "x-api-key", Token(Secret("sk-fake-key")))


@pytest.mark.parametrize(
    ("model", "shared"),
    [
        ("claude-opus-4-8", "opus-4"),
        ("claude-opus-4-5-20251101", "opus-4"),
        ("claude-opus-4-1", "opus-4-1"),
        ("claude-sonnet-4-5-20250929", "sonnet-4"),
        ("claude-sonnet-4-6", "sonnet-4"),
        ("claude-opus-5", "opus-5"),
        ("claude-opus-5-5", "opus-5-5"),
        ("claude-haiku-4-5-20251001", "haiku-4-5"),
        ("claude-haiku-4-5", "haiku-4-5"),
        ("some-preview", "some-preview"),
    ],
)
def test_models_of_a_class_share_their_limits(model: str, shared: str) -> None:
    assert limit_class(ModelId(model)) == shared


def test_headers_tell_what_is_left_a_minute() -> None:
    headers = (
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "250"),
        ("anthropic-ratelimit-requests-reset", "2026-08-31T12:00:30Z"),
        ("anthropic-ratelimit-input-tokens-limit", "2000000"),
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-limit", "0"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
        ("anthropic-ratelimit-tokens-limit", "-4"),
        ("anthropic-ratelimit-tokens-remaining", "9"),
    )
    assert read_headers(headers, offer(ModelId("claude-opus-4-8")), NOW) == (
        Quota(Bucket("requests:opus-4", Kind.RATE), 0.25, Instant(NOW + 30), NOW),
        Quota(Bucket("input-tokens:opus-4", Kind.RATE), 0.0, None, NOW),
    )


def test_no_minute_is_ever_soft_limited() -> None:
    assert all(bucket.kind is Kind.RATE for listed in PROVIDER.serves.offers for bucket in listed.draws_on)


async def test_models_are_listed_page_by_page() -> None:
    first = {"data": [{"id": "claude-a", "display_name": "A"}, {"id": 4}], "has_more": True, "last_id": "claude-a"}
    second = {"data": [{"id": "claude-b"}], "has_more": False, "last_id": "claude-b"}
    transport = answering(first, second)
    assert PROVIDER.discover is not None
    assert await PROVIDER.discover(transport, ACCESS, NOW) == (
        Listed(ModelId("claude-a"), "A"),
        Listed(ModelId("claude-b")),
    )
    assert [request.url for request in transport.asked] == [
        "https://api.anthropic.com/v1/models?limit=1000",
        "https://api.anthropic.com/v1/models?limit=1000&after_id=claude-a",
    ]
    assert ("anthropic-version", "2023-06-01") in transport.asked[0].headers


async def test_the_recorded_list_is_read() -> None:
    assert PROVIDER.discover is not None
    found = await PROVIDER.discover(answering((FOLDER / "responses" / "models.json").read_bytes()), ACCESS, NOW)
    assert isinstance(found, tuple) and len(found) > 1


async def test_a_list_that_never_ends_is_left() -> None:
    pages = [{"data": [{"id": f"m{page}"}], "has_more": True, "last_id": f"m{page}"} for page in range(99)]
    transport = answering(*pages)
    assert PROVIDER.discover is not None
    found = await PROVIDER.discover(transport, ACCESS, NOW)
    assert isinstance(found, tuple) and len(found) == len(transport.asked) == 10


async def test_no_list_is_a_failure_here() -> None:
    assert PROVIDER.discover is not None
    refused = await PROVIDER.discover(answering(b"{}", status=401), ACCESS, NOW)
    assert isinstance(refused, Failure) and refused.blame is Blame.ACCOUNT
    lost = await PROVIDER.discover(answering(b"<html>", status=404), ACCESS, NOW)
    assert isinstance(lost, Failure) and lost.blame is Blame.CONFIG
