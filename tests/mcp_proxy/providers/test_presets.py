from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accounts.model import Secret, Token, Works
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.provider import Access, Provider
from mcp_proxy.core.quota import Bucket, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.providers import all_providers
from tests.fakes import FakeTransport, answering

WIRE = Path(__file__).parents[2] / "wire"
NOW = Instant(1_788_170_000.0)
FIVE_HOURS, WEEK = Bucket("5h"), Bucket("7d")


def named(name: str) -> Provider:
    return all_providers()[ProviderName(name)]


def access(provider: Provider) -> Access:
    return Access(provider.base_url or "https://own.example", provider.auth, Token(Secret("sk-fake-key")))


async def read_quotas(name: str, transport: FakeTransport) -> tuple[Quota, ...] | Failure:
    provider = named(name)
    assert provider.quotas is not None
    return await provider.quotas(transport, access(provider), NOW)


async def test_kimi_code_tells_two_windows() -> None:
    transport = answering((WIRE / "kimi-code" / "usages.json").read_bytes())
    assert await read_quotas("kimi-code", transport) == (
        Quota(WEEK, 0.75, Instant(1_788_393_600.0), NOW),
        Quota(FIVE_HOURS, 0.25, Instant(1_788_199_200.0), NOW),
    )
    assert transport.asked[0].url == "https://api.kimi.com/coding/v1/usages"


async def test_minimax_calls_usage_what_remains() -> None:
    transport = answering((WIRE / "minimax" / "remains.json").read_bytes())
    assert await read_quotas("minimax", transport) == (Quota(FIVE_HOURS, 0.8, Instant(1_788_178_000.0), NOW),)


async def test_minimax_tells_a_wrong_key_inside_a_200() -> None:
    refusal = {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}
    read = await read_quotas("minimax", answering(refusal))
    assert isinstance(read, Failure) and read.blame is Blame.ACCOUNT
    provider = named("minimax")
    assert (await provider.verify(answering(refusal), access(provider), NOW)).works is Works.REFUSED


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("kimi", "https://api.moonshot.ai/v1/users/me/balance"),
        ("kimi-code", "https://api.kimi.com/coding/v1/usages"),
        ("deepseek", "https://api.deepseek.com/user/balance"),
        ("minimax", "https://api.minimax.io/v1/api/openplatform/coding_plan/remains"),
        ("alibaba", "https://dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages"),
        ("openrouter", "https://openrouter.ai/api/v1/key"),
        ("custom", "https://own.example/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1/models?limit=1000"),
        ("zhipu", "https://open.bigmodel.cn/api/monitor/usage/quota/limit"),
    ],
)
async def test_a_key_is_verified_where_it_costs_nothing(name: str, url: str) -> None:
    transport, provider = answering({"success": True, "data": []}), named(name)
    assert (await provider.verify(transport, access(provider), NOW)).works is Works.YES
    assert [request.url for request in transport.asked] == [url]
    assert transport.asked[0].body in (b"", b"{}")


@pytest.mark.parametrize(
    ("status", "body", "works"),
    [
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "model: Field required"}}, "ok"),
        (422, {"detail": "missing"}, "ok"),
        (404, {"error": {"message": "no model"}}, "unreachable"),
        (429, {"error": {"message": "slow down"}}, "ok"),
        (401, {"error": {"message": "no"}}, "refused"),
        (403, b"<html>", "refused"),
        (404, b"<html>", "unreachable"),
        (502, b"", "unreachable"),
        (302, b"", "unreachable"),
    ],
)
async def test_an_empty_message_tells_a_good_key_from_a_bad_one(status: int, body: Any, works: str) -> None:
    provider = named("custom")
    verdict = await provider.verify(answering(body, status=status), access(provider), NOW)
    assert verdict.works == works


async def test_an_empty_purse_is_said_but_the_key_is_good() -> None:
    provider = named("deepseek")
    verdict = await provider.verify(answering({"is_available": False}), access(provider), NOW)
    assert (verdict.works, verdict.detail) == (Works.YES, "the balance is used up")


async def test_a_custom_endpoint_may_have_no_list() -> None:
    discover = named("custom").discover
    assert discover is not None
    for status in (404, 405, 200):
        assert await discover(answering(b"<html>", status=status), access(named("custom")), NOW) == ()
    assert isinstance(await discover(answering(b"", status=401), access(named("custom")), NOW), Failure)
