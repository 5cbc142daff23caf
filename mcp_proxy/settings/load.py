"""From flags, variables and files to one `Settings`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mcp_proxy.settings import fields
from mcp_proxy.settings.budgets import read_account_budgets, read_prices
from mcp_proxy.settings.errors import SettingsError
from mcp_proxy.settings.model import (
    NO_KEY,
    Cors,
    Folders,
    GoogleClient,
    JournalSettings,
    LogSettings,
    Paths,
    ServerSettings,
    Settings,
    VaultSettings,
)
from mcp_proxy.settings.providers import read_providers
from mcp_proxy.settings.routing import read_routing
from mcp_proxy.settings.sources import Found, Sources


def from_process(flags: Mapping[str, object] | None = None) -> Settings:
    """The settings of this process. Raises `SettingsError`."""
    return load(flags or {}, os.environ)


def load(flags: Mapping[str, object], environ: Mapping[str, str], folders: Folders | None = None) -> Settings:
    """Flag over environment over env file over config file over default.

    flags    by their names with "_" for "-": host, port, fallback, soft_limit (False: off), debug, config,
             env_file, workers, url; None or absent: not given
    folders  where our files are unless variables say otherwise; None: the platform's

    Raises `SettingsError`, with everything that cannot be used.
    """
    sources = Sources(flags)
    try:
        sources.gather(environ)
        return _loaded(sources, folders, partial(load, flags, environ, folders))
    except SettingsError as error:
        problems = dict.fromkeys((*sources.problems, *error.problems))
        raise SettingsError(next(iter(problems)), problems, sources.files) from None


def _loaded(sources: Sources, folders: Folders | None, again: Callable[[], Settings]) -> Settings:
    paths = _paths(sources, folders)
    debug = sources.take(fields.DEBUG)
    level = sources.take(fields.LOG_LEVEL)
    if debug:
        sources.origin["log.level"], sources.values["log.level"] = sources.origin["debug"], "debug"
    found = Settings(
        server=_server(sources),
        routing=read_routing(sources),
        providers=read_providers(sources),
        paths=paths,
        log=LogSettings("debug" if debug else level, sources.take(fields.LOG_FORMAT)),
        vault=VaultSettings(
            key=sources.take(fields.VAULT_KEY),
            passphrase=sources.take(fields.VAULT_PASSPHRASE),
            export_passphrase=sources.take(fields.EXPORT_PASSPHRASE),
        ),
        google=GoogleClient(sources.take(fields.GOOGLE_ID), sources.take(fields.GOOGLE_SECRET)),
        debug=debug,
        origin=sources.origin,
        again=again,
        hidden=frozenset(sources.hidden),
        accounts=read_account_budgets(sources),
        journal=JournalSettings(sources.take(fields.JOURNAL_ENABLED), sources.take(fields.JOURNAL_DAYS)),
        prices=read_prices(sources),
        values=sources.values,
        files={paths.config_file: None, **sources.files},
    )
    sources.settled()
    return found


def config_file_of(flags: Mapping[str, object], environ: Mapping[str, str]) -> Path:
    """Where the config file is looked for, whatever it holds. Raises `SettingsError`."""
    sources = Sources(flags)
    sources.gather(environ)
    return _config_file(sources, _folders(sources, None))


def _paths(sources: Sources, folders: Folders | None) -> Paths:
    """Where the files are; reads the config file into the sources on the way."""
    folders = _folders(sources, folders)
    config_file = _config_file(sources, folders)
    if "config" in sources.origin or _present(config_file):
        sources.read_config(config_file, sources.origin.get("config", "config file"))
        _check_table(sources)
    accounts = sources.take(fields.ACCOUNTS)
    return Paths(
        folders=folders,
        config_file=config_file,
        accounts_file=_absolute(accounts) if accounts else folders.data / "accounts.json",
        vault_key_file=folders.config / "vault.key",
        state_file=folders.state / "state.db",
    )


def _folders(sources: Sources, folders: Folders | None) -> Folders:
    home = sources.take(fields.HOME)
    if home is not None:
        return Folders.all_in(_absolute(home))
    return folders or Folders.of_platform()


def _config_file(sources: Sources, folders: Folders) -> Path:
    named = sources.take(fields.CONFIG)
    return _absolute(named) if named else folders.config / "config.toml"


def _present(path: Path) -> bool:
    """Whether something is there; what cannot be looked at is, and is complained of when it is read."""
    try:
        return path.exists()
    except OSError:
        return True


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(f"{path}: there is no such user's folder") from None


def _check_table(sources: Sources) -> None:
    sources.check_keys(sources.table, fields.SECTIONS, "")
    for name in fields.SECTIONS:
        table = sources.table_at(name)
        if name not in fields.FREE:
            sources.check_keys(table, fields.section(name), name)


def _server(sources: Sources) -> ServerSettings:
    raw: Found | None = None
    with sources.noting():
        raw = sources.variable("PROXY_API_KEY", secret=True)
    empty = raw is not None and not str(raw.value).strip()
    return ServerSettings(
        host=sources.take(fields.HOST),
        port=sources.take(fields.PORT),
        api_key=None if empty else sources.take(fields.API_KEY),
        no_key=NO_KEY.replace("PROXY_API_KEY is not set", f"{raw.origin} is empty") if raw and empty else NO_KEY,
        allowed_hosts=sources.take(fields.ALLOWED_HOSTS),
        read_timeout=sources.take(fields.READ_TIMEOUT),
        write_timeout=sources.take(fields.WRITE_TIMEOUT),
        idle_timeout=sources.take(fields.IDLE_TIMEOUT),
        cors=_cors(sources),
        url=sources.take(fields.URL),
        workers=sources.take(fields.WORKERS),
    )


def _cors(sources: Sources) -> Cors | None:
    enabled = sources.take(fields.CORS_ENABLED)
    found = Cors(
        allow_origins=sources.take(fields.CORS_ORIGIN),
        allow_methods=tuple(method.upper() for method in sources.take(fields.CORS_METHODS)),
        allow_headers=tuple(name.lower() for name in sources.take(fields.CORS_HEADERS)),
        max_age=sources.take(fields.CORS_MAX_AGE),
    )
    if enabled and not found.allow_origins:
        with sources.noting():
            raise SettingsError(
                f"{sources.origin['server.cors_enabled']} needs CORS_ALLOW_ORIGIN: which web pages may read answers"
            )
    return found if enabled else None
