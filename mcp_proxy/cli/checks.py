"""What `proxy doctor` looks at, each a question with one or more findings."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.client import Server
from mcp_proxy.settings import Settings, SettingsError

OLDEST = (3, 11)
PACKAGES = ("blacksheep", "uvicorn", "httpx", "httptools", "authlib", "cryptography", "tinydb", "cyclopts")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    exit_code  what it means for the exit code where it is wrong
    """

    name: str
    state: Literal["ok", "note", "wrong"]
    detail: str
    exit_code: int = Exit.FAILED


def everything(settings: Settings | SettingsError) -> tuple[Finding, ...]:
    """All findings, in the order a person should read them."""
    found = [*program()]
    if isinstance(settings, SettingsError):
        return (*found, Finding("settings", "wrong", " ".join(str(settings).split()), Exit.USAGE))
    return (*found, *config(settings), *folders(settings), *store(settings), *state(settings), *serving(settings))


def program() -> Iterator[Finding]:
    """Python, ourselves and what we build on."""
    running = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info[:2] >= OLDEST
    wanted = ".".join(str(part) for part in OLDEST)
    yield Finding("python", "ok" if good else "wrong", running if good else f"{running}; {wanted} or newer is needed")
    try:
        yield Finding("program", "ok", f"multi-claude-proxy {version('multi-claude-proxy')}")
    except PackageNotFoundError:
        yield Finding("program", "note", "runs from a folder, not installed")
    missing = [name for name in PACKAGES if _version(name) is None]
    listed = ", ".join(f"{name} {_version(name)}" for name in PACKAGES if name not in missing)
    yield Finding("packages", "wrong" if missing else "ok", f"missing: {', '.join(missing)}" if missing else listed)


def config(settings: Settings) -> Iterator[Finding]:
    """The config file, and what is set at all and where."""
    path = settings.paths.config_file
    there = "" if path.exists() else " (not there, which is fine)"
    yield Finding("config file", "ok", f"{path}{there}, from {settings.origin_of('config')}")
    if path.exists() and (loose := _loose(path, 0o022)):
        yield Finding("config file", "wrong", loose)
    places = ", ".join(f"{key} from {origin}" for key, origin in sorted(settings.origin.items()))
    yield Finding("set", "ok", places or "nothing; the defaults hold")


def folders(settings: Settings) -> Iterator[Finding]:
    """Ours alone, and writable."""
    named = settings.paths.folders
    seen: set[Path] = set()
    for name, folder in (("config", named.config), ("data", named.data), ("state", named.state)):
        if folder in seen:
            continue
        seen.add(folder)
        if not folder.exists():
            yield Finding(f"{name} folder", "ok", f"{folder} (made when needed)")
        elif not folder.is_dir():
            yield Finding(f"{name} folder", "wrong", f"{folder} is not a folder")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Finding(f"{name} folder", "wrong", f"{folder} cannot be written")
        elif loose := _loose(folder, 0o077):
            yield Finding(f"{name} folder", "wrong", loose)
        else:
            yield Finding(f"{name} folder", "ok", str(folder))


def store(settings: Settings) -> Iterator[Finding]:
    """The account store opens, and with which key."""
    from accounts.vault.errors import VaultError
    from accounts.vault.keys import KeySources
    from accounts.vault.vault import Vault

    paths, vault = settings.paths, settings.vault
    sources = KeySources(key=vault.key, passphrase=vault.passphrase, key_file=paths.vault_key_file)
    store = Vault(paths.accounts_file, sources)
    try:
        source = store.key_source()
        yield Finding("store key", "ok", f"from {_source_name(source.value, settings)}")
        count = len(store.entries())
    except VaultError as error:
        yield Finding("account store", "wrong", " ".join(str(error).split()), error.exit_code)
        return
    if store.stamp() is None:
        yield Finding("account store", "ok", f"{paths.accounts_file} (made when the first account is added)")
    else:
        yield Finding("account store", "ok", f"{paths.accounts_file}, {count} account{'' if count == 1 else 's'}")


def state(settings: Settings) -> Iterator[Finding]:
    """The state file can be read; where not, it is rebuilt by itself."""
    from mcp_proxy.state.sqlite import SqliteStore, StateTrouble

    path = settings.paths.state_file
    said: list[str] = []
    try:
        SqliteStore(path, say=said.append, read_only=True).close()
    except StateTrouble as error:
        yield Finding("state file", "wrong", str(error), error.exit_code)
        return
    if said:
        yield Finding("state file", "note", f"{said[0]}; the server begins a fresh one")
    else:
        yield Finding("state file", "ok", f"{path}{'' if path.exists() else ' (made by the server)'}")


def serving(settings: Settings) -> Iterator[Finding]:
    """Whether `proxy serve` could start now."""
    server = settings.server
    if server.api_key is None:
        yield Finding("client key", "wrong", "PROXY_API_KEY is not set; `proxy serve` needs it")
    else:
        yield Finding("client key", "ok", f"from {settings.origin_of('server.api_key')}")
    where = f"{server.host} port {server.port}"
    trouble = _cannot_listen(server.host, server.port)
    if trouble is None:
        yield Finding("port", "ok", f"{where} is free")
    elif trouble == errno.EADDRINUSE and _is_ours(settings):
        yield Finding("port", "ok", f"{where}: this program is serving there")
    else:
        why = "is in use by another program" if trouble == errno.EADDRINUSE else os.strerror(trouble).lower()
        yield Finding("port", "wrong", f"{where}: {why}")


def _cannot_listen(host: str, port: int) -> int | None:
    """The system's error number where we could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name == "posix":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        return errno.EADDRNOTAVAIL if isinstance(error, socket.gaierror) else error.errno or errno.EIO
    return None


def _is_ours(settings: Settings) -> bool:
    try:
        return Server(settings.server.reachable_at, None, timeout=2.0).get("/livez", with_key=False).status == 200
    except Trouble:
        return False


def _source_name(source: str, settings: Settings) -> str:
    return {
        "env": settings.origin_of("vault.key") if settings.vault.key else "MCP_PROXY_VAULT_KEY",
        "passphrase": settings.origin_of("vault.passphrase") if settings.vault.passphrase else "a passphrase",
        "file": f"the key file {settings.paths.vault_key_file}",
        "keychain": "the system keychain",
    }.get(source, source)


def _loose(path: Path, others: int) -> str | None:
    """What to type where people besides the owner may do what `others` says."""
    if os.name != "posix" or not path.stat().st_mode & others:
        return None
    mode = "go-w" if others == 0o022 else "700"
    return f"others may get at {path}: chmod {mode} {path}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
