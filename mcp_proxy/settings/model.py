"""The settings as values: frozen, complete, checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from accounts.model import Auth, Secret
from mcp_proxy.core.time import Seconds
from mcp_proxy.settings.errors import SettingsError, Stamp

LogLevel: TypeAlias = Literal["silent", "error", "warn", "info", "debug"]
LogFormat: TypeAlias = Literal["text", "json"]

PROVIDERS = (
    "anthropic",
    "claude-subscription",
    "antigravity",
    "zai",
    "zhipu",
    "kimi",
    "kimi-code",
    "deepseek",
    "minimax",
    "alibaba",
    "openrouter",
    "custom",
    "copilot",
    "openai",
)
"""Every name that may stand in `[providers.NAME]`."""

NO_KEY = """\
PROXY_API_KEY is not set: clients must show a key, and you choose it. For example:
  PROXY_API_KEY="$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')" proxy serve"""


@dataclass(frozen=True, slots=True)
class Cors:
    """Which web pages may read our answers.

    allow_origins  origins as browsers send them, or the one entry "*"
    max_age        how long a browser may remember a preflight
    """

    allow_origins: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    max_age: Seconds

    @property
    def credentials(self) -> bool:
        """Whether pages may send cookies along; never where any page may ask."""
        return "*" not in self.allow_origins


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How clients reach us.

    port           0 takes any free one
    api_key        what clients must show; None: not set, so nothing is served
    allowed_hosts  host names in lower case, besides localhost and IP literals
    read_timeout   for a whole request body
    write_timeout  for one write towards the client that is blocked
    idle_timeout   for a kept-alive connection without a request
    cors           None: off
    no_key         what to say to who wants to serve without one
    url            where commands find a running server, if not on `host` and `port`
    """

    host: str
    port: int
    api_key: Secret | None
    allowed_hosts: tuple[str, ...]
    read_timeout: Seconds
    write_timeout: Seconds
    idle_timeout: Seconds
    cors: Cors | None
    no_key: str
    url: str | None
    workers: int = 1

    def required_key(self) -> Secret:
        """The key clients must show. Raises `SettingsError` with the line to type."""
        if self.api_key is None:
            raise SettingsError(self.no_key)
        return self.api_key

    @property
    def reachable_at(self) -> str:
        """The address commands on this machine ask: `url`, else `host` and `port`; without a slash at its end."""
        if self.url:
            return self.url
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return f"http://{self.host}:{self.port}"
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        return f"http://{address}:{self.port}" if address.version == 4 else f"http://[{address}]:{self.port}"


FAILOVER_ON = frozenset({429, 500, 502, 503, 504, 529})
"""The statuses after which the next account is tried, unless others are set."""


