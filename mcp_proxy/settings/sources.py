"""Where a setting may stand, asked in order: flag, environment, env file, config file, default."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from mcp_proxy.settings.environment import parse_env_file
from mcp_proxy.settings.errors import SettingsError, Stamp, UnusableError, suggestion

T = TypeVar("T")

MAX_FILE = 1024 * 1024
"""Bytes of a config, env or secret file; a larger one is a mistake."""

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)(\}?)")


@dataclass(frozen=True)  # no slots: Python 3.11 cannot build `Field[int](...)` with them
class Field(Generic[T]):
    """One setting.

    key     its place in the config file, "section.name"
    read    makes the value, or raises `UnusableError`
    env     its variable; None: it has none
    flag    its name among the flags; None: it has none
    secret  it may also come as a file named by `<env>_FILE`, and its value is never repeated
    filed   whether it may stand in the config file
    """

    key: str
    read: Callable[[object], T]
    default: T
    env: str | None = None
    flag: str | None = None
    secret: bool = False
    filed: bool = True


class Found(NamedTuple):
    """A raw value: where it stood, and whether it may be repeated in an error."""

    value: object
    origin: str
    shown: bool


@dataclass(slots=True)
class Sources:
    """Everything a setting can come from; `origin` fills up as settings are taken.

    variables  name to value and to where it stood; the environment is over the env file
    table      the config file, tables within tables
    table_name the config file's path, for people
    values     every setting that was asked for, as it is in force, by its key
    hidden     the keys whose values must not be shown: the config file takes them from a variable
    files      every file that was read, and how it was just before
    problems   what cannot be used, in the order in which it was met
    """

    flags: Mapping[str, object]
    variables: Mapping[str, Found] = field(default_factory=dict)
    table: Mapping[str, object] = field(default_factory=dict)
    table_name: str = "config file"
    origin: dict[str, str] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    files: dict[Path, Stamp] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def gather(self, environ: Mapping[str, str]) -> None:
        """Take up the variables, with those of the env file that a flag names. Raises `SettingsError`."""
        variables: dict[str, Found] = {}
        named = self.flags.get("env_file")
        if named is not None:
            path = Path(str(named)).expanduser()
            for name, value in parse_env_file(self.read(path, "--env-file"), str(path)).items():
                variables[name] = Found(value, f"{name} (env file {path})", shown=True)
        for name, value in environ.items():
            variables[name] = Found(value, f"{name} (environment)", shown=True)
        self.variables = variables

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """What cannot be used within is a problem of its own: the settings beside it are looked at all the same."""
        try:
            yield
        except SettingsError as error:
            self.problems += [each for each in error.problems if each not in self.problems]

    def settled(self) -> None:
        """Everything was looked at. Raises `SettingsError` with all that cannot be used."""
        if self.problems:
            raise SettingsError(self.problems[0], self.problems, self.files)

    def take(self, wanted: Field[T]) -> T:
        """The value of a setting; the default where it cannot be used, which is noted."""
        with self.noting():
            found = self.find(wanted)
            if found is not None:
                return self.use(wanted.key, found, wanted.read)
        self.values[wanted.key] = wanted.default
        return wanted.default

    def use(self, key: str, found: Found, read: Callable[[object], T]) -> T:
        """Read what was found and remember where. Raises `SettingsError`."""
        try:
            value = read(found.value)
        except UnusableError as why:
            shown = f": {found.value!r}"[:80] if found.shown and why.shown else ""
            raise SettingsError(f"{found.origin} {why}{shown}") from None
        self.origin[key], self.values[key] = found.origin, value
        if not found.shown:
            self.hidden.add(key)
        return value

    def variable(self, name: str, *, secret: bool) -> Found | None:
        """A variable; for a secret also the content of the file that `<name>_FILE` names. Both set is an error."""
        direct = self.variables.get(name)
        by_file = self.variables.get(f"{name}_FILE") if secret else None
        if direct and by_file:
            raise SettingsError(f"{direct.origin} and {by_file.origin} are both set: keep one")
        if by_file:
            content = self.read(Path(str(by_file.value)).expanduser(), by_file.origin)
            return Found(content, by_file.origin, shown=False)
        return direct and direct._replace(shown=not secret)

    def filed(self, path: str, *, secret: bool = False) -> Found | None:
        """What the config file says at "section.name", with the variables it names put in."""
        value: object = self.table
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return self.filled(value, f"{path} ({self.table_name})", secret=secret)

    def filled(self, value: object, origin: str, *, secret: bool = False) -> Found:
        """A value of the config file with the variables it names put in; then it may hold secrets."""
        named: list[str] = []

        def put(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            if not match[2] or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", match[1]):
                raise SettingsError(f"{origin} holds a ${{…}} that names no variable; write $$ for a plain $")
            found = self.variable(match[1], secret=secret)
            if found is None:
                raise SettingsError(f"{origin} names the variable {match[1]}, which is not set")
            named.append(match[1])
            return str(found.value)

        def fill(part: object) -> object:
            if isinstance(part, str):
                return _VARIABLE.sub(put, part)
            return [fill(entry) for entry in part] if isinstance(part, list) else part

        filled = fill(value)
        return Found(filled, origin, shown=not named and not secret)

    def read(self, path: Path, origin: str) -> str:
        """A small UTF-8 file, remembered as one that was read. Raises `SettingsError`."""
        self.files[path] = stamp_of(path)
        return read_file(path, origin)

    def read_config(self, path: Path, origin: str) -> None:
        """Take over a TOML file. Raises `SettingsError`."""
        self.table_name = str(path)
        try:
            self.table = tomllib.loads(self.read(path, origin))
        except tomllib.TOMLDecodeError as error:
            # Its text holds the place and at most a character or a key, no value.
            raise SettingsError(f"{path}: not valid TOML: {error}") from None
        except (RecursionError, ValueError):
            raise SettingsError(f"{path}: not valid TOML: too deep, or a number too large") from None

    def table_at(self, *path: str) -> Mapping[str, object]:
        """A table of the config file; empty where it is absent, or no table, which is noted."""
        found: object = self.table
        for number, part in enumerate(path, start=1):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
            if not isinstance(found, Mapping):
                place = ".".join(path[:number])
                with self.noting():
                    raise SettingsError(f"{place} ({self.table_name}) must be a table: [{place}]")
                return {}
        return found if isinstance(found, Mapping) else {}

    def check_keys(self, table: Mapping[str, object], known: Iterable[str], place: str) -> None:
        """Note every key nobody knows. `place` is the table's own key, empty at the top."""
        known = sorted(known)
        for key in table:
            with self.noting():
                if key not in known:
                    full = f"{place}.{key}" if place else key
                    raise SettingsError(f"{full} ({self.table_name}) is not a setting{suggestion(key, known)}")

    def find(self, wanted: Field[T]) -> Found | None:
        """What stands for a setting, unread; None where nothing does. Raises `SettingsError`."""
        if wanted.flag and self.flags.get(wanted.flag) is not None:
            value = self.flags[wanted.flag]
            flag = wanted.flag.replace("_", "-")
            return Found(value, f"--no-{flag}" if value is False else f"--{flag}", not wanted.secret)
        if wanted.env and (found := self.variable(wanted.env, secret=wanted.secret)):
            return found
        return self.filed(wanted.key) if wanted.filed else None


def stamp_of(path: Path) -> Stamp:
    """How a file is now; never raises."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: Path, origin: str) -> str:
    """A small UTF-8 file. Raises `SettingsError`."""
    try:
        if path.is_dir():
            raise SettingsError(f"{origin}: {path} is a folder")
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise SettingsError(f"{origin}: there is no file {path}") from None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "not a usable path"
        raise SettingsError(f"{origin}: cannot read {path}: {why}") from None
    if len(raw) > MAX_FILE:
        raise SettingsError(f"{origin}: {path} is over 1 MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{origin}: {path} is not UTF-8 text") from None
