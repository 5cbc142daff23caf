"""What the README shows can be typed and is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cyclopts import App

from mcp_proxy.cli.root import app
from mcp_proxy.providers import all_providers
from mcp_proxy.settings import Folders, load
from mcp_proxy.settings.fields import FIELDS
from mcp_proxy.settings.providers import PREFIX

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
VARIABLES = {field.env for field in FIELDS if field.env}


def section(heading: str) -> str:
    return README.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_the_two_commands_of_first_contact_come_first() -> None:
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    assert blocks[0].strip() == "pip install uv && uv run proxy demo"
    assert blocks[1].strip() == "pip install uv && uv run pytest"


def test_the_sample_config_is_accepted(tmp_path: Path) -> None:
    (sample,) = re.findall(r"```toml\n(.*?)```", section("Settings"), re.DOTALL)
    (tmp_path / "config.toml").write_text(sample)
    found = load(
        {},
        dict.fromkeys(("ZAI_API_KEY", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"), "sk-fake-key"),
        Folders.all_in(tmp_path),
    )
    assert found.routing.aliases and found.routing.tiers and found.provider("zai").tier == 2
    assert found.accounts and found.prices and found.provider("zai").budgets and found.provider("zai").aliases


def test_every_variable_it_names_is_read_and_every_one_read_is_named() -> None:
    settings = section("Settings")
    named = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+|PORT|DEBUG)`", settings))
    assert {name for name in named if not name.startswith(PREFIX)} == VARIABLES


def test_every_command_and_flag_it_shows_exists(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"(?:^|`|run )proxy (?:run --rm proxy )?([a-z]+)", README, re.MULTILINE)
    assert shown and set(shown) <= set(app)
    serve = app["serve"]
    assert isinstance(serve, App)
    serve.help_print([])
    flags = set(re.findall(r"(--[a-z-]+)", capsys.readouterr().out)) - {"--api-key"}
    table = set(re.findall(r"`(--[a-z-]+)", section("Settings").split("| variable")[0])) - {"--env-file"}
    assert table <= flags


def test_its_table_of_providers_is_the_program_s() -> None:
    named = set(re.findall(r"^\| `([a-z-]+)` \|", section("Providers"), re.MULTILINE))
    assert named == {str(name) for name in all_providers()}
