"""The ports that `proxy accounts` is handed: what settings say of a sign-in, and what a provider is asked with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from accounts.cli.ports import ProviderInfo
from accounts.model import (
    Account,
    AccountId,
    ApiKeySignIn,
    BrowserSignIn,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
    Works,
)
from mcp_proxy.cli import accounts
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.providers import all_providers

RECIPE = BrowserSignIn(
    authorize_url="https://a.example/auth",
    token_url="https://a.example/token",
    userinfo_url="https://a.example/userinfo",
    scopes=("one",),
    client_names=("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
)
INFO = ProviderInfo("antigravity", "Google", RECIPE)


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    accounts.settings.cache_clear()
    yield
    accounts.settings.cache_clear()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is signed in to at Google."""
    made = replace(all_providers()[ProviderName("zai")], name=ProviderName("antigravity"), sign_in=RECIPE)
    monkeypatch.setattr(accounts, "all_providers", lambda: {**all_providers(), "antigravity": made})


def test_the_addresses_of_a_sign_in_are_the_operators_where_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accounts.recipe(INFO) == RECIPE
    accounts.settings.cache_clear()
    for key in ("AUTHORIZE", "TOKEN", "USERINFO"):
        monkeypatch.setenv(f"MCP_PROXY_PROVIDERS__ANTIGRAVITY__{key}_URL", f"http://127.0.0.1:9/{key}")
    found = accounts.recipe(INFO)
    assert isinstance(found, BrowserSignIn)
    assert found.authorize_url == "http://127.0.0.1:9/AUTHORIZE"
    assert found.token_url == "http://127.0.0.1:9/TOKEN"
    assert found.userinfo_url == "http://127.0.0.1:9/USERINFO"
    assert found.scopes == RECIPE.scopes
    key = ApiKeySignIn("https://keys.example")
    assert accounts.recipe(ProviderInfo("antigravity", "Google", key)) == key


@pytest.mark.parametrize("missing", [None, "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"])
def test_the_oauth_client_is_googles_and_whole_or_none(
    google: None, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    wanted = {"GOOGLE_CLIENT_ID": "client-0001.example", "GOOGLE_CLIENT_SECRET": "sk-fake-client"}
    for name, value in wanted.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    whole = OAuthClient("client-0001.example", Secret("sk-fake-client"))
    assert accounts.oauth_client("antigravity") == (whole if missing is None else None)
    assert accounts.oauth_client("zai") is None
    assert accounts.oauth_client("nobody") is None


def test_a_grant_without_a_token_is_not_sent_as_one(google: None) -> None:
    """A refresh token goes to the one who issued it, and to nobody else."""
    account = Account(AccountId("id0001"), "zai", "x", base_url="http://127.0.0.1:9")
    bare = accounts.verify(account, OAuthGrant(Secret("sk-fake-refresh")))
    assert (bare.works, bare.detail) == (Works.UNREACHABLE, "zai: there is no way to renew its tokens")
    held = accounts.verify(account, OAuthGrant(Secret("sk-fake-refresh"), None, Token(Secret("sk-fake-token"))))
    assert held.works is Works.UNREACHABLE
    assert "no token" not in held.detail
