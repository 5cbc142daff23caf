"""`proxy config`: what is in force and where it comes from, and everything that is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mcp_proxy.cli.conftest import Proxy

KEY = "sk-fake-key-long-enough-to-show-its-end-wxyz"
TOML = """
[routing]
soft_limit = 0.3
[routing.tiers]
haiku = "zai/glm-4.7"
[providers.zai]
api_key = "${ZAI}"
base_url = "https://gateway.example.com/${PLACE}"
"""


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZAI", KEY)
    monkeypatch.setenv("PLACE", "sk-fake-in-an-address")
    (home / "config.toml").write_text(TOML)
    return home / "config.toml"


def test_show_has_every_setting_and_no_secret(proxy: Proxy, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_API_KEY", KEY)
    done = proxy("config", "show")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    for line in (
        "routing.soft_limit = 0.3",
        'routing.tiers.haiku = "zai/glm-4.7"',
        'providers.zai.api_key = "…wxyz"',
        'providers.zai.base_url = "…"',
        'server.api_key = "…wxyz"',
        "server.port = 8080",
        "server.url = not set",
    ):
        assert line in lines
    assert lines == sorted(lines, key=lambda line: line.partition(" = ")[0])


def test_show_says_where_each_value_comes_from(proxy: Proxy, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "81")
    told = dict(line.rsplit("  # ", 1) for line in proxy("config", "show", "--origin").out.splitlines())
    told = {line.strip(): origin for line, origin in told.items()}
    assert told["server.port = 81"] == "PORT (environment)"
    assert told["routing.soft_limit = 0.3"] == f"routing.soft_limit ({config})"
    assert told['log.level = "info"'] == "default"
    document = json.loads(proxy("config", "show", "--json").out)
    assert document["schema_version"] == 1
    assert document["settings"]["server.port"] == {"value": 81, "origin": "PORT (environment)"}
    assert document["settings"]["providers.zai.api_key"]["value"] == "…wxyz"
    assert document["settings"]["server.url"]["value"] is None


def test_show_of_what_cannot_be_used_is_the_usual_complaint(proxy: Proxy, config: Path) -> None:
    config.write_text("[sever]\n")
    done = proxy("config", "show")
    assert (done.code, done.out) == (2, "") and "did you mean 'server'" in done.err and "more" not in done.err
    config.write_text("[sever]\n[rooting]\n[lag]\n")
    assert proxy("status").err.splitlines()[1:] == ["and 2 more: `proxy config validate` lists them all"]


def test_path_is_where_the_file_is_or_would_be_whatever_it_holds(
    proxy: Proxy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proxy("config", "path") == (0, f"{home}/config.toml\n", "")
    assert json.loads(proxy("config", "path", "--json").out)["exists"] is False
    (home / "config.toml").write_text("[broken")
    assert proxy("config", "path").code == 0
    assert json.loads(proxy("config", "path", "--json").out)["exists"] is True
    monkeypatch.setenv("MCP_PROXY_CONFIG", "/elsewhere/c.toml")
    assert proxy("config", "path").out == "/elsewhere/c.toml\n"
    assert proxy("config", "path", "--config", "/other/c.toml").out == "/other/c.toml\n"


def test_validate_says_that_a_file_can_be_used(proxy: Proxy, config: Path, tmp_path: Path) -> None:
    assert proxy("config", "validate") == (0, f"{config}: can be used\n", "")
    other = tmp_path / "new.toml"
    other.write_text("[server]\nport = 5\n")
    assert proxy("config", "validate", str(other)) == (0, f"{other}: can be used\n", "")
    assert json.loads(proxy("config", "validate", "--json").out) == {
        "schema_version": 1,
        "path": str(config),
        "ok": True,
        "problems": [],
    }
    config.unlink()
    assert proxy("config", "validate") == (0, f"{config}: not there; the defaults hold\n", "")


def test_validate_lists_everything_that_is_wrong(proxy: Proxy, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "new.toml"
    other.write_text(
        f"[server]\nport = 'x'\nprot = 1\n[providers.zai]\napi_key = ['{KEY}']\ntier = -1\n"
        "[[providers.kimi.budget]]\nwindow = '7x'\nlimit = 0\n"
    )
    done = proxy("config", "validate", str(other))
    assert (done.code, done.out) == (2, "") and KEY not in done.err
    lines = done.err.splitlines()
    assert [line.split(" ")[1] for line in lines] == [
        "server.prot",
        "server.port",
        "providers.zai.api_key",
        "providers.zai.tier",
        "providers.kimi.budget[0].window",
        "providers.kimi.budget[0].limit",
    ]
    assert all(line.startswith("proxy: ") and str(other) in line for line in lines)
    told = json.loads(proxy("config", "validate", str(other), "--json").out)
    assert told["ok"] is False and [f"proxy: {problem}" for problem in told["problems"]] == lines
    other.write_text("")


def test_validate_needs_the_file_that_it_was_given(proxy: Proxy, tmp_path: Path) -> None:
    done = proxy("config", "validate", str(tmp_path / "absent.toml"))
    assert done.code == 2 and done.err == f"proxy: there is no file {tmp_path / 'absent.toml'}\n"
    done = proxy("config", "validate", "--env-file", str(tmp_path / "absent.env"))
    assert done.code == 2 and "absent.env" in done.err


@pytest.mark.parametrize("command", ["show", "path", "validate"])
def test_every_command_has_examples(proxy: Proxy, command: str) -> None:
    done = proxy("config", command, "--help")
    assert done.code == 0
    assert f"proxy config {command}" in done.out
