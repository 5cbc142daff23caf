"""What refusals mean beyond the recorded ones in tests/wire/antigravity, which `test_wire.py` reads."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import Headers
from mcp_proxy.core.ids import ModelId
from mcp_proxy.providers.antigravity.durations import duration, told_in
from mcp_proxy.providers.antigravity.errors import read_failure
from mcp_proxy.providers.antigravity.models import offer
from mcp_proxy.providers.antigravity.told import Kind, kind, read
from tests.mcp_proxy.providers.antigravity.kit import GEMINI, NOW, SONNET, sample

REFUSALS = {case["what"]: case for case in sample("refusals.json")}


def refused(status: int, document: Any, headers: Headers = ()) -> Failure:
    return read_failure(Refusal(status, headers, json.dumps(document).encode()), SONNET, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("479.417207ms", 0.479417207),
        ("71h15m27.791609974s", 256527.791609974),
        ("256527.791609974s", 256527.791609974),
        ("1h43m56s", 6236.0),
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("754.431528ms", 0.754431528),
        ("3µs", 3e-6),
        ("garbage", None),
        ("", None),
        ("5", None),
        ("-5s", None),
        ("5s later", None),
        (5, None),
        (None, None),
    ],
)
def test_durations(text: object, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Resets in 71h15m27s.", 256527.0),
        ("Your quota will reset after 0s.", 0.0),
        ("Please retry in 12.5s.", 12.5),
        ("please RETRY AFTER 60 seconds", 60.0),
        ("resets in 2 hours", 7200.0),
        ("try 5s tricks", None),
        ("reset after 5sx", None),
        ("presets in 5s", None),
        ("", None),
    ],
)
def test_durations_in_a_message(text: str, seconds: float | None) -> None:
    assert told_in(text) == seconds


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("a short rate limit", Kind.RATE),
        ("the week is used up", Kind.QUOTA),
        ("a 429 without a word", Kind.BARE_429),
        ("no capacity, as 503", Kind.CAPACITY),
        ("no capacity, as 429", Kind.CAPACITY),
        ("no capacity, as 529", Kind.CAPACITY),
        ("the account has to be verified", Kind.VERIFICATION),
        ("banned, with line breaks", Kind.BANNED),
        ("a signature, as Claude says it", Kind.SIGNATURE),
        ("a schema that says quota", Kind.REQUEST),
        ("no such model on this account", Kind.NOT_FOUND),
        ("a page of the front end", Kind.SERVER),
        ("this client is too old", Kind.VERSION),
    ],
)
def test_kinds(what: str, expected: Kind) -> None:
    case = REFUSALS[what]
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    assert kind(read(case["status"], body.encode())) is expected


def error(code: int, message: str, *details: dict[str, Any], status: str = "X") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def rate(**metadata: Any) -> dict[str, Any]:
    return {"reason": "RATE_LIMIT_EXCEEDED", "metadata": metadata}


@pytest.mark.parametrize(
    ("document", "headers", "seconds"),
    [
        (error(429, "retry after 9s", rate(quotaResetDelay="2s"), {"retryDelay": "1.5s"}), (), 1.5),
        (error(429, "retry after 9s", rate(quotaResetDelay="2s")), (("retry-after", "30"),), 2.0),
        (error(429, "x", rate(quotaResetTimeStamp="2026-10-07T09:20:48Z")), (("retry-after", "30"),), 60.0),
        (error(429, "retry after 9s", rate()), (("retry-after", "30"),), 30.0),
        (error(429, "retry after 9s", rate()), (), 9.0),
        (error(429, "5s", rate()), (), None),
        (error(429, "x", rate(), {"retryDelay": "0s"}), (), 0.5),
        (error(429, "x", rate(quotaResetTimeStamp="2026-10-07T09:00:00Z")), (), 0.5),
        (error(429, "x", rate(quotaResetDelay="garbage", quotaResetTimeStamp=[])), (), None),
    ],
)
def test_of_several_times_the_most_exact_counts(document: Any, headers: Headers, seconds: float | None) -> None:
    failure = refused(429, document, headers)
    assert failure.limit is not None and failure.limit.name == f"model:{SONNET.model}"
    assert failure.retry_at == (None if seconds is None else pytest.approx(NOW + seconds))


def test_no_quota_is_closed_for_more_than_eight_days() -> None:
    failure = refused(429, error(429, "x", {"reason": "QUOTA_EXHAUSTED"}, {"retryDelay": "99999999s"}))
    assert failure.limit is not None and failure.limit.name == "claude-7d"
    assert failure.retry_at == NOW + 8 * 86_400


@pytest.mark.parametrize("named", ["MODEL_PLACEHOLDER_M26", "claude-opus-4-6-thinking", "", 7])
def test_a_quota_is_the_asked_models_by_whatever_name_google_calls_it(named: object) -> None:
    info = {"reason": "QUOTA_EXHAUSTED", "metadata": {"model": named}}
    failure = refused(429, error(429, "x", info, {"retryDelay": "3600s"}))
    assert (failure.blame, failure.limit and failure.limit.name) == (Blame.ACCOUNT, "claude-5h")


def test_a_gemini_model_draws_on_its_own_pool() -> None:
    body = json.dumps(error(429, "Individual quota reached. Resets in 2h.")).encode()
    failure = read_failure(Refusal(429, (), body), GEMINI, NOW)
    assert failure.limit is not None and failure.limit.name == "gemini-5h"


def test_a_bare_429_closes_for_seconds_whatever_it_says() -> None:
    failure = refused(429, error(429, "Resource has been exhausted (e.g. check quota)."), (("retry-after", "3600"),))
    assert failure.retry_at == NOW + 10


@pytest.mark.parametrize(
    "message",
    [
        "thinking.signature: Field required",
        "messages.3.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        "Thought signature is not valid",
        "Function call is missing a thought_signature in functionCall parts",
    ],
)
def test_what_a_signature_spoiled_can_be_asked_again_without(message: str) -> None:
    failure = refused(400, error(400, message))
    assert (failure.blame, failure.status, failure.unsigned) == (Blame.REQUEST, 400, True)
    assert failure.message == message


def test_any_other_bad_request_is_not_asked_again() -> None:
    failure = refused(400, error(400, "Request contains an invalid argument."))
    assert (failure.blame, failure.unsigned, failure.type) == (Blame.REQUEST, False, "invalid_request_error")


def test_claudes_own_error_keeps_its_type() -> None:
    nested = {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds 32 MB"}}
    failure = refused(413, error(413, json.dumps(nested)))
    assert (failure.status, failure.type, failure.message) == (413, "request_too_large", "Request exceeds 32 MB")


@pytest.mark.parametrize(
    "url",
    [
        "http://accounts.google.com/x",
        "https://accounts.google.com.example/x",
        "https://accounts.google.com@example.com/x",
        "https://example.com/?u=https://accounts.google.com/",
        " https:/accounts.google.com/x",
        7,
        None,
    ],
)
def test_only_googles_own_address_is_shown(url: object) -> None:
    detail = {"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": url}}
    failure = refused(403, error(403, "Verify your account to continue.", detail))
    assert (failure.blame, failure.limit) == (Blame.ACCOUNT, None)
    assert "http" not in failure.message and "verified" in failure.message


def test_an_address_of_any_length_is_no_message() -> None:
    message = f"To continue, verify your account at https://accounts.google.com/{'x' * 5000}"
    failure = refused(403, error(403, message))
    assert failure.blame is Blame.ACCOUNT and len(failure.message) <= 2000


def test_a_long_address_comes_whole() -> None:
    url = "https://accounts.google.com/signin/continue?plt=" + "AKgnsb-" * 80
    detail = {"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": url}}
    assert url in refused(403, error(403, "Verify your account to continue.", detail)).message


TEXTS = st.sampled_from(
    [
        "Individual quota reached. Resets in 71h15m27s.",
        "Your quota will reset after 99999999999h.",
        "No capacity available for model x",
        "Verify your account to continue.",
        "has been disabled in this account for violation of Terms of Service",
        "This version of Antigravity is no longer supported",
        "Invalid `signature` in `thinking` block",
        '{"type":"error","error":{"type":"rate_limit_error","message":"\\ud800"}}',
        '{"error":{"message":[]}}',
        "{" * 5000,
        "",
    ]
) | st.text(max_size=40)
LEAVES = TEXTS | st.none() | st.booleans() | st.integers() | st.floats()
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "reason": st.sampled_from(
            [
                "QUOTA_EXHAUSTED",
                "RATE_LIMIT_EXCEEDED",
                "MODEL_CAPACITY_EXHAUSTED",
                "VALIDATION_REQUIRED",
                "USER_DISABLED",
            ]
        )
        | LEAVES,
        "retryDelay": st.sampled_from(["0.4s", "9e9s", "999999999999h"]) | LEAVES,
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "model": st.sampled_from(["claude-sonnet-4-6", "gemini-3.1-flash-lite"]) | LEAVES,
                "quotaResetDelay": st.sampled_from(["1ms", "71h15m27.7s"]) | LEAVES,
                "quotaResetTimeStamp": st.sampled_from(["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]) | LEAVES,
                "validation_url": st.sampled_from(["https://accounts.google.com/x", "https://[", "https://["]) | LEAVES,
            },
        )
        | LEAVES,
    },
)
ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([400, 401, 403, 404, 429, 500, 503]) | LEAVES,
        "status": st.sampled_from(["RESOURCE_EXHAUSTED", "UNAVAILABLE"]) | LEAVES,
        "type": st.sampled_from(["overloaded_error", "odd"]) | LEAVES,
        "message": TEXTS | LEAVES,
        "details": st.lists(DETAILS | LEAVES, max_size=3) | LEAVES,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"error": ERRORS | LEAVES, "response": st.just({}), "retryDelay": LEAVES}
)
BODIES = st.binary(max_size=60) | (DOCUMENTS | st.lists(DOCUMENTS, max_size=2)).map(
    lambda each: json.dumps(each).encode()
)
STATUSES = st.sampled_from([200, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503, 529]) | st.integers(-1, 1000)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["retry-after", "x-ratelimit-reset", "x-ratelimit-reset-after"]),
        st.sampled_from(["1", "9" * 30, "-1", "nan", "1e9", "٣"]) | st.text(max_size=10),
    ),
    max_size=2,
).map(tuple)


@settings(max_examples=300)
@given(status=STATUSES, headers=HEADERS, body=BODIES, model=st.sampled_from(["claude-sonnet-4-6", "gemini-pro-agent"]))
def test_whatever_comes_is_read(status: int, headers: Headers, body: bytes, model: str) -> None:
    asked = offer(ModelId(model))
    failure = read_failure(Refusal(status, headers, body), asked, NOW)
    assert 400 <= failure.status < 600 and failure.message.strip()
    failure.message.encode()
    assert failure.limit is None or failure.limit in asked.buckets
    assert failure.body is None
    if failure.retry_at is not None:
        assert math.isfinite(failure.retry_at) and NOW < failure.retry_at <= NOW + 8 * 86_400
    if failure.unsigned:
        assert failure.blame is Blame.REQUEST
