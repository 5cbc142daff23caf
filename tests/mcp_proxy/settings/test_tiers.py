"""Who serves a size class: the config file's line, Claude Code's variables, an account of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.model import Secret
from mcp_proxy.settings import TierSettings
from tests.mcp_proxy.settings.conftest import Load, Problems

FAKE = "sk-fake-key-of-a-tier"
URL = "https://api.z.ai/api/anthropic"
OWN = {"HAIKU_PROVIDER_BASE_URL": URL + "/", "HAIKU_PROVIDER_API_KEY": FAKE}
MODEL = "ANTHROPIC_DEFAULT_HAIKU_MODEL"


@pytest.mark.parametrize(
    ("line", "environ", "tier"),
    [
        ('"zai"', {}, TierSettings("zai")),
        ('"zai/glm-4.7"', {}, TierSettings("zai", "glm-4.7")),
        ('"openrouter/anthropic/claude-haiku-9"', {}, TierSettings("openrouter", "anthropic/claude-haiku-9")),
        ('{ provider = "zai", model = "glm-4.7" }', {}, TierSettings("zai", "glm-4.7")),
        ('{ model = "glm-4.7" }', {}, TierSettings(None, "glm-4.7")),
        (None, {MODEL: "glm-4.7"}, TierSettings(None, "glm-4.7")),
        (None, {MODEL: "zai/glm-4.7"}, TierSettings("zai", "glm-4.7")),
        (None, {MODEL: "anthropic/zai/glm-4.7"}, TierSettings("zai", "glm-4.7")),
        (None, {MODEL: "meta/llama-9"}, TierSettings(None, "meta/llama-9")),
        (None, {MODEL: "claude-haiku-9[1m]"}, TierSettings(None, "claude-haiku-9")),
        ('"zai/glm-4.7"', {MODEL: "glm-5"}, TierSettings("zai", "glm-5")),
        ('"zai"', {MODEL: "zai/glm-5"}, TierSettings("zai", "glm-5")),
        ('"openrouter"', {MODEL: "anthropic/claude-haiku-9"}, TierSettings("openrouter", "anthropic/claude-haiku-9")),
        (None, OWN, TierSettings(None, None, URL, Secret(FAKE))),
        ('"kimi/k3"', OWN, TierSettings(None, None, URL, Secret(FAKE))),
        (None, {**OWN, MODEL: "zai/x"}, TierSettings(None, "zai/x", URL, Secret(FAKE))),
        ('"zai"', {MODEL: "", "HAIKU_PROVIDER_BASE_URL": "", "HAIKU_PROVIDER_API_KEY": " "}, TierSettings("zai")),
    ],
)
def test_a_size_class_is_served_as_its_line_and_its_variables_say(
    read: Load, line: str | None, environ: dict[str, str], tier: TierSettings
) -> None:
    assert read(f"[routing.tiers]\nhaiku = {line}\n" if line else "", **environ).routing.tiers == {"haiku": tier}


def test_every_size_class_may_have_an_account_of_its_own_at_once(read: Load) -> None:
    sizes = ("HAIKU", "SONNET", "OPUS", "FABLE")
    environ = {f"{size}_PROVIDER_BASE_URL": f"https://{size.lower()}.example" for size in sizes}
    environ |= {f"{size}_PROVIDER_API_KEY": f"{FAKE}-{size}" for size in sizes}
    found = read(**environ).routing.tiers
    assert {size: (tier.base_url, tier.api_key) for size, tier in found.items()} == {
        size.lower(): (f"https://{size.lower()}.example", Secret(f"{FAKE}-{size}")) for size in sizes
    }


def test_a_key_may_come_as_a_file(read: Load, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(FAKE + "\n")
    found = read(OPUS_PROVIDER_BASE_URL=URL, OPUS_PROVIDER_API_KEY_FILE=str(file))
    assert found.routing.tiers["opus"].api_key == Secret(FAKE)
    assert file in found.files
    file.write_text("")


@pytest.mark.parametrize(
    ("config", "environ", "says"),
    [
        ('haiku = "zai/"', {}, "no model behind the slash"),
        ('haiku = "zia/glm"', {}, "did you mean 'zai'"),
        ('haiku = { provider = "zia" }', {}, "did you mean 'zai'"),
        ("haiku = {}", {}, "neither a provider nor a model"),
        ('haiku = { providr = "zai" }', {}, "did you mean 'provider'"),
        ("haiku = 3", {}, "must be text"),
        ('haiko = "zai"', {}, "did you mean 'haiku'"),
        ("", {"HAIKU_PROVIDER_BASE_URL": URL}, "set HAIKU_PROVIDER_API_KEY too"),
        ("", {"OPUS_PROVIDER_API_KEY": FAKE}, "set OPUS_PROVIDER_BASE_URL too"),
        ("", {"OPUS_PROVIDER_API_KEY": FAKE, "OPUS_PROVIDER_BASE_URL": "http://z.ai"}, "use https"),
    ],
)
def test_what_cannot_serve_a_size_class_is_refused(
    problems: Problems, config: str, environ: dict[str, str], says: str
) -> None:
    (said,) = problems(f"[routing.tiers]\n{config}\n", **environ)
    assert says in said and FAKE not in said
    assert "config.toml" in said if config else "environment" in said
