"""Settings that change under a running server: what is taken over, when, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from structlog.testing import capture_logs

from mcp_proxy.cli import reload
from mcp_proxy.cli.reload import Reload, changed, needs_restart, reconfigure
from mcp_proxy.core.prices import Price
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.settings import Settings, load
from tests.mcp_proxy.gateway.kit import until

TOML = '[routing]\nmax_attempts = {}\n[providers.zai]\napi_key = "${{ZAI}}"\n'


@pytest.fixture(autouse=True)
def looks_often(quiet_logs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_SECONDS", 0.002)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))


@dataclass
class Followed:
    """A reload at work, and what it did."""

    config: Path
    reload: Reload
    applied: list[int] = field(default_factory=list)
    looks: int = 0
    said: list[Any] = field(default_factory=list)

    def write(self, attempts: int) -> None:
        self.config.write_text(TOML.format(attempts))

    async def looked(self, times: int = 8) -> None:
        wanted = self.looks + times
        await until(lambda: self.looks >= wanted)

    def told(self) -> list[tuple[str, str, str | None]]:
        return [
            (line["log_level"], line.get("changed") or line.get("error"), line.get("needs_restart"))
            for line in self.said
        ]


def read(home: Path, **environ: str) -> Settings:
    return load({}, {"MCP_PROXY_HOME": str(home), "ZAI": "sk-fake-zai", **environ})


@asynccontextmanager
async def following(home: Path, **environ: str) -> AsyncIterator[Followed]:
    config = home / "config.toml"
    if not config.exists():
        config.write_text(TOML.format(5))

    def look() -> None:
        made.looks += 1

    made = Followed(
        config, Reload(read(home, **environ), lambda new: made.applied.append(new.routing.max_attempts), look)
    )
    with capture_logs() as made.said:
        job = asyncio.ensure_future(made.reload.follow())
        try:
            yield made
        finally:
            job.cancel()
            await asyncio.wait([job])


async def test_a_changed_file_is_taken_over_once_and_its_keys_are_named(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        await made.looked()
        assert made.applied == [] and made.said == []
        made.write(7)
        await until(lambda: made.applied == [7])
        await made.looked()
        assert made.applied == [7] and made.told() == [("info", "routing.max_attempts", None)]


async def test_a_change_before_the_first_look_is_seen_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TOML.format(5))
    at = read(tmp_path)
    (tmp_path / "config.toml").write_text(TOML.format(16))
    made: list[int] = []
    job = asyncio.ensure_future(Reload(at, lambda new: made.append(new.routing.max_attempts)).follow())
    await until(lambda: made == [16])
    job.cancel()
    await asyncio.wait([job])


async def test_a_file_that_is_still_being_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 0

    async with following(tmp_path) as made:
        real = reload._stamps

        def restless(paths: tuple[Path, ...]) -> Any:
            nonlocal number
            number += 1
            return dict.fromkeys(real(paths), (number, 0, 0))

        monkeypatch.setattr(reload, "_stamps", restless)
        await made.looked(20)
        assert made.applied == []
        monkeypatch.setattr(reload, "_stamps", real)
        made.write(7)
        await until(lambda: made.applied == [7])


@pytest.mark.parametrize("broken", ["[routing\n", "[routing]\nmax_attempts = 'x'\n", '[server]\nhost = "${NOT_SET}"\n'])
async def test_a_broken_file_is_named_once_and_a_repaired_one_takes_over(tmp_path: Path, broken: str) -> None:
    async with following(tmp_path) as made:
        made.config.write_text(broken)
        await until(lambda: made.said)
        await made.looked()
        assert [line["log_level"] for line in made.said] == ["error"] and made.applied == []
        assert "config.toml" in made.said[0]["error"]
        made.config.write_text(broken + "# still\n")
        await made.looked()
        assert len(made.said) == 1 and made.reload.settings.routing.max_attempts == 5
        made.write(6)
        await until(lambda: made.applied == [6])


async def test_all_that_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        made.config.write_text("[routing]\nmax_attempts = 0\nmax_wait = -1\n")
        await until(lambda: made.said)
        assert "max_attempts" in made.said[0]["error"] and "max_wait" in made.said[0]["error"]


async def test_a_file_replaced_by_renaming_is_taken_over(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        other = tmp_path / "config.toml.new"
        other.write_text(TOML.format(5))  # the very same size
        other.replace(made.config)
        await until(lambda: made.said)
        assert made.told() == [("info", "nothing", None)]
        other.write_text(TOML.format(8))
        other.replace(made.config)
        await until(lambda: made.applied[-1:] == [8])


async def test_a_file_that_vanishes_keeps_the_old_settings_until_a_signal_says_otherwise(tmp_path: Path) -> None:
    made_of = TOML.format(7)
    (tmp_path / "config.toml").write_text(made_of)
    async with following(tmp_path) as made:
        made.config.rename(tmp_path / "aside")
        await until(lambda: made.said)
        await made.looked()
        assert made.applied == [] and [line["error"] for line in made.said] == [f"{made.config} is gone"]
        (tmp_path / "aside").rename(made.config)
        await until(lambda: len(made.said) == 2)
        assert made.said[1]["log_level"] == "info" and made.applied == []
        made.config.unlink()
        await until(lambda: len(made.said) == 3)
        made.reload.ask()
        await until(lambda: made.applied == [5])


async def test_a_file_that_is_away_for_a_moment_is_no_trouble(tmp_path: Path) -> None:
    """Editors write so: away with the old one, then the new one."""
    async with following(tmp_path) as made:
        made.reload._last = {made.config: None}
        await made.reload._looked(False)
        assert made.said == []


async def test_a_file_that_one_look_misses_is_no_trouble(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(TOML.format(5))
    made: list[Settings] = []
    look = Reload(read(tmp_path), made.append)._looked
    with capture_logs() as said:
        await look(False)
        config.rename(tmp_path / "away")
        await look(False)
        (tmp_path / "away").rename(config)
        await look(False)
    assert (made, said) == ([], [])


async def test_a_config_file_that_comes_later_is_taken_over(tmp_path: Path) -> None:
    made: list[int] = []
    job = asyncio.ensure_future(Reload(read(tmp_path), lambda new: made.append(new.routing.max_attempts)).follow())
    (tmp_path / "config.toml").write_text(TOML.format(9))
    await until(lambda: made == [9])
    job.cancel()
    await asyncio.wait([job])


async def test_a_signal_reads_again_whether_or_not_something_changed(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        made.reload.ask()
        await until(lambda: made.said)
        assert made.told() == [("info", "nothing", None)] and made.applied == [5]


async def test_a_signal_says_again_nothing_that_was_said(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        made.config.write_text("[")
        await until(lambda: made.said)
        made.reload.ask()
        await made.looked()
        assert len(made.said) == 1


async def test_env_files_and_files_of_secrets_are_followed_and_no_secret_is_said(tmp_path: Path) -> None:
    key = tmp_path / "zai.key"
    key.write_text("sk-fake-one")
    env = tmp_path / "some.env"
    env.write_text("SOFT_LIMIT_THRESHOLD=0.5\n")
    (tmp_path / "config.toml").write_text(TOML.format(5))
    at = load({"env_file": str(env)}, {"MCP_PROXY_HOME": str(tmp_path), "ZAI_FILE": str(key)})
    keys: list[Any] = []
    with capture_logs() as said:
        job = asyncio.ensure_future(
            Reload(at, lambda new: keys.append((new.provider("zai").api_key, new.routing.soft_limit))).follow()
        )
        key.write_text("sk-fake-another")
        await until(lambda: keys)
        env.write_text("SOFT_LIMIT_THRESHOLD=0.25\n")
        await until(lambda: len(keys) == 2)
        job.cancel()
        await asyncio.wait([job])
    assert (keys[0][0].reveal(), keys[0][1], keys[1][1]) == ("sk-fake-another", 0.5, 0.25)
    assert [line["changed"] for line in said] == ["providers.zai.api_key", "routing.soft_limit"]
    assert "sk-fake" not in repr(said)
    key.write_text("")


async def test_a_secret_s_file_that_the_new_settings_miss_is_waited_for(tmp_path: Path) -> None:
    async with following(tmp_path, OTHER_FILE=str(tmp_path / "other")) as made:
        made.config.write_text(TOML.format(5).replace("ZAI", "OTHER"))
        await until(lambda: made.said)
        assert "no file" in made.said[0]["error"]
        (tmp_path / "other").write_text("sk-fake-other")
        await until(lambda: made.applied == [5])
        (tmp_path / "other").write_text("")


async def test_what_needs_a_restart_is_said_and_what_is_put_back_does_not(tmp_path: Path) -> None:
    async with following(tmp_path) as made:
        made.config.write_text("[server]\nport = 9\n[journal]\nenabled = false\nretention_days = 3\n")
        await until(lambda: made.said)
        (_, keys, restart) = made.told()[0]
        assert restart == "journal.enabled, server.port"
        assert keys == "journal.enabled, journal.retention_days, providers.zai.api_key, server.port"
        made.config.write_text("[server]\nport = 8080\n[journal]\nenabled = true\n")
        await until(lambda: len(made.said) == 2)
        assert made.told()[1] == ("info", "journal.enabled, journal.retention_days, server.port", None)


def test_the_keys_of_a_restart(tmp_path: Path) -> None:
    one = read(tmp_path)
    (tmp_path / "config.toml").write_text(
        '[log]\nlevel = "warn"\nformat = "json"\n[accounts.x.budget]\nwindow = "5h"\nlimit = 1\n'
    )
    other = read(tmp_path, PROXY_API_KEY="sk-fake", ACCOUNTS_CONFIG_PATH="/x", MCP_PROXY_VAULT_PASSPHRASE="sk-fake")
    keys = changed(one, other)
    assert needs_restart(one, other, keys) == ["accounts", "log.format", "server.api_key", "vault.passphrase"]
    assert set(keys) - {"accounts", "log.format", "server.api_key", "vault.passphrase"} == {
        "log.level",
        *(f'accounts."x".budget.{name}' for name in ("limit", "window")),
    }


def test_all_that_may_change_reaches_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told:
        def reconfigure(self, **how: Any) -> None:
            self.how = how

    toml = """
[routing]
max_attempts = 7
[log]
level = "error"
[journal]
retention_days = 3
[prices]
m = { input = 1, output = 2 }
[providers.zai]
api_key = "${ZAI}"
tier = 4
[accounts.x.budget]
window = "5h"
limit = 9
"""
    (tmp_path / "config.toml").write_text(toml)
    told, levels = Told(), list[str]()
    monkeypatch.setattr(reload.logs, "set_level", levels.append)
    reconfigure(cast(Gateway, told), read(tmp_path))
    how = told.how
    assert (how["policy"].max_attempts, how["options"]["zai"].tier, levels) == (7, 4, ["error"])
    assert (how["retention_days"], how["prices"], list(how["budgets"])) == (3, {"m": Price(1, 2)}, ["x"])
    assert [account.provider for account, _ in how["fixed"]] == ["zai"]
