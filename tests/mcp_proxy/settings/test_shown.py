"""What a person is shown of the settings, and everything that is wrong with them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_proxy.settings import SettingsError, load
from mcp_proxy.settings.fields import FIELDS
from mcp_proxy.settings.shown import shown
from tests.mcp_proxy.settings.conftest import Load, Problems

KEY = "sk-fake-key-long-enough-to-show-its-end-wxyz"

CONFIG = """
[server]
allowed_hosts = ["${PLACE}.lan"]
[routing]
failover_on = [503, 429]
[routing.tiers]
haiku = "zai/glm-4.7"
[providers.zai]
api_key = "${ZAI}"
[providers.zai.budget]
window = "7d"
limit = 5
"""


def test_every_setting_has_a_line_a_value_and_where_it_comes_from(read: Load, tmp_path: Path) -> None:
    found = {each.key: each for each in shown(read(CONFIG, PLACE="home", ZAI=KEY, PORT="81", PROXY_API_KEY="sk-fake"))}
    said = {key: (each.text(), each.origin.partition(" (")[0]) for key, each in found.items()}
    expected = {
        "server.port": ("81", "PORT"),
        "server.host": ('"127.0.0.1"', "default"),
        "server.url": ("not set", "default"),
        "server.api_key": ('"…"', "PROXY_API_KEY"),
        "server.allowed_hosts": ('"…"', "server.allowed_hosts"),
        "routing.failover_on": ("[429, 503]", "routing.failover_on"),
        "routing.max_wait": ("120", "default"),
        "routing.soft_limit": ("0.2", "default"),
        "routing.tiers.haiku": ('"zai/glm-4.7"', "routing.tiers.haiku"),
        "providers.zai.api_key": ('"…wxyz"', "providers.zai.api_key"),
        "providers.zai.budget.window": ('"7d"', "providers.zai.budget.window"),
        "log.level": ('"info"', "default"),
    }
    assert {key: said.get(key) for key in expected} == expected
    assert {field.key for field in FIELDS if not field.key.startswith("routing.tiers")} <= set(found)


def test_what_an_account_of_its_own_replaces_is_not_shown(read: Load) -> None:
    own = {"HAIKU_PROVIDER_BASE_URL": "https://a.example", "HAIKU_PROVIDER_API_KEY": KEY}
    found = {each.key: each.value for each in shown(read(CONFIG, PLACE="home", ZAI=KEY, **own))}
    assert "routing.tiers.haiku" not in found
    assert found["routing.tiers.haiku.base_url"] == "https://a.example"


def test_everything_that_is_wrong_is_said_in_the_order_in_which_it_is_met(problems: Problems) -> None:
    said = problems(
        "[sever]\n[server]\nport = 'x'\nprot = 1\n[routing]\nmax_wait = -1\n[routing.tiers]\nhaiku = 'zia'\n"
        "opus = 'zia'\n[providers.zai]\ntier = 'x'\nteir = 1\n[providers.zai.budget]\nwindow = 'x'\n[prices]\nm = 3\n",
        LOG_LEVEL="loud",
        CORS_ENABLED="1",
        MCP_PROXY_PROVIDERS__ZIA__TIER="1",
    )
    names = (
        *("sever", "server.prot", "LOG_LEVEL", "server.port", "CORS_ENABLED", "routing.max_wait"),
        *("routing.tiers.haiku", "routing.tiers.opus", "MCP_PROXY_PROVIDERS__ZIA__TIER", "providers.zai.teir"),
        *("providers.zai.tier", "providers.zai.budget.window", 'prices."m"'),
    )
    assert [next(name for name in names if each.startswith(f"{name} ")) for each in said] == list(names)


def test_a_file_that_is_no_toml_is_one_problem(problems: Problems) -> None:
    said = problems("[server\n", LOG_LEVEL="loud")
    assert len(said) == 1 and "not valid TOML" in said[0]


def test_the_files_that_were_read_are_known_also_where_they_cannot_be_used(tmp_path: Path) -> None:
    env, key, config = tmp_path / "some.env", tmp_path / "key", tmp_path / "named.toml"
    env.write_text(f"PROXY_API_KEY_FILE={key}\n")
    config.write_text("")
    where = {"config": str(config), "env_file": str(env)}
    with pytest.raises(SettingsError) as caught:
        load(where, {"MCP_PROXY_HOME": str(tmp_path)})
    assert set(caught.value.files) == {env, key, config} and caught.value.files[key] is None
    key.write_text(KEY)
    found = load(where, {"MCP_PROXY_HOME": str(tmp_path)})
    assert set(found.files) == {env, key, config} and None not in found.files.values()
    key.write_text("")
    env.unlink()
    with pytest.raises(SettingsError) as caught:
        found.again()
    assert caught.value.files == {env: None}


def test_settings_can_be_read_again_from_where_they_came(read: Load, tmp_path: Path) -> None:
    found = read("", flags={"port": 5}, SOFT_LIMIT_THRESHOLD="0.5")
    assert found.again() == found and found.files[tmp_path / "config.toml"] is not None
    (tmp_path / "config.toml").write_text("[routing]\nsoft_limit = 0.1\nmax_attempts = 9\n[server]\nport = 6\n")
    new = found.again()
    assert (new.routing.soft_limit, new.routing.max_attempts, new.server.port) == (0.5, 9, 5)
