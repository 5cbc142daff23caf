"""What the operator set reaches the providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.model import Account, AccountId, ApiKey, OAuthClient, Secret
from mcp_proxy.cli import adapters
from mcp_proxy.cli.compose import unused
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.provider import Size
from mcp_proxy.gateway.catalog import Options
from mcp_proxy.providers import all_providers
from mcp_proxy.routing.facts import Route
from mcp_proxy.routing.fallbacks import chain
from mcp_proxy.settings import Settings
from tests.e2e.harness import settings
from tests.faults import granted

GOOGLE = {"GOOGLE_CLIENT_ID": "client-of-a-test", "GOOGLE_CLIENT_SECRET": "sk-fake-client-secret"}
TOML = '[providers.antigravity]\nclient_version = "9.9.9"\n'


def options(at: Settings, provider: str) -> Options:
    return adapters.make_catalog(at).options(Account(AccountId("a"), provider, "a"))


@pytest.fixture
def with_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "all_providers", lambda: {**all_providers(), **granted.providers()})


@pytest.mark.usefixtures("with_granted")
def test_the_client_goes_to_providers_whose_sign_in_asks_a_person_for_one(tmp_path: Path) -> None:
    at = settings(tmp_path, "", **GOOGLE)
    assert options(at, "antigravity").client == OAuthClient("client-of-a-test", Secret("sk-fake-client-secret"))
    assert options(at, "zai").client is None


@pytest.mark.usefixtures("with_granted")
def test_the_client_may_stand_in_the_config_file_and_a_variable_counts_more(tmp_path: Path) -> None:
    filed = '[providers.antigravity]\nclient_id = "filed"\nclient_secret = "sk-fake-filed-secret"\n'
    own = OAuthClient("filed", Secret("sk-fake-filed-secret"))
    assert options(settings(tmp_path, filed), "antigravity").client == own
    at = settings(tmp_path, filed, **GOOGLE)
    assert options(at, "antigravity").client == OAuthClient("client-of-a-test", Secret("sk-fake-client-secret"))
    assert "sk-fake" not in repr(at)


@pytest.mark.usefixtures("with_granted")
def test_without_a_client_there_is_none(tmp_path: Path) -> None:
    assert options(settings(tmp_path), "antigravity").client is None


@pytest.mark.usefixtures("with_granted")
def test_the_version_to_tell_is_told(tmp_path: Path) -> None:
    at = settings(tmp_path, TOML)
    assert options(at, "antigravity").client_version == "9.9.9"
    assert unused(at) == []


OWN = {"HAIKU_PROVIDER_API_KEY": "sk-fake-haiku"}


@pytest.mark.parametrize(
    ("address", "provider", "auth"),
    [
        ("https://api.z.ai/api/anthropic", "zai", None),
        ("https://api.anthropic.com", "anthropic", None),
        ("https://api.kimi.com/coding/v2", "kimi-code", None),
        ("https://gateway.example.com/api.z.ai", "custom", "bearer"),
        ("http://127.0.0.1:9/box", "minimax", None),
        ("http://127.0.0.1:9/other", "custom", "bearer"),
    ],
)
def test_an_account_of_a_size_class_is_its_addresss_provider_s(
    tmp_path: Path, address: str, provider: str, auth: str | None
) -> None:
    toml = '[providers.minimax]\nbase_url = "http://127.0.0.1:9/box"\n'
    at = settings(tmp_path, toml, **OWN, HAIKU_PROVIDER_BASE_URL=address, ANTHROPIC_DEFAULT_HAIKU_MODEL="glm-4.7")
    ((account, credential),) = adapters.configured_accounts(at)
    assert (account.id, account.provider, account.label, account.auth) == ("config-haiku", provider, "haiku", auth)
    assert (account.base_url, account.models, credential) == (address, ("glm-4.7",), ApiKey(Secret("sk-fake-haiku")))
    assert adapters.make_policy(at).tiers == {Size.HAIKU: Route(ProviderName(provider), account.id, "glm-4.7")}


def test_what_is_set_of_routing_becomes_the_policy(tmp_path: Path) -> None:
    toml = """
[routing]
fallback = true
failover_on = [503]
[routing.reserve]
"5h" = 0.1
[routing.fallbacks]
"gemini-3-flash" = []
"claude-sonnet-4-5" = ["glm-5", "k3"]
[routing.tiers]
haiku = "zai"
sonnet = "zai/glm-5"
opus = { model = "k3" }
[providers.zai.aliases]
"claude-*" = "glm-5"
"""
    policy = adapters.make_policy(settings(tmp_path, toml))
    assert (policy.failover_on, policy.reserve) == ({503}, {"5h": 0.1})
    assert policy.own_aliases == {"zai": {"claude-*": "glm-5"}}
    assert policy.tiers == {
        Size.HAIKU: Route(ProviderName("zai")),
        Size.SONNET: Route(ProviderName("zai"), None, "glm-5"),
        Size.OPUS: Route(None, None, "k3"),
    }
    assert chain("gemini-3-flash", policy.fallbacks) == ()
    assert chain("claude-sonnet-4-5", policy.fallbacks) == ("glm-5", "k3")
    assert chain("gemini-3-pro-low", policy.fallbacks)[:2] == ("claude-sonnet-4-5", "glm-5")
    off = adapters.make_policy(settings(tmp_path, toml.replace("fallback = true", "")))
    assert off.fallbacks == {}
