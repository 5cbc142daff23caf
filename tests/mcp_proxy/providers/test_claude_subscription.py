"""A Claude plan: its windows from any response, and its requests as they came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounts.model import Secret, Token
from mcp_proxy.core.http import UpstreamRequest
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.dialects.native import returning_headers
from mcp_proxy.providers.claude_subscription import BETA, PROVIDER

NOW = Instant(1_800_000_000.0)
OFFER = PROVIDER.serves.offer(ModelId("claude-sonnet-5-5"))
ACCESS = Access("https://api.anthropic.com", "bearer", Token(Secret("sk-ant-oat01-sk-fake")))
RESET = "1800003600"


def read(**told: str) -> dict[str, tuple[float | None, float | None]]:
    headers = tuple((f"anthropic-ratelimit-unified-{name.replace('__', '-')}", value) for name, value in told.items())
    return {quota.bucket.name: (quota.left, quota.resets) for quota in PROVIDER.read_headers(headers, OFFER, NOW)}


def window(name: str, used: str, status: str = "allowed") -> dict[str, str]:
    return {f"{name}__utilization": used, f"{name}__status": status, f"{name}__reset": RESET}


def test_every_window_that_is_told_of_is_read() -> None:
    found = read(status="allowed", **window("5h", "0.25"), **window("7d", "0.5"), **window("7d_oi", "1.02", "rejected"))
    assert found == {"5h": (0.75, 1_800_003_600), "7d": (0.5, 1_800_003_600), "7d_oi": (0.0, 1_800_003_600)}
    assert read(status="rejected", **window("5h", "1.0", "rejected"), **window("7d", "0.42"))["5h"][0] == 0.0
    assert read(status="allowed") == {} == read(**{"5h__reset": RESET})


@pytest.mark.parametrize("used", ["", "x", "nan", "inf", "-0.5"])
def test_what_makes_no_sense_is_not_known(used: str) -> None:
    assert "5h" not in read(status="allowed", **window("5h", used))
    assert read(**window("5h", "0.5") | {"5h__reset": "soon"}) == {"5h": (0.5, None)}


def test_a_window_beyond_which_is_paid_is_the_last_to_be_spent_and_not_closed() -> None:
    for status in ("allowed", "allowed_warning"):
        left, _ = read(status=status, **window("5h", "1.3", "rejected"))["5h"]
        assert left is not None and 0.0 < left <= 0.01


def test_models_that_a_plan_counts_apart_draw_on_their_window_too() -> None:
    drawn = {offer.model: [bucket.name for bucket in offer.draws_on] for offer in PROVIDER.serves.offers}
    assert drawn[ModelId("claude-fable-5-2")] == ["5h", "7d", "7d_oi"]
    assert drawn[ModelId("claude-opus-5-5")] == ["5h", "7d"]


def betas(ask: Ask, access: Access) -> list[str]:
    request = PROVIDER.request(ask, OFFER, access)
    assert isinstance(request, UpstreamRequest)
    return [value for name, value in request.headers if name == "anthropic-beta"]


@pytest.mark.parametrize(
    ("sent", "marked"),
    [
        ([], [BETA]),
        (["a-2025-01-01"], [f"a-2025-01-01,{BETA}"]),
        ([f"{BETA},a-2025-01-01"], [f"{BETA},a-2025-01-01"]),
        (["a-2025-01-01", "b-2025-01-01"], [f"a-2025-01-01,b-2025-01-01,{BETA}"]),
    ],
)
def test_a_callers_own_request_goes_as_it_came_and_one_with_a_login_of_here_is_marked(
    sent: list[str], marked: list[str]
) -> None:
    headers = tuple(("anthropic-beta", value) for value in sent)
    ask = read_ask(Endpoint.MESSAGES, b'{"model":"claude-sonnet-5-5","messages":[]}', headers)
    assert isinstance(ask, Ask)
    assert betas(ask, replace(ACCESS, callers=True)) == sent
    assert betas(ask, ACCESS) == marked


def test_a_plans_windows_go_back_from_a_plan_alone() -> None:
    headers = (("anthropic-ratelimit-unified-status", "allowed"), ("retry-after", "1"), ("set-cookie", "x"))
    assert returning_headers(headers) == (("retry-after", "1"),)
    assert returning_headers(headers, PROVIDER.passes_back) == headers[:2]