@dataclass(frozen=True, slots=True)
class TierSettings:
    """Who serves a size class.

    provider  whose accounts; None: whoever serves the model
    model     what it is served by; None: the name that was asked for, else the provider's own model of the class
    base_url  the address of an account that is for this class alone, and `api_key` its key; both or neither
    """

    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """How many tokens may be used within a rolling window, where an upstream does not say.

    window       its length; `window_name` as it was written, "7d"
    limit        tokens
    threshold    the fraction of them from which on what is left is kept for last
    """

    window: Seconds
    window_name: str
    limit: int
    threshold: float = 0.9


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """What a model's tokens cost, in US dollars a million; None: the price's usual relation to `input`."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Whether exchanges are written down, and for how many days they are kept."""

    enabled: bool = True
    retention_days: int = 90


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """How accounts are chosen.

    soft_limit    fraction left at or below which an account is kept for last; None: off
    reserve       the same for single windows, by their names ("5h", "7d"), in place of `soft_limit`
    max_attempts  failed attempts for one request, limits not counted
    max_wait      longest wait for a reset when all are exhausted
    failover_on   the statuses after which the next account is tried
    fallbacks     model to the models asked instead; over the built-in table, model by model; empty: none for it
    aliases       what a client asks for (`*` matches anything) to what is asked upstream, in the file's order
    tiers         size class to who serves it
    """

    fallback: bool
    soft_limit: float | None
    max_attempts: int
    max_wait: Seconds
    fallbacks: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    tiers: Mapping[str, TierSettings]
    reserve: Mapping[str, float] = field(default_factory=dict)
    failover_on: frozenset[int] = FAILOVER_ON


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is set for one provider; empty or None where it keeps its own value.

    base_urls       where it is served, in the order they are tried; no slash at the end
    tier            lower is tried first; None: 1
    spread          whether a conversation's warm account is not preferred
    api_key         a key that makes the provider an account without a sign-in
    auth            which header carries `api_key`
    models          the only models served with `api_key`
    client_version  what the client-version header says
    client_id       the OAuth client that its accounts sign in with, and its secret
    aliases         what its accounts are asked for to the model they serve it by
    budgets         how many tokens its accounts may use, window by window
    urls            every other address of the provider, by its name ("quota_url")
    """

    name: str
    base_urls: tuple[str, ...] = ()
    tier: int | None = None
    spread: bool = False
    api_key: Secret | None = None
    auth: Auth | None = None
    models: tuple[str, ...] = ()
    client_version: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    budgets: tuple[BudgetSettings, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str | None:
        return self.base_urls[0] if self.base_urls else None


@dataclass(frozen=True, slots=True)
class Folders:
    """The three folders a program keeps things in."""

    config: Path
    data: Path
    state: Path

    @classmethod
    def of_platform(cls) -> Folders:
        """Where this platform wants them."""
        import platformdirs

        found = platformdirs.PlatformDirs("multi-claude-proxy", appauthor=False)
        return cls(found.user_config_path, found.user_data_path, found.user_state_path)

    @classmethod
    def all_in(cls, home: Path) -> Folders:
        """One folder for all three."""
        return cls(home, home, home)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where our files are; none needs to exist."""

    folders: Folders
    config_file: Path
    accounts_file: Path
    vault_key_file: Path
    state_file: Path


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: LogLevel
    format: LogFormat


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where the account store's key may come from, besides the key file and the keychain.

    key                base64 of 32 bytes
    export_passphrase  seals what `accounts export` writes and opens what `accounts import` reads
    """

    key: Secret | None
    passphrase: Secret | None
    export_passphrase: Secret | None


@dataclass(frozen=True, slots=True)
class GoogleClient:
    """The OAuth client of a Google sign-in."""

    client_id: str | None
    client_secret: Secret | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it.

    origin    where each value came from, by its key ("server.port"); a default has no entry
    again     reads the same places anew; raises `SettingsError`
    values    every single setting, by its key
    hidden    the keys whose values must not be shown, since the config file takes them from a variable
    files     what it was read from, and how that was: config, env and secret files; the user's own config file also
              where there is none
    accounts  budgets of single accounts, by an account's id or `provider/label`
    prices    by model
    """

    server: ServerSettings
    routing: RoutingSettings
    providers: Mapping[str, ProviderSettings]
    paths: Paths
    log: LogSettings
    vault: VaultSettings
    google: GoogleClient
    debug: bool
    origin: Mapping[str, str]
    again: Callable[[], Settings] = field(compare=False, repr=False)
    values: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
    hidden: frozenset[str] = frozenset()
    files: Mapping[Path, Stamp] = field(default_factory=dict, compare=False, repr=False)
    accounts: Mapping[str, tuple[BudgetSettings, ...]] = field(default_factory=dict)
    journal: JournalSettings = JournalSettings()
    prices: Mapping[str, PriceSettings] = field(default_factory=dict)

    def origin_of(self, key: str) -> str:
        """Where a value came from, for people: "PORT (environment)", "--port", "default"."""
        return self.origin.get(key, "default")

    def provider(self, name: str) -> ProviderSettings:
        """What is set for a provider, which may be nothing."""
        return self.providers.get(name) or ProviderSettings(name)
