"""What the operator set reaches the providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.model import Account, AccountId, OAuthClient, Secret
from mcp_proxy.cli import adapters
from mcp_proxy.cli.compose import unused
from mcp_proxy.gateway.catalog import Options
from mcp_proxy.providers import all_providers
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
