"""`proxy doctor` says what is wrong, where a value came from, and changes nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp_proxy.cli.conftest import Proxy
from tests.mcp_proxy.cli.server import canned

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes")


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key is set and the port is free."""
    monkeypatch.setenv("PROXY_API_KEY", "sk-fake-proxy-key")
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(trial.getsockname()[1]))
    yield


def line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line[6:].startswith(name))


def test_on_a_new_machine_all_is_well_and_nothing_is_made(proxy: Proxy, home: Path) -> None:
    ended = proxy("doctor")
    assert (ended.code, ended.err) == (0, "") and "WRONG" not in ended.out
    assert "from the key file" in line(ended.out, "store key")
    assert "PORT (environment)" in line(ended.out, "set") and "sk-fake-proxy-key" not in ended.out
    assert list(home.iterdir()) == []


def test_as_json_it_is_one_document(proxy: Proxy) -> None:
    document = json.loads(proxy("doctor", "--json").out)
    assert (document["schema_version"], document["ok"]) == (1, True)
    assert {"name", "state", "detail"} == set(document["checks"][0])
    assert document["set"]["server.port"] == "PORT (environment)"


def test_a_missing_key_is_wrong(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXY_API_KEY")
    ended = proxy("doctor")
    assert ended.code == 1 and "PROXY_API_KEY is not set" in line(ended.out, "client key")


def test_settings_that_cannot_be_used_end_with_2(proxy: Proxy, home: Path) -> None:
    (home / "config.toml").write_text("[server]\nprot = 1\n")
    ended = proxy("doctor")
    assert ended.code == 2 and "did you mean 'port'" in line(ended.out, "settings")
    assert "python" in ended.out, "what can be said is said"
    assert json.loads(proxy("doctor", "--json").out)["ok"] is False


def test_a_damaged_store_ends_with_7(proxy: Proxy, home: Path) -> None:
    for name, text in (("accounts.json", "garbage"), ("accounts.json", "")):
        (home / name).write_text(text)
        (home / name).chmod(0o600)
        ended = proxy("doctor")
        assert ended.code == 7 and "WRONG" in line(ended.out, "account store")
        assert (home / name).read_text() == text


def test_a_wrong_key_ends_with_8(proxy: Proxy, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accounts.model import Account, AccountId, ApiKey, Secret
    from accounts.vault.keys import KeySources
    from accounts.vault.vault import Vault

    vault = Vault(home / "accounts.json", KeySources(Secret("A" * 43 + "="), None, home / "vault.key"))
    vault.add(Account(AccountId("a1"), "zai", "work"), ApiKey(Secret("sk-fake-key")))
    monkeypatch.setenv("MCP_PROXY_VAULT_KEY", "A" * 43 + "=")
    good = proxy("doctor")
    assert good.code == 0 and "1 account" in line(good.out, "account store")
    assert "MCP_PROXY_VAULT_KEY (environment)" in line(good.out, "store key")
    monkeypatch.setenv("MCP_PROXY_VAULT_KEY", "B" * 42 + "A=")
    assert proxy("doctor").code == 8


def test_a_damaged_state_file_is_only_noted(proxy: Proxy, home: Path) -> None:
    (home / "state.db").write_bytes(b"no database" * 100)
    ended = proxy("doctor")
    assert ended.code == 0 and "begins a fresh one" in line(ended.out, "state file")
    assert (home / "state.db").read_bytes() == b"no database" * 100


@posix_only
def test_folders_and_files_that_others_may_get_at_are_wrong(proxy: Proxy, home: Path) -> None:
    (home / "config.toml").write_text("")
    (home / "config.toml").chmod(0o666)
    home.chmod(0o755)
    ended = proxy("doctor")
    assert ended.code == 1 and f"chmod 700 {home}" in ended.out and "chmod go-w" in ended.out


def test_a_port_in_use_is_wrong_unless_it_is_us(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with canned({}) as stranger:
        monkeypatch.setenv("PORT", stranger.url.rpartition(":")[2])
        ended = proxy("doctor")
        assert ended.code == 1 and "in use by another program" in line(ended.out, "port")
    with canned({"/livez": (200, {})}, open_paths=("/livez",)) as ours:
        monkeypatch.setenv("PORT", ours.url.rpartition(":")[2])
        ended = proxy("doctor")
        assert ended.code == 0 and "is serving there" in line(ended.out, "port")


def test_an_address_of_another_machine_is_wrong(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND_ADDRESS", "192.0.2.1")
    ended = proxy("doctor")
    assert ended.code == 1 and "192.0.2.1" in line(ended.out, "port")
