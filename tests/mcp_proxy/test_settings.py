"""Flags, environment, env file and config file become one frozen value, or one clear complaint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from accounts.model import Secret
from mcp_proxy.settings import (
    FRAMEWORK_VARIABLES,
    Folders,
    Settings,
    SettingsError,
    TierSettings,
    clear_framework_environment,
    load,
    parse_env_file,
)

FAKE = "sk-fake-secret-not-real"

Load = Callable[..., Settings]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for name in ("config", "data", "state"):
        (tmp_path / name).mkdir()
    return Folders(tmp_path / "config", tmp_path / "data", tmp_path / "state")


@pytest.fixture
def read(folders: Folders) -> Load:
    """Load with variables by name, `config=` as the text of the config file and `flags=`."""

    def read(*, config: str | None = None, flags: Mapping[str, object] | None = None, **environ: str) -> Settings:
        if config is not None:
            (folders.config / "config.toml").write_text(config, encoding="utf-8")
        return load(flags or {}, environ, folders)

    return read


def refusal(read: Load, **how: object) -> str:
    with pytest.raises(SettingsError) as caught:
        read(**how)
    assert caught.value.exit_code == 2
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_without_anything_the_defaults_of_the_contract_hold(read: Load, folders: Folders) -> None:
    found = read()
    assert (found.server.host, found.server.port, found.server.api_key) == ("127.0.0.1", 8080, None)
    assert (found.server.read_timeout, found.server.write_timeout, found.server.idle_timeout) == (30, 300, 120)
    assert (found.routing.fallback, found.routing.soft_limit) == (False, 0.2)
    assert (found.routing.max_attempts, found.routing.max_wait) == (5, 120)
    assert (found.log.level, found.log.format, found.debug) == ("info", "text", False)
    assert found.server.cors is None and found.server.workers == 1 and not found.providers
    assert found.paths.config_file == folders.config / "config.toml"
    assert found.paths.vault_key_file == folders.config / "vault.key"
    assert found.paths.accounts_file == folders.data / "accounts.json"
    assert found.paths.state_file == folders.state / "state.db"
    assert found.origin_of("server.port") == "default"


def test_a_flag_beats_the_environment_beats_the_env_file_beats_the_config_file(read: Load, tmp_path: Path) -> None:
    env_file = tmp_path / "some.env"
    env_file.write_text("PORT=3\n")
    config = "[server]\nport = 4\n"
    flags = {"port": 1, "env_file": env_file}
    seen = [
        read(config=config, flags=flags, PORT="2"),
        read(config=config, flags={"env_file": env_file}, PORT="2"),
        read(config=config, flags={"env_file": env_file}),
        read(config=config),
        read(config=""),
    ]
    assert [found.server.port for found in seen] == [1, 2, 3, 4, 8080]
    assert [found.origin_of("server.port").split(" (")[0] for found in seen] == [
        "--port",
        "PORT",
        "PORT",
        "server.port",
        "default",
    ]
    assert "env file" in seen[2].origin_of("server.port") and "environment" in seen[1].origin_of("server.port")


def test_an_env_file_is_never_read_by_itself(read: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=9\n")
    monkeypatch.chdir(tmp_path)
    assert read().server.port == 8080


SAMPLE = """
[server]
port = 8081
allowed_hosts = ["Proxy.LAN"]
[routing]
fallback = true
soft_limit = 0.25
max_attempts = 7
max_wait = 60
[routing.fallbacks]
"gemini-3-pro-high" = ["claude-opus-4-6-thinking"]
[routing.aliases]
"claude-haiku-*" = "zai/glm-4.5-air"
[routing.tiers]
haiku = "zai"
[log]
level = "warn"
format = "json"
[providers.zai]
base_url = "https://api.z.ai/api/anthropic/"
tier = 2
accounts = "spread"
api_key = "${ZAI_API_KEY}"
quota_url = "https://api.z.ai/quota"
[providers.antigravity]
base_urls = ["https://daily.example.com", "https://prod.example.com"]
authorize_url = "https://accounts.example.com/auth"
token_url = "https://oauth.example.com/token"
userinfo_url = "https://oauth.example.com/userinfo"
client_version = "1.2.3"
"""


def test_the_sample_config_is_understood_key_by_key(read: Load) -> None:
    found = read(config=SAMPLE, ZAI_API_KEY=FAKE)
    assert (found.server.port, found.server.allowed_hosts) == (8081, ("proxy.lan",))
    assert (found.routing.fallback, found.routing.soft_limit) == (True, 0.25)
    assert (found.routing.max_attempts, found.routing.max_wait) == (7, 60)
    assert found.routing.fallbacks == {"gemini-3-pro-high": ("claude-opus-4-6-thinking",)}
    assert found.routing.aliases == {"claude-haiku-*": "zai/glm-4.5-air"}
    assert found.routing.tiers == {"haiku": TierSettings("zai")}
    assert (found.log.level, found.log.format) == ("warn", "json")
    zai = found.provider("zai")
    assert (zai.base_url, zai.tier, zai.spread) == ("https://api.z.ai/api/anthropic", 2, True)
    assert zai.api_key == Secret(FAKE)
    assert zai.urls == {"quota_url": "https://api.z.ai/quota"}
    antigravity = found.provider("antigravity")
    assert antigravity.base_urls == ("https://daily.example.com", "https://prod.example.com")
    assert set(antigravity.urls) == {"authorize_url", "token_url", "userinfo_url"}
    assert antigravity.client_version == "1.2.3"
    assert found.provider("kimi").base_url is None


def test_a_settings_value_never_prints_a_secret(read: Load) -> None:
    found = read(config=SAMPLE, ZAI_API_KEY=FAKE, PROXY_API_KEY=FAKE, MCP_PROXY_VAULT_PASSPHRASE=FAKE)
    assert FAKE not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("1", True),
        ("YES", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("no", False),
        ("Off", False),
    ],
)
def test_booleans_are_read_in_every_usual_spelling(read: Load, text: str, expected: bool) -> None:
    assert read(ENABLE_FALLBACK=text).routing.fallback is expected


@pytest.mark.parametrize(
    ("environ", "names", "says"),
    [
        ({"PORT": "http"}, "PORT (environment)", "'http'"),
        ({"PORT": ""}, "PORT (environment)", "whole number"),
        ({"PORT": "70000"}, "PORT (environment)", "65535"),
        ({"ENABLE_FALLBACK": "maybe"}, "ENABLE_FALLBACK", "'maybe'"),
        ({"SOFT_LIMIT_THRESHOLD": "nan"}, "SOFT_LIMIT_THRESHOLD", "between 0 and 1"),
        ({"SOFT_LIMIT_THRESHOLD": "1.5"}, "SOFT_LIMIT_THRESHOLD", "'1.5'"),
        ({"SOFT_LIMIT_THRESHOLD": "-0.1"}, "SOFT_LIMIT_THRESHOLD", "between"),
        ({"SOFT_LIMIT_THRESHOLD": "true"}, "SOFT_LIMIT_THRESHOLD", "not a number"),
        ({"READ_TIMEOUT_SEC": "0"}, "READ_TIMEOUT_SEC", "between"),
        ({"IDLE_TIMEOUT_SEC": "inf"}, "IDLE_TIMEOUT_SEC", "between"),
        ({"LOG_LEVEL": "debgu"}, "LOG_LEVEL", "did you mean 'debug'"),
        ({"BIND_ADDRESS": "http://x"}, "BIND_ADDRESS", "host name"),
        ({"ALLOWED_HOSTS": "proxy.lan:80"}, "ALLOWED_HOSTS", "without scheme or port"),
        ({"CORS_ENABLED": "1"}, "CORS_ENABLED", "CORS_ALLOW_ORIGIN"),
        ({"CORS_ENABLED": "1", "CORS_ALLOW_ORIGIN": "*, https://a.example"}, "CORS_ALLOW_ORIGIN", "alone"),
        ({"CORS_ALLOW_ORIGIN": "a.example"}, "CORS_ALLOW_ORIGIN", "https://example.com"),
        ({"MCP_PROXY_PROVIDERS__ZAI__TEIR": "1"}, "TEIR", "did you mean 'tier'"),
        ({"MCP_PROXY_PROVIDERS__ZIA__TIER": "1"}, "ZIA", "did you mean 'zai'"),
        ({"MCP_PROXY_PROVIDERS__ZAI__BASE_URL": "http://api.z.ai"}, "BASE_URL", "use https"),
        ({"MCP_PROXY_PROVIDERS__ZAI__BASE_URL": "ftp://api.z.ai"}, "BASE_URL", "http(s)"),
        ({"MCP_PROXY_PROVIDERS__ZAI__BASE_URL": "https://a.example:99999"}, "BASE_URL", "http(s)"),
        ({"MCP_PROXY_PROVIDERS__CUSTOM__API_KEY": FAKE}, "providers.custom", "base_url"),
        ({"MCP_PROXY_PROVIDERS__CLAUDE_SUBSCRIPTION__API_KEY": FAKE}, "providers.claude-subscription", "own login"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_source(
    read: Load, environ: dict[str, str], names: str, says: str
) -> None:
    said = refusal(read, **environ)
    assert names in said and says in said


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[sever]\n", "did you mean 'server'"),
        ("[server]\nprot = 1\n", "did you mean 'port'"),
        ("[routing]\nsoftlimit = 1\n", "did you mean 'soft_limit'"),
        ("[routing.tier]\nhaiku = 'zai'\n", "did you mean 'tiers'"),
        ("[routing.tiers]\nhaiko = 'zai'\n", "did you mean 'haiku'"),
        ("[routing.tiers]\nhaiku = 'zia'\n", "did you mean 'zai'"),
        ("[providers.antigravty]\ntier = 1\n", "did you mean 'antigravity'"),
        ("[providers.zai]\nteir = 1\n", "did you mean 'tier'"),
        ("[providers.zai]\naccounts = 'stick'\n", "did you mean 'sticky'"),
        ("[providers.zai]\nbase_url = 'https://a.example'\nbase_urls = ['https://b.example']\n", "keep one"),
        ("[providers.zai]\nbase_url = 'http://192.168.0.9'\n", "use https"),
        ("providers = 3\n", "must be a table"),
        ("[server]\nport = true\n", "not a whole number"),
        ("[server]\nport = 'x'\n[server]\n", "not valid TOML"),
        ("[server]\nhost = '${NOT_SET}'\n", "NOT_SET, which is not set"),
        ("[server]\nhost = '${no name}'\n", "names no variable"),
        ("[server]\nhost = '${OPEN'\n", "names no variable"),
        ("[server]\napi_key = 'x'\n", "not a setting"),
        ("[routing.aliases]\n'claude-*' = 3\n", "must be text"),
    ],
)
def test_a_config_file_with_a_mistake_is_refused_with_a_hint(read: Load, config: str, says: str) -> None:
    said = refusal(read, config=config)
    assert says in said and "config.toml" in said


def test_a_named_config_file_must_exist_and_the_users_own_need_not(read: Load, tmp_path: Path) -> None:
    assert "there is no file" in refusal(read, flags={"config": str(tmp_path / "absent.toml")})
    assert "MCP_PROXY_CONFIG" in refusal(read, MCP_PROXY_CONFIG=str(tmp_path))
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 5\n")
    assert read(config="[server]\nport = 6\n", MCP_PROXY_CONFIG=str(other)).server.port == 5


def test_the_soft_limit_can_be_switched_off_in_every_place(read: Load) -> None:
    assert read(config="[routing]\nsoft_limit = false\n").routing.soft_limit is None
    assert read(SOFT_LIMIT_THRESHOLD="off").routing.soft_limit is None
    off = read(flags={"soft_limit": False}, SOFT_LIMIT_THRESHOLD="0.5")
    assert off.routing.soft_limit is None and off.origin_of("routing.soft_limit") == "--no-soft-limit"
    assert read(SOFT_LIMIT_THRESHOLD="0").routing.soft_limit == 0.0


def test_more_than_one_worker_is_refused_with_the_reason(read: Load) -> None:
    said = refusal(read, flags={"workers": 2})
    assert said.startswith("--workers") and "own limits" in said
    assert read(flags={"workers": 1}).server.workers == 1


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_key_is_no_key_and_is_refused_with_the_line_to_type(read: Load, empty: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(PROXY_API_KEY=empty).server.required_key()
    said = str(caught.value)
    assert "PROXY_API_KEY (environment) is empty" in said and "proxy serve" in said


def test_a_missing_key_matters_only_to_who_serves(read: Load) -> None:
    with pytest.raises(SettingsError, match="PROXY_API_KEY is not set"):
        read().server.required_key()
    assert read(PROXY_API_KEY=FAKE).server.required_key() == Secret(FAKE)


def test_every_secret_may_come_as_a_file_but_not_twice(read: Load, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(FAKE + "\n")
    path = str(file)
    found = read(
        PROXY_API_KEY_FILE=path,
        GOOGLE_CLIENT_SECRET_FILE=path,
        MCP_PROXY_VAULT_KEY_FILE=path,
        MCP_PROXY_VAULT_PASSPHRASE_FILE=path,
        MCP_PROXY_EXPORT_PASSPHRASE_FILE=path,
        MCP_PROXY_PROVIDERS__KIMI_CODE__API_KEY_FILE=path,
    )
    secrets = [
        found.server.api_key,
        found.google.client_secret,
        found.vault.key,
        found.vault.passphrase,
        found.vault.export_passphrase,
        found.provider("kimi-code").api_key,
    ]
    assert secrets == [Secret(FAKE)] * 6
    assert found.origin_of("server.api_key").startswith("PROXY_API_KEY_FILE")
    assert "both set" in refusal(read, PROXY_API_KEY=FAKE, PROXY_API_KEY_FILE=path)
    name = "MCP_PROXY_PROVIDERS__ZAI__API_KEY"
    assert "both set" in refusal(read, **{name: FAKE, f"{name}_FILE": path})
    assert "no file" in refusal(read, PROXY_API_KEY_FILE=path + "-absent")
    file.write_text("")
    with pytest.raises(SettingsError, match="is empty"):
        read(PROXY_API_KEY_FILE=path).server.required_key()
    assert "is a folder" in refusal(read, PROXY_API_KEY_FILE=str(tmp_path))


def test_a_variable_in_the_config_file_may_come_as_a_file_where_a_secret_stands(read: Load, tmp_path: Path) -> None:
    (tmp_path / "zai.key").write_text(FAKE)
    found = read(config=SAMPLE, ZAI_API_KEY_FILE=str(tmp_path / "zai.key"))
    assert found.provider("zai").api_key == Secret(FAKE)


@pytest.mark.parametrize(
    "how",
    [
        {"PROXY_API_KEY": "nönascii-" + FAKE},
        {"MCP_PROXY_PROVIDERS__ZAI__BASE_URL": f"https://user:{FAKE}@a.example"},
        {"MCP_PROXY_PROVIDERS__ZAI__BASE_URL": f"https://a.example/?key={FAKE}"},
        {"config": "[server]\nport = '${X}'\n", "X": FAKE},
        {"config": "[providers.zai]\napi_key = ['" + FAKE + "']\n"},
        {"config": "[providers.zai]\napi_key = '" + FAKE + "\n"},
    ],
)
def test_a_complaint_never_repeats_a_secret(read: Load, how: dict[str, str]) -> None:
    assert FAKE not in refusal(read, **how)


def test_variables_stand_for_parts_of_strings_and_dollars_can_be_written(read: Load) -> None:
    config = "[server]\nport = '${P}'\nallowed_hosts = ['${H}.lan']\n[routing.aliases]\nx = 'a$$b$c'\n"
    found = read(config=config, P="81", H="box")
    assert (found.server.port, found.server.allowed_hosts) == (81, ("box.lan",))
    assert found.routing.aliases == {"x": "a$b$c"}


def test_a_providers_variable_beats_its_table_even_under_the_other_name(read: Load) -> None:
    config = "[providers.kimi-code]\nbase_urls = ['https://a.example', 'https://b.example']\ntier = 3\n"
    found = read(config=config, MCP_PROXY_PROVIDERS__KIMI_CODE__BASE_URL="http://127.0.0.1:9/x/")
    assert found.provider("kimi-code").base_urls == ("http://127.0.0.1:9/x",)
    assert found.provider("kimi-code").tier == 3
    listed = read(MCP_PROXY_PROVIDERS__ANTIGRAVITY__BASE_URLS="https://a.example, https://b.example")
    assert listed.provider("antigravity").base_urls == ("https://a.example", "https://b.example")
    token = read(MCP_PROXY_PROVIDERS__ANTIGRAVITY__TOKEN_URL="http://localhost:1/token")
    assert token.provider("antigravity").urls == {"token_url": "http://localhost:1/token"}
    assert "TOKEN_URL" in token.origin_of("providers.antigravity.token_url")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:80", "http://localhost/p"])
def test_plain_http_is_good_on_this_machine(read: Load, url: str) -> None:
    assert read(MCP_PROXY_PROVIDERS__ZAI__BASE_URL=url).provider("zai").base_url == url


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example", "http://0.0.0.0"]
)
def test_plain_http_is_refused_anywhere_else(read: Load, url: str) -> None:
    assert "use https" in refusal(read, MCP_PROXY_PROVIDERS__ZAI__BASE_URL=url)


@pytest.mark.parametrize("key", ["BASE_URL", "BASE_URLS", "QUOTA_URL", "TOKEN_URL"])
@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "2852039166", "metadata.google.internal:443"])
def test_no_provider_is_served_where_a_cloud_hands_out_secrets(read: Load, key: str, host: str) -> None:
    """P8."""
    assert "credentials" in refusal(read, **{f"MCP_PROXY_PROVIDERS__ZAI__{key}": f"https://{host}/v1"})
    assert "credentials" in refusal(read, config=f"[providers.zai]\n{key.lower()} = {listed(key, f'https://{host}')}\n")


def listed(key: str, url: str) -> str:
    return f"['{url}']" if key.endswith("S") else f"'{url}'"


def test_one_folder_replaces_all_three(read: Load, tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = read(MCP_PROXY_HOME=str(home)).paths
    assert (found.folders.config, found.folders.data, found.folders.state) == (home, home, home)
    assert found.accounts_file == home / "accounts.json" and found.state_file == home / "state.db"
    moved = read(MCP_PROXY_HOME=str(home), ACCOUNTS_CONFIG_PATH=str(tmp_path / "mine.json")).paths
    assert moved.accounts_file == tmp_path / "mine.json" and moved.vault_key_file == home / "vault.key"


def test_paths_become_absolute(read: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(MCP_PROXY_HOME="box").paths.state_file == tmp_path / "box" / "state.db"


def test_without_folders_the_platforms_are_used() -> None:
    assert "multi-claude-proxy" in str(Folders.of_platform().config)
    assert load({}, {"MCP_PROXY_HOME": "/nowhere"}).paths.folders.config == Path("/nowhere").absolute()


def test_debug_sets_the_log_level(read: Load) -> None:
    found = read(DEBUG="1", LOG_LEVEL="error")
    assert found.debug and found.log.level == "debug" and found.origin_of("log.level") == "DEBUG (environment)"
    assert read(DEBUG="0", LOG_LEVEL="ERROR").log.level == "error"
    assert read(flags={"debug": True}, DEBUG="0").log.level == "debug"


def test_cors_is_complete_or_off(read: Load) -> None:
    assert read(CORS_ALLOW_ORIGIN="https://a.example").server.cors is None
    cors = read(
        CORS_ENABLED="yes", CORS_ALLOW_ORIGIN="https://A.example/,http://localhost:3000", CORS_ALLOW_METHODS="get,post"
    ).server.cors
    assert cors is not None and cors.credentials
    assert cors.allow_origins == ("https://a.example", "http://localhost:3000")
    assert cors.allow_methods == ("GET", "POST") and "x-api-key" in cors.allow_headers and cors.max_age == 600
    anyone = read(CORS_ENABLED="yes", CORS_ALLOW_ORIGIN="*").server.cors
    assert anyone is not None and not anyone.credentials


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"PORT": "9"}, "http://127.0.0.1:9"),
        ({"BIND_ADDRESS": "0.0.0.0"}, "http://127.0.0.1:8080"),
        ({"BIND_ADDRESS": "[::]"}, "http://[::1]:8080"),
        ({"BIND_ADDRESS": "::1"}, "http://[::1]:8080"),
        ({"BIND_ADDRESS": "box.lan"}, "http://box.lan:8080"),
        ({"MCP_PROXY_URL": "http://box.lan:1/p/"}, "http://box.lan:1/p"),
    ],
)
def test_commands_find_the_server_where_it_listens(read: Load, environ: dict[str, str], address: str) -> None:
    assert read(**environ).server.reachable_at == address


def test_an_env_file_knows_quotes_comments_and_export() -> None:
    lines = ["\ufeff# first\r", "A=1\r", "  export B = two words  # said", r"C='#a $b \n'"]
    text = "\n".join([*lines, r'D="x\ty\"z\$" # c', "E=", "F=a#b", "G=#c", "A=2", ""])
    assert parse_env_file(text, "x.env") == {
        "A": "2",
        "B": "two words",
        "C": "#a $b \\n",
        "D": 'x\ty"z$',
        "E": "",
        "F": "a#b",
        "G": "",
    }


@pytest.mark.parametrize("line", [FAKE, f"A='{FAKE}", f'A="{FAKE}" {FAKE}', f"1A={FAKE}"])
def test_a_bad_line_of_an_env_file_is_named_by_its_number_only(line: str) -> None:
    with pytest.raises(SettingsError, match=re.escape("env file x.env, line 2")) as caught:
        parse_env_file(f"A=1\n{line}\n", "x.env")
    assert FAKE not in str(caught.value)


def test_a_file_that_is_too_large_or_no_text_is_refused(read: Load, tmp_path: Path) -> None:
    big, binary = tmp_path / "big", tmp_path / "binary"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    binary.write_bytes(b"\xff\xfe\x00")
    assert "over 1 MiB" in refusal(read, flags={"env_file": big})
    assert "not UTF-8" in refusal(read, flags={"env_file": binary})


def test_what_the_web_framework_obeys_is_taken_out_of_the_environment() -> None:
    environ = dict.fromkeys(FRAMEWORK_VARIABLES, "1") | {"PATH": "x"}
    clear_framework_environment(environ)
    assert environ == {"PATH": "x"}
    assert len(FRAMEWORK_VARIABLES) == 8


def test_settings_and_their_parts_cannot_be_changed(read: Load) -> None:
    found = read()
    with pytest.raises(AttributeError):
        found.debug = True  # type: ignore[misc]
    with pytest.raises(AttributeError):
        found.server.port = 1  # type: ignore[misc]
