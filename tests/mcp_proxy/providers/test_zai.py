from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accounts.model import Secret, Token, Works
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.provider import Access
from mcp_proxy.core.quota import Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.providers.zai import FIVE_HOURS, PROVIDERS, WEEK, quotas, verify
from tests.fakes import answering

WIRE = Path(__file__).parents[2] / "wire" / "zai"
MONITOR = json.loads((WIRE / "quota_limit.json").read_text())
NOW = Instant(1_788_170_000.0)
ACCESS = Access("https://api.z.ai/api/anthropic", "bearer", Token(Secret("sk-fake-key")))


def rows(*limits: Any) -> dict[str, Any]:
    return {"code": 200, "success": True, "data": {"limits": list(limits)}}


async def test_the_monitor_tells_two_windows() -> None:
    transport = answering(MONITOR)
    assert await quotas(transport, ACCESS, NOW) == (
        Quota(FIVE_HOURS, 0.63, Instant(1_788_171_581.0), NOW),
        Quota(WEEK, 0.88, Instant(1_788_600_000.0), NOW),
    )
    (request,) = transport.asked
    assert request.url == "https://api.z.ai/api/monitor/usage/quota/limit"
    assert ("authorization", "Bearer sk-fake-key") in request.headers


async def test_the_monitors_address_can_be_set() -> None:
    transport = answering(MONITOR)
    set_elsewhere = Access(ACCESS.base_url, "x-api-key", ACCESS.token, {"quota_url": "https://gate.example/q"})
    await quotas(transport, set_elsewhere, NOW)
    assert transport.asked[0].url == "https://gate.example/q"
    assert ("authorization", "Bearer sk-fake-key") in transport.asked[0].headers


async def test_the_newer_form_and_a_window_not_begun() -> None:
    week = {"type": "CREDIT_LIMIT", "unit": 6, "percentage": 100, "nextResetTime": None}
    hours = {"type": "CREDIT_LIMIT", "unit": 3, "percentage": 130}
    month = {"type": "CREDIT_LIMIT", "unit": 5, "percentage": 50}
    assert await quotas(answering(rows(week, hours, month)), ACCESS, NOW) == (
        Quota(WEEK, 0.0, None, NOW),
        Quota(FIVE_HOURS, 0.0, None, NOW),
    )
    assert await quotas(answering(rows({**hours, "percentage": "x"})), ACCESS, NOW) == (
        Quota(FIVE_HOURS, None, None, NOW),
    )


@pytest.mark.parametrize("code", [401, 1001, "1002"])
async def test_a_wrong_key_is_told_inside_a_200(code: int | str) -> None:
    refusal = {"code": code, "msg": "token expired or incorrect", "success": False}
    read = await quotas(answering(refusal), ACCESS, NOW)
    assert isinstance(read, Failure)
    assert (read.blame, read.limit) == (Blame.ACCOUNT, None)
    verdict = await verify(answering(refusal), ACCESS, NOW)
    assert (verdict.works, verdict.detail) == (Works.REFUSED, "token expired or incorrect")


async def test_a_busy_monitor_says_nothing_of_the_account() -> None:
    read = await quotas(answering({"error": {"message": "slow down"}}, status=429), ACCESS, NOW)
    assert isinstance(read, Failure)
    assert (read.blame, read.limit) == (Blame.PROVIDER, None)


async def test_verifying_asks_the_monitor() -> None:
    assert (await verify(answering(MONITOR), ACCESS, NOW)).works is Works.YES
    assert (await verify(answering(b"<html>"), ACCESS, NOW)).works is Works.UNREACHABLE
    assert (
        await verify(answering({"code": 500, "msg": "x", "success": False}), ACCESS, NOW)
    ).works is Works.UNREACHABLE


def test_the_plans_terms_are_said_at_sign_in() -> None:
    assert all("Coding Plan" in (provider.sign_in.notice or "") for provider in PROVIDERS)
