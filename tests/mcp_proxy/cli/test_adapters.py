"""What the operator set reaches the providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.model import Account, AccountId, ApiKey, OAuthClient, Secret
from mcp_proxy.cli import adapters
from mcp_proxy.cli.compose import unused
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.prices import Price
from mcp_proxy.core.provider import Size
from mcp_proxy.gateway.catalog import Options
from mcp_proxy.providers import all_providers
from mcp_proxy.routing.budget import budget
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


def test_budgets_are_of_all_of_a_providers_accounts_or_of_one_alone(tmp_path: Path) -> None:
    toml = """
[providers.zai.budget]
window = "35d"
limit = 1000
threshold = 0
[[accounts."zai/work".budget]]
window = "90m"
limit = 10
"""
    at = settings(tmp_path, toml)
    assert options(at, "zai").budgets == (budget("35d", 35 * 86_400.0, 1000, 0.0, shared=True),)
    assert options(at, "kimi").budgets == ()
    assert adapters.make_budgets(at) == {"zai/work": (budget("90m", 5400.0, 10, 0.9, shared=False),)}


def test_a_price_reaches_the_table_with_its_caches_and_without(tmp_path: Path) -> None:
    toml = "[prices]\nm = { input = 1, output = 2, cache_read = 3, cache_write = 4 }\nn = { input = 5, output = 6 }\n"
    assert adapters.make_prices(settings(tmp_path, toml)) == {"m": Price(1, 2, 3, 4), "n": Price(5, 6)}
