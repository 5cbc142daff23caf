"""Flags that several commands share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

ConfigFile: TypeAlias = Annotated[
    str | None,
    Parameter(name=["--config", "-c"], help="Config file (default: the user's own; env MCP_PROXY_CONFIG)."),
]
EnvFile: TypeAlias = Annotated[
    str | None, Parameter(name="--env-file", help="File of KEY=VALUE lines; none is read by itself.")
]
Url: TypeAlias = Annotated[
    str | None,
    Parameter(name="--url", help="The running server (default: loopback and the configured port; env MCP_PROXY_URL)."),
]
Json: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="One JSON document on stdout.")
]


def say(text: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(f"{text}\n")


def say_json(document: Mapping[str, Any]) -> None:
    """A document on stdout, in the shape all reading commands share."""
    say(json.dumps({"schema_version": 1, **document}, indent=2))
