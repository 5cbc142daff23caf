"""The environment: files that stand in for it, and what must not be left in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

from mcp_proxy.settings.errors import SettingsError

FRAMEWORK_VARIABLES = (
    "APP_SHOW_ERROR_DETAILS",
    "APP_ROUTE_PREFIX",
    "APP_DEFAULT_ROUTER",
    "APP_MOUNT_AUTO_EVENTS",
    "APP_SIGNAL_HANDLER",
    "APP_HTTP_SCHEME",
    "APP_FORCE_HTTPS",
    "APP_SPEC_FILE",
)
"""What BlackSheep obeys; the first would put tracebacks into answers."""

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<rest>.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def clear_framework_environment(environ: MutableMapping[str, str] | None = None) -> None:
    """Take out of the environment what the web framework would obey behind our back."""
    found = os.environ if environ is None else environ
    for name in FRAMEWORK_VARIABLES:
        found.pop(name, None)


def parse_env_file(text: str, name: str) -> dict[str, str]:
    """`KEY=VALUE` lines, with comments, quotes and a leading `export`; a later line wins.

    Single quotes keep everything as it is; double quotes know \\n \\r \\t \\" \\\\ \\$; without quotes a value
    ends before " #". Nothing is expanded. Raises `SettingsError` with the line's number, never its text.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise SettingsError(f"env file {name}, line {number}: not KEY=VALUE")
        found[match["name"]] = _value(match["rest"], f"env file {name}, line {number}")
    return found


def _value(text: str, place: str) -> str:
    quote = text[:1]
    if quote not in ("'", '"'):
        return "" if text.startswith("#") else re.split(r"\s+#", text, maxsplit=1)[0]
    pattern = r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
    match = re.fullmatch(pattern + r"\s*(?:#.*)?", text)
    if match is None:
        raise SettingsError(f"{place}: the quote is not closed, or something follows it")
    if quote == "'":
        return match[1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), match[1])


def debug_wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether tracebacks are asked for, before or without a `Settings`; never raises."""
    found = os.environ if environ is None else environ
    return found.get("DEBUG", "").strip().lower() in ("1", "true", "yes", "on")
