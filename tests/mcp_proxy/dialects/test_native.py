from __future__ import annotations

import pytest

from accounts.model import Secret, Token
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Endpoint
from mcp_proxy.core.provider import Access, Offer
from mcp_proxy.dialects.native import messages_url, native_request, passing_headers, returning_headers
from tests.mcp_proxy.dialects.fixtures import ask, body, headers

MAIN = ask(body("main_turn"), headers("main_turn"), beta=True)
ACCESS = Access("https://up.example/api", "x-api-key", Token(Secret("sk-fake-key")))


def test_anthropic_gets_what_is_anthropics() -> None:
    sent = dict(passing_headers(MAIN, to_anthropic=True))
    given = dict(MAIN.headers)
    assert sent["anthropic-beta"] == given["anthropic-beta"]
    assert sent["x-claude-code-session-id"] and sent["x-stainless-timeout"] and sent["x-app"] == "cli"
    assert sent["accept-encoding"] == "identity"
    assert not {"host", "connection", "content-length", "x-claude-1p-request-class"} & set(sent)


def test_others_get_little_and_no_safeguards() -> None:
    sent = passing_headers(MAIN, to_anthropic=False)
    assert [name for name, _ in sent] == [
        "accept",
        "content-type",
        "user-agent",
        "anthropic-beta",
        "anthropic-version",
        "accept-encoding",
    ]
    betas = dict(sent)["anthropic-beta"]
    assert "dangerous-tool-use" not in betas and "effort-2025-11-24" in betas and "afk-mode" in betas


def test_what_the_caller_leaves_out_is_filled_in() -> None:
    bare = ask(
        body("main_turn"), (("cookie", "a=b"), ("x-forwarded-for", "::1"), ("anthropic-beta", "dangerous-tool-use-1"))
    )
    assert passing_headers(bare, to_anthropic=False) == (
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("accept-encoding", "identity"),
    )


def test_three_headers_come_back() -> None:
    there = (
        ("content-type", "a"),
        ("set-cookie", "b"),
        ("retry-after", "1"),
        ("x-should-retry", "false"),
        ("server", "c"),
    )
    assert returning_headers(there) == (("content-type", "a"), ("retry-after", "1"), ("x-should-retry", "false"))


@pytest.mark.parametrize(
    ("base", "beta", "url"),
    [
        ("https://a.example", False, "https://a.example/v1/messages"),
        ("https://a.example/v1", True, "https://a.example/v1/messages?beta=true"),
        ("https://a.example/x/v1/", False, "https://a.example/x/v1/messages"),
        ("https://a.example/api/anthropic/", True, "https://a.example/api/anthropic/v1/messages?beta=true"),
    ],
)
def test_the_address_has_one_v1(base: str, beta: bool, url: str) -> None:
    assert messages_url(base, Endpoint.MESSAGES, beta) == url


def test_a_request_to_anthropic_is_the_clients_own() -> None:
    request = native_request(to_anthropic=True)(MAIN, Offer(ModelId(MAIN.model)), ACCESS)
    assert request.url == "https://up.example/api/v1/messages?beta=true"
    assert request.body is MAIN.body
    assert ("x-api-key", "sk-fake-key") in request.headers


def test_a_request_elsewhere_names_its_model_and_carries_its_key() -> None:
    access = Access("https://up.example/api", "bearer", Token(Secret("sk-fake-key")))
    request = native_request(to_anthropic=False)(MAIN, Offer(ModelId("glm-5.2")), access)
    assert b'"safeguards"' not in request.body and b'"model":"glm-5.2"' in request.body
    assert [pair for pair in request.headers if pair[0] in ("x-api-key", "authorization")] == [
        ("authorization", "Bearer sk-fake-key")
    ]
