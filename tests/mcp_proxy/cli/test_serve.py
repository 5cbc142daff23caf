"""`proxy serve` turns words into settings and hands them on."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from mcp_proxy.settings import Settings
from tests.mcp_proxy.cli.conftest import Proxy


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `serve` was called with."""
    found: list[Settings] = []

    class Compose(ModuleType):
        def serve(self, settings: Settings) -> int:
            found.append(settings)
            return 0

    monkeypatch.setitem(sys.modules, "mcp_proxy.cli.compose", Compose("compose"))
    monkeypatch.setenv("PROXY_API_KEY", "sk-fake-proxy-key")
    return found


def test_every_flag_reaches_the_settings(proxy: Proxy, served: list[Settings]) -> None:
    words = ["--host", "::1", "-p", "9", "--fallback", "--soft-limit", "0.5", "--debug", "--workers", "1"]
    assert proxy("serve", *words).code == 0
    (found,) = served
    assert (found.server.host, found.server.port, found.server.workers) == ("::1", 9, 1)
    assert (found.routing.fallback, found.routing.soft_limit, found.log.level) == (True, 0.5, "debug")


def test_without_flags_the_environment_decides(
    proxy: Proxy, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "10")
    monkeypatch.setenv("ENABLE_FALLBACK", "1")
    assert proxy("serve").code == 0
    assert (served[0].server.port, served[0].routing.fallback, served[0].routing.soft_limit) == (10, True, 0.2)


def test_a_no_flag_beats_the_environment(proxy: Proxy, served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_FALLBACK", "1")
    monkeypatch.setenv("SOFT_LIMIT_THRESHOLD", "0.5")
    assert proxy("serve", "--no-fallback", "--no-soft-limit").code == 0
    assert (served[0].routing.fallback, served[0].routing.soft_limit) == (False, None)


def test_what_the_web_framework_would_obey_is_gone_before_it_is_imported(
    proxy: Proxy, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SHOW_ERROR_DETAILS", "1")
    assert proxy("serve").code == 0
    assert "APP_SHOW_ERROR_DETAILS" not in os.environ


def test_an_empty_key_does_not_serve(proxy: Proxy, served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_API_KEY", "")
    ended = proxy("serve")
    assert ended.code == 2 and "is empty" in ended.err and not served
