"""The container files, looked at without Docker: they name what exists, hold no secret, and run as nobody."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
from mcp_proxy.settings import SettingsError, load, parse_env_file
from mcp_proxy.settings.fields import FIELDS
from mcp_proxy.settings.providers import PREFIX

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLES = {field.env for field in FIELDS if field.env}
SECRETS = {field.env for field in FIELDS if field.secret}
NOT_OURS = {"PATH", "PYTHONUNBUFFERED"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile, an instruction a pair."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


@pytest.fixture
def compose() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def service(compose: dict[str, Any]) -> dict[str, Any]:
    (found,) = compose["services"].values()
    assert isinstance(found, dict)
    return found


def environment_of_the_image() -> dict[str, str]:
    return dict(re.findall(r"([A-Z_]+)=(\S+)", " ".join(all_of("ENV"))))


def test_the_image_runs_as_somebody_without_power() -> None:
    (user,) = all_of("USER")
    assert user.isdigit() and int(user) > 0
    last = [name for name, _ in instructions()]
    assert last.index("USER") > max(place for place, name in enumerate(last) if name in ("COPY", "RUN"))


def test_the_image_installs_what_the_lock_says_with_hashes() -> None:
    assert any("--require-hashes -r requirements.lock" in command for command in all_of("RUN"))
    assert all(re.fullmatch(r"python:3\.11-slim( AS build)?", base) for base in all_of("FROM"))


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [word for copy in all_of("COPY") if "--from" not in copy for word in copy.split()[:-1]]
    assert sources and all((ROOT / source).exists() for source in sources)
    assert sorted(sources) == sorted(let_through)


def test_the_images_environment_is_of_known_settings_and_accepted() -> None:
    environ = environment_of_the_image()
    assert set(environ) - NOT_OURS <= VARIABLES
    assert not set(environ) & SECRETS
    found = load({}, {name: value for name, value in environ.items() if name not in NOT_OURS})
    assert (found.server.host, found.server.port) == ("0.0.0.0", 8080)
    assert found.server.reachable_at == "http://127.0.0.1:8080"
    assert found.paths.state_file == Path("/data/state.db").absolute()
    assert all_of("VOLUME") == ['["/data"]'] and all_of("EXPOSE") == ["8080"]


def test_the_health_check_is_a_command_of_the_program(
    service: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (check,) = all_of("HEALTHCHECK")
    words = yaml.safe_load(check.partition("CMD ")[2])
    assert words == service["healthcheck"]["test"][1:] == ["proxy", "status", "--live"]
    assert run(app, [words[1], "--help"]) == 0
    assert words[2] in capsys.readouterr().out
    assert all_of("ENTRYPOINT") == ['["proxy"]'] and all_of("CMD") == ['["serve"]']
    assert "serve" in list(app)


def test_the_service_is_closed_but_for_one_loopback_port(service: dict[str, Any]) -> None:
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service


def test_the_services_key_comes_as_a_secret_file(compose: dict[str, Any], service: dict[str, Any]) -> None:
    environ = service["environment"]
    assert {name.removesuffix("_FILE") for name in environ} <= VARIABLES
    assert not set(environ) & SECRETS
    assert environ["PROXY_API_KEY_FILE"] == "/run/secrets/proxy_api_key"
    assert service["secrets"] == list(compose["secrets"]) == ["proxy_api_key"]
    assert service["volumes"] == ["data:/data"] and list(compose["volumes"]) == ["data"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    assert "proxy_api_key" in (DEPLOY / ".gitignore").read_text().split()


def test_the_sample_environment_is_accepted_as_it_is() -> None:
    text = (DEPLOY / ".env.example").read_text()
    found = load({"env_file": DEPLOY / ".env.example"}, {"MCP_PROXY_HOME": "/nowhere"})
    assert "env file" in found.origin_of("server.port")
    assert "replace-me" in found.server.required_key().reveal()
    assert set(parse_env_file(text, "sample")) <= VARIABLES


def test_the_sample_environment_names_every_variable_and_no_other() -> None:
    text = (DEPLOY / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    ours = {name for name in named if not name.startswith(PREFIX)}
    assert ours - {"PROXY_API_KEY_FILE"} == VARIABLES
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) > 20


def test_what_is_switched_off_in_the_sample_environment_would_be_accepted_too() -> None:
    text = (DEPLOY / ".env.example").read_text()
    refused = []
    for name, value in re.findall(r"^#([A-Z][A-Z0-9_]*)=(.+)$", text, re.MULTILINE):
        if name.endswith("_FILE") or name == "MCP_PROXY_CONFIG":
            continue  # these name files that are not here
        try:
            load({}, {"MCP_PROXY_HOME": "/nowhere", name: value})
        except SettingsError as error:
            refused.append(str(error))
    assert not refused


LOCK = (ROOT / "requirements.lock").read_text()


def test_the_lock_names_packages_and_hashes_and_no_place() -> None:
    for line in LOCK.splitlines():
        assert "://" not in line and "@ " not in line and "find-links" not in line and "index" not in line, line
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+|    (--hash=sha256:[0-9a-f]{64}|# )|#", line), line


def test_the_lock_pins_every_dependency_and_hashes_every_pin() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[>=<;\[ ]", name)[0].lower() for name in project["dependencies"]}
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE))
    assert wanted <= pinned
    for pin in re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE):
        assert not pin.strip() or "--hash=sha256:" in pin, pin


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_build_script_is_whole_and_runs_every_gate() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    steps = ("ruff format --check .", "ruff check .", "mypy", "lint-imports", "uv run pytest")
    places = [text.index(step) for step in steps]
    assert places == sorted(places) and "set -euo pipefail" in text
    assert "uv run pytest" in (ROOT / "README.md").read_text()
