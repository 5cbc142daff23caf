from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcp_proxy
from mcp_proxy.core.failure import Blame, Refusal
from mcp_proxy.core.provider import Provider
from mcp_proxy.providers import all_providers
from tests.contracts import provider_contract as contract

ALL = all_providers()
EVERY = pytest.mark.parametrize("provider", ALL.values(), ids=list(ALL))

CODES = st.sampled_from(
    [
        "500",
        "1000",
        "1113",
        "1210",
        "1220",
        "1261",
        "1302",
        "1304",
        "1308",
        "1309",
        "1310",
        "1311",
        "1313",
        "1320",
        "1399",
        "1002",
        "1004",
        "1008",
        "2056",
        "2064",
        "402",
        "403",
        "Throttling.AllocationQuota",
        "Arrearage",
        "AllocationQuota.FreeTierOnly",
        "exceeded_current_quota_error",
    ]
)
WORDS = st.sampled_from(
    [
        "Your limit will reset at 2026-08-31 22:19:41",
        "Your limit will reset at 9999-12-31 23:59:59",
        "reset at 02-29 10:00:00 UTC",
        "You have reached your API usage limits. You will regain access on 0001-01-01 at 00:00 UTC.",
        "[1308][x]",
        "(2056) (1002)",
        "\ud800",
        "404 NOT_FOUND",
        "",
    ]
)
TYPES = st.sampled_from(
    ["rate_limit_error", "overloaded_error", "invalid_request_error", "odd", "exceeded_current_quota_error"]
)
ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "code": CODES | st.integers() | st.none(),
        "message": WORDS | st.text() | st.integers(),
        "type": TYPES | st.none(),
        "details": st.none() | st.just({"error_code": "enforced_spend_limit_reached"}) | st.just([]),
    },
)
DOCUMENTS = ERRORS | st.fixed_dictionaries({"error": ERRORS | WORDS, "type": st.just("error")})
BODIES = st.binary(max_size=60) | DOCUMENTS.map(lambda document: json.dumps(document).encode())
STATUSES = st.sampled_from([200, 301, 400, 401, 402, 403, 404, 408, 413, 429, 434, 500, 529]) | st.integers(-1, 1000)
VALUES = st.sampled_from(
    [
        "9e99",
        "-1",
        "nan",
        "0",
        "1e3",
        "12",
        "12.5",
        "٣",
        "Mon, 31 Feb 2026 00:00:00 GMT",
        "rejected",
        "false",
        "9" * 40,
        "2026-08-31T13:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59Z",
        "1788179694",
    ]
) | st.text(max_size=20)
NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-should-retry", "content-type", "set-cookie"]
    + [f"anthropic-ratelimit-unified-{part}" for part in ("status", "reset", "5h-status", "5h-reset", "7d_oi-status")]
    + [f"anthropic-ratelimit-{part}" for part in ("requests-remaining", "tokens-remaining")]
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(tuple)


def test_names_are_unique_and_people_know_them() -> None:
    assert set(ALL) >= {
        "anthropic",
        "claude-subscription",
        "antigravity",
        "zai",
        "zhipu",
        "kimi",
        "kimi-code",
        "deepseek",
        "minimax",
        "alibaba",
        "openrouter",
        "custom",
    }
    assert all(name == provider.name for name, provider in ALL.items())


@EVERY
def test_the_form_is_consistent(provider: Provider) -> None:
    contract.the_form_is_consistent(provider)


@EVERY
def test_requests_are_what_this_upstream_may_see(provider: Provider) -> None:
    if not contract.native(provider):
        contract.a_foreign_request_tells_nothing_of_the_client(provider)
        return
    contract.a_request_carries_one_credential_and_no_other(provider)
    contract.a_request_goes_under_the_base_url(provider)
    contract.safeguards_reach_anthropic_alone(provider)


@pytest.mark.parametrize("provider", [provider for provider in ALL.values() if not contract.native(provider)])
async def test_a_foreign_answer_is_an_answer_or_none(provider: Provider) -> None:
    await contract.a_foreign_answer_is_an_answer_or_none(provider)


@EVERY
def test_a_key_in_an_error_is_not_repeated(provider: Provider) -> None:
    contract.a_key_in_an_error_is_not_repeated(provider)


@EVERY
@settings(max_examples=60)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_every_refusal_is_read(
    provider: Provider, status: int, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    for offer in contract.offers(provider)[-2:]:
        contract.every_refusal_is_read(provider, Refusal(status, headers, body), offer)


@EVERY
def test_an_overload_is_nobodys_limit(provider: Provider) -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    for status in (529, 200):
        failure = contract.every_refusal_is_read(provider, Refusal(status, (), body), contract.offers(provider)[0])
        assert (failure.blame, failure.status, failure.limit) == (Blame.PROVIDER, 529, None)


@EVERY
@settings(max_examples=20)
@given(value=VALUES)
def test_headers_are_read_whatever_they_say(provider: Provider, value: str) -> None:
    contract.headers_are_read_whatever_they_say(provider, value)


@EVERY
async def test_questions_survive_any_answer(provider: Provider) -> None:
    await contract.questions_survive_any_answer(provider)


def test_pure_rooms_import_nothing_that_acts() -> None:
    acting = {"asyncio", "socket", "os", "time", "logging", "httpx", "aiohttp", "blacksheep", "threading"}
    for room in ("dialects", "providers"):
        for path in (Path(mcp_proxy.__file__).parent / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not acting & {name.split(".")[0] for name in names}, path
