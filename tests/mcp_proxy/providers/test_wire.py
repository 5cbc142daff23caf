"""Answers in the shape they were recorded in, one file or more for each provider, and what is made of them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.failure import Refusal, error_type
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.time import Instant
from mcp_proxy.providers import all_providers

FOLDER = Path(__file__).parents[2] / "wire"
PROVIDERS = all_providers()
CASES = [
    pytest.param(name, case, id=f"{name}: {case['what']}")
    for name in PROVIDERS
    for path in sorted((FOLDER / name).glob("refusals*.json"))
    for case in json.loads(path.read_text())
]


def instant(text: str | None) -> Instant | None:
    return None if text is None else Instant(datetime.fromisoformat(text).timestamp())


def test_every_provider_has_recorded_refusals() -> None:
    assert [name for name in PROVIDERS if not list((FOLDER / name).glob("refusals*.json"))] == []


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_recorded_refusal_is_read(name: ProviderName, case: dict[str, Any]) -> None:
    provider, expect = PROVIDERS[name], case["expect"]
    offer = next(iter(provider.serves.offers), None) or provider.serves.offer(ModelId("any-model"))
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"], ensure_ascii=False)
    now = instant(case["at"])
    assert now is not None
    refusal = Refusal(case["status"], tuple(case["headers"].items()), body.encode())
    failure = provider.read_failure(refusal, offer, now)

    assert failure.blame == expect["blame"]
    scope = "absent" if expect["blame"] == "model" else "model"
    limit = f"{scope}:{offer.model}" if expect["limit"] == "model" else expect["limit"]
    assert (failure.limit.name if failure.limit else None) == limit
    assert failure.limit is None or failure.limit in offer.buckets
    assert failure.retry_at == instant(expect["retry_at"])
    assert failure.status == expect["status"]
    assert failure.body == (refusal.body if expect.get("body_back") else None)
    assert expect.get("says", "") in failure.message
    assert failure.body is not None or failure.type == error_type(failure.status)
