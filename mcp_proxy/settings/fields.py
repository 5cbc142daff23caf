"""Every single setting, with its places and its default. Providers have their own module."""

from __future__ import annotations

from typing import NamedTuple

from accounts.model import Secret
from mcp_proxy.core.time import Seconds
from mcp_proxy.settings import values
from mcp_proxy.settings.model import FAILOVER_ON as FAILOVER_STATUSES
from mcp_proxy.settings.model import LogFormat, LogLevel
from mcp_proxy.settings.sources import Field

LEVELS: tuple[LogLevel, ...] = ("silent", "error", "warn", "info", "debug")
FORMATS: tuple[LogFormat, ...] = ("text", "json")

_DAY = 86_400.0

DEBUG = Field("debug", values.boolean, False, env="DEBUG", flag="debug", filed=False)
HOME = Field[str | None]("home", values.text, None, env="MCP_PROXY_HOME", filed=False)
CONFIG = Field[str | None]("config", values.text, None, env="MCP_PROXY_CONFIG", flag="config", filed=False)
ACCOUNTS = Field[str | None]("accounts", values.text, None, env="ACCOUNTS_CONFIG_PATH", filed=False)

HOST = Field("server.host", values.bind_address, "127.0.0.1", env="BIND_ADDRESS", flag="host")
PORT = Field("server.port", values.whole(0, 65_535), 8080, env="PORT", flag="port")
API_KEY = Field[Secret | None]("server.api_key", values.secret, None, env="PROXY_API_KEY", secret=True, filed=False)
ALLOWED_HOSTS = Field[tuple[str, ...]]("server.allowed_hosts", values.host_names, (), env="ALLOWED_HOSTS")
READ_TIMEOUT = Field("server.read_timeout_sec", values.seconds(0.1, _DAY), Seconds(30.0), env="READ_TIMEOUT_SEC")
WRITE_TIMEOUT = Field("server.write_timeout_sec", values.seconds(0.1, _DAY), Seconds(300.0), env="WRITE_TIMEOUT_SEC")
IDLE_TIMEOUT = Field("server.idle_timeout_sec", values.seconds(0.1, _DAY), Seconds(120.0), env="IDLE_TIMEOUT_SEC")
WORKERS = Field("server.workers", values.workers, 1, flag="workers")
URL = Field[str | None]("server.url", values.client_url, None, env="MCP_PROXY_URL", flag="url", filed=False)

CORS_ENABLED = Field("server.cors_enabled", values.boolean, False, env="CORS_ENABLED")
CORS_ORIGIN = Field[tuple[str, ...]]("server.cors_allow_origin", values.origins, (), env="CORS_ALLOW_ORIGIN")
CORS_METHODS = Field[tuple[str, ...]](
    "server.cors_allow_methods", values.some_words, ("GET", "POST", "HEAD", "OPTIONS"), env="CORS_ALLOW_METHODS"
)
CORS_HEADERS = Field[tuple[str, ...]](
    "server.cors_allow_headers",
    values.some_words,
    (
        "authorization",
        "content-type",
        "x-api-key",
        "x-proxy-api-key",
        "anthropic-version",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
    ),
    env="CORS_ALLOW_HEADERS",
)
CORS_MAX_AGE = Field("server.cors_max_age", values.seconds(0, _DAY), Seconds(600.0), env="CORS_MAX_AGE")

FALLBACK = Field("routing.fallback", values.boolean, False, env="ENABLE_FALLBACK", flag="fallback")
SOFT_LIMIT = Field[float | None](
    "routing.soft_limit", values.soft_limit, 0.2, env="SOFT_LIMIT_THRESHOLD", flag="soft_limit"
)
MAX_ATTEMPTS = Field("routing.max_attempts", values.whole(1, 100), 5)
MAX_WAIT = Field("routing.max_wait", values.seconds(0, 3600), Seconds(120.0))
FAILOVER_ON = Field("routing.failover_on", values.statuses, FAILOVER_STATUSES)

JOURNAL_ENABLED = Field("journal.enabled", values.boolean, True)
JOURNAL_DAYS = Field("journal.retention_days", values.whole(1, 3650), 90)

LOG_LEVEL = Field[LogLevel]("log.level", values.one_of(LEVELS), "info", env="LOG_LEVEL")
LOG_FORMAT = Field[LogFormat]("log.format", values.one_of(FORMATS), "text", env="LOG_FORMAT")

VAULT_KEY = Field[Secret | None]("vault.key", values.secret, None, env="MCP_PROXY_VAULT_KEY", secret=True, filed=False)
VAULT_PASSPHRASE = Field[Secret | None](
    "vault.passphrase", values.passphrase, None, env="MCP_PROXY_VAULT_PASSPHRASE", secret=True, filed=False
)
EXPORT_PASSPHRASE = Field[Secret | None](
    "vault.export_passphrase", values.passphrase, None, env="MCP_PROXY_EXPORT_PASSPHRASE", secret=True, filed=False
)
GOOGLE_ID = Field[str | None]("google.client_id", values.text, None, env="GOOGLE_CLIENT_ID", filed=False)
GOOGLE_SECRET = Field[Secret | None](
    "google.client_secret", values.secret, None, env="GOOGLE_CLIENT_SECRET", secret=True, filed=False
)

SIZES = ("haiku", "sonnet", "opus", "fable")


class TierFields(NamedTuple):
    """A size class's variables: those of an account that is for it alone, and Claude Code's own of its model."""

    base_url: Field[str | None]
    api_key: Field[Secret | None]
    model: Field[str | None]


def _tier(size: str) -> TierFields:
    place, name = f"routing.tiers.{size}", size.upper()
    return TierFields(
        Field[str | None](f"{place}.base_url", values.url, None, env=f"{name}_PROVIDER_BASE_URL", filed=False),
        Field[Secret | None](
            f"{place}.api_key", values.secret, None, env=f"{name}_PROVIDER_API_KEY", secret=True, filed=False
        ),
        Field[str | None](f"{place}.model", values.text, None, env=f"ANTHROPIC_DEFAULT_{name}_MODEL", filed=False),
    )


TIERS = {size: _tier(size) for size in SIZES}

_ALL: list[object] = [*globals().values(), *(field for tier in TIERS.values() for field in tier)]
FIELDS: tuple[Field[object], ...] = tuple(field for field in _ALL if isinstance(field, Field))

MAPPINGS = ("fallbacks", "aliases", "tiers", "reserve")
"""The tables within `[routing]`."""


def section(name: str) -> set[str]:
    """The keys that may stand in a section of the config file."""
    found = {field.key.split(".")[1] for field in FIELDS if field.filed and field.key.startswith(f"{name}.")}
    return found | set(MAPPINGS) if name == "routing" else found


FREE = ("providers", "accounts", "prices")
"""The sections whose keys are names of their own."""

SECTIONS = ("server", "routing", "journal", "log", *FREE)
