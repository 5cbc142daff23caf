"""One structured line per thing that happened, on stderr."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Literal

import structlog

_QUOTED = re.compile(r"[ \"'=\\]")

LEVELS = {"silent": 50, "error": 40, "warn": 30, "info": 20, "debug": 10}
"""`silent` is above everything we ever say."""

_SEVERITY = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 45}

_least = LEVELS["info"]


def set_level(level: str) -> None:
    """Say no less and no more than this from now on."""
    global _least
    _least = LEVELS[level]


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Set up logging for this process. Colours only on a terminal that wants them."""
    import os

    set_level(level)
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    last: Any = _plain
    if form == "json":
        last = structlog.processors.JSONRenderer()
    elif colours:
        last = structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=_traceback)
    structlog.configure(
        processors=[
            _wanted,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=form == "json"),
            *([_without_nothing] if last is not _plain else []),
            *([structlog.processors.format_exc_info] if form == "json" or not colours else []),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries tell of single connections, with addresses and texts that are not ours to show.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    for name in ("uvicorn.error", "blacksheep.server"):
        logging.getLogger(name).handlers = [logging.NullHandler()]
        logging.getLogger(name).propagate = False


def _wanted(logger: object, method: str, event: Any) -> Any:
    """A logger is kept as it was when it was first used: what may change while we run is asked here, line by line."""
    if _SEVERITY.get(method, _least) < _least:
        raise structlog.DropEvent
    return event


def _without_nothing(logger: object, method: str, event: Any) -> Any:
    return {name: value for name, value in event.items() if value is not None}


def _plain(logger: object, method: str, event: Any) -> str:
    """As the coloured renderer writes it, without colours, in a fraction of its time: every request has a line."""
    when, what, trouble = event.pop("timestamp"), event.pop("event"), event.pop("exception", None)
    level = event.pop("level")
    told = [f"{when} [{level:<9}] {what}"]
    told += [f"{name}={_shown(value)}" for name, value in event.items() if value is not None]
    return " ".join(told) + (f"\n{trouble}" if trouble else "")


def _shown(value: object) -> str:
    """A value in quotes only where it could not be read back without them."""
    if type(value) is str and value.isprintable() and not _QUOTED.search(value):
        return value or "''"
    return repr(value)


def _traceback(stream: Any, exc_info: Any) -> None:
    structlog.dev.plain_traceback(stream, exc_info)
