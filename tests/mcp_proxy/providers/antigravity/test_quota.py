from __future__ import annotations

from typing import Any

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import NetworkTrouble, Trouble
from mcp_proxy.core.quota import Quota
from mcp_proxy.providers.antigravity.families import CLAUDE, GEMINI
from mcp_proxy.providers.antigravity.quota import left, quotas, read_listed, read_summary
from tests.fakes import FakeResponse, FakeTransport, answering
from tests.mcp_proxy.providers.antigravity.kit import ACCESS, NOW, TOKEN, instant, sample

SUMMARY, MODELS = sample("quota_summary.json"), sample("models.json")
SOON, LATER = "2026-10-07T12:00:00Z", "2026-10-12T12:00:00Z"


async def test_the_summary_tells_both_windows_of_both_families() -> None:
    transport = answering(SUMMARY)
    assert await quotas(transport, ACCESS, NOW) == (
        Quota(GEMINI[1], 0.36892495, instant("2026-10-12T21:58:54Z"), NOW),
        Quota(GEMINI[0], 0.9652436, instant("2026-10-07T19:49:14Z"), NOW),
        Quota(CLAUDE[1], 0.31852826, instant("2026-10-13T09:14:31Z"), NOW),
        Quota(CLAUDE[0], 0.0, instant("2026-10-07T19:19:13Z"), NOW),
    )
    (request,) = transport.asked
    assert request.url == f"{ACCESS.base_url}/v1internal:retrieveUserQuotaSummary"
    assert request.body == b'{"project":"cogent-sample-4mnnp"}'
    assert dict(request.headers)["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("wrapped", [{"quotaSummary": SUMMARY}, {"response": SUMMARY}])
def test_a_summary_may_be_wrapped(wrapped: Any) -> None:
    assert tuple(read_summary(wrapped, NOW)) == tuple(read_summary(SUMMARY, NOW))


async def test_a_family_that_the_summary_leaves_out_is_read_from_the_models() -> None:
    transport = answering({"groups": SUMMARY["groups"][:1]}, MODELS)
    read = await quotas(transport, ACCESS, NOW)
    assert isinstance(read, tuple)
    assert [quota.bucket for quota in read] == [GEMINI[1], GEMINI[0], CLAUDE[0]]
    assert read[-1] == Quota(CLAUDE[0], 0.0, instant(SOON), NOW)
    assert transport.asked[1].url.endswith("/v1internal:fetchAvailableModels")


async def test_where_the_summary_is_refused_the_models_tell() -> None:
    refused = FakeResponse(403, (), (b'{"error":{"code":403,"message":"no"}}',))
    transport = FakeTransport([refused, *answering(MODELS).answers])
    assert await quotas(transport, ACCESS, NOW) == (
        Quota(GEMINI[0], 0.8, instant("2026-10-07T10:47:02Z"), NOW),
        Quota(CLAUDE[0], 0.0, instant(SOON), NOW),
    )


async def test_where_nobody_tells_that_is_a_failure_which_closes_nothing() -> None:
    for transport in (
        answering({"error": {"code": 429, "message": "Resource has been exhausted"}}, status=429),
        FakeTransport([NetworkTrouble(Trouble.CUT, sent=True)]),
    ):
        read = await quotas(transport, ACCESS, NOW)
        assert isinstance(read, Failure) and read.limit is None
        assert read.blame in (Blame.PROVIDER, Blame.NETWORK)


async def test_a_token_that_is_over_is_told_as_such() -> None:
    read = await quotas(answering({"error": {"code": 401, "message": "no"}}, status=401), ACCESS, NOW)
    assert isinstance(read, Failure) and read.blame is Blame.TOKEN


@pytest.mark.parametrize(
    ("row", "fraction"),
    [
        ({}, None),
        ({"resetTime": SOON}, 0.0),
        ({"remainingFraction": 0.4}, 0.4),
        ({"remainingFraction": 1, "resetTime": SOON}, 1.0),
        ({"remainingFraction": 7}, 1.0),
        ({"remainingFraction": -1}, 0.0),
        ({"remainingFraction": "much", "resetTime": SOON}, None),
        ({"remainingFraction": True}, None),
    ],
)
def test_a_fraction_that_is_left_out_is_none_left_only_where_a_reset_is_told(row: Any, fraction: float | None) -> None:
    assert left(row) == fraction


def test_a_model_without_quota_is_unknown_and_not_full() -> None:
    assert tuple(read_listed({"models": {"claude-x": {}, "claude-y": {"quotaInfo": {}}}}, CLAUDE, NOW)) == ()


def test_a_bucket_that_is_switched_off_says_nothing() -> None:
    row = {"bucketId": "3p-5h", "disabled": True, "resetTime": SOON}
    assert tuple(read_summary({"groups": [{"buckets": [row]}]}, NOW)) == ()


def test_what_is_used_up_for_days_is_the_week() -> None:
    for resets, bucket in ((SOON, GEMINI[0]), (LATER, GEMINI[1])):
        models = {"models": {"gemini-pro-agent": {"quotaInfo": {"resetTime": resets}}}}
        assert tuple(read_listed(models, GEMINI, NOW)) == (Quota(bucket, 0.0, instant(resets), NOW),)


def test_of_a_familys_models_the_least_holds_and_hidden_ones_say_nothing() -> None:
    models = {
        "gemini-a": {"quotaInfo": {"remainingFraction": 0.6, "resetTime": SOON}},
        "gemini-b": {"quotaInfo": {"remainingFraction": 0.4, "resetTime": SOON}},
        "gemini-c": {"isInternal": True, "quotaInfo": {"remainingFraction": 0.1, "resetTime": SOON}},
    }
    assert [quota.left for quota in read_listed({"models": models}, GEMINI, NOW)] == [0.4]
