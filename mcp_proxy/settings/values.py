"""What a value must look like. Each takes what a flag, a variable or a file holds, or raises `UnusableError`."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from accounts.hosts import hands_out_secrets
from accounts.model import Auth, Secret
from mcp_proxy.core.quota import LONGEST_WINDOW_SECONDS
from mcp_proxy.core.time import Seconds
from mcp_proxy.settings.errors import UnusableError, suggestion

T = TypeVar("T", bound=str)

_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_LENGTHS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


def text(value: object) -> str:
    if not isinstance(value, str):
        raise UnusableError("must be text")
    if not value.strip():
        raise UnusableError("is empty")
    return value.strip()


def secret(value: object) -> Secret:
    """Text that a header can carry; what surrounds it (a file's last newline) is dropped."""
    if not isinstance(value, str):
        raise UnusableError("must be text", shown=False)
    if not value.strip():
        raise UnusableError("is empty", shown=False)
    if not value.strip().isascii() or not value.strip().isprintable():
        raise UnusableError("holds characters that no header can carry", shown=False)
    return Secret(value.strip())


def passphrase(value: object) -> Secret:
    """Any text but none; only the end of a line is dropped."""
    if not isinstance(value, str) or not value.rstrip("\r\n"):
        raise UnusableError("is empty", shown=False)
    return Secret(value.rstrip("\r\n"))


def boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else str(value)
    if word not in _YES + _NO:
        raise UnusableError("is neither true nor false (also 1/0, yes/no, on/off)")
    return word in _YES


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number, both ends included."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnusableError("is not a whole number")
        if not low <= value <= high:
            raise UnusableError(f"is not between {low} and {high}")
        return value

    return read


def number(value: object, low: float, high: float) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise UnusableError("is not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableError("is not a number")
    if not math.isfinite(value) or not low <= value <= high:
        raise UnusableError(f"is not between {low:g} and {high:g}")
    return float(value)


def seconds(low: float, high: float) -> Callable[[object], Seconds]:
    return lambda value: Seconds(number(value, low, high))


def soft_limit(value: object) -> float | None:
    """A fraction 0 to 1; false, no or off: None."""
    if value is False or (isinstance(value, str) and value.strip().lower() in ("false", "no", "off")):
        return None
    return number(value, 0.0, 1.0)


def statuses(value: object) -> frozenset[int]:
    """HTTP statuses of refusals and troubles; may be none."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise UnusableError("must be a list of statuses")
    try:
        return frozenset(map(whole(400, 599), parts))
    except UnusableError as why:
        raise UnusableError(f"holds something that {why}") from None


def fraction(value: object) -> float:
    return number(value, 0.0, 1.0)


def price(value: object) -> float:
    """US dollars a million tokens."""
    return number(value, 0.0, 1_000_000.0)


def duration(value: object) -> Seconds:
    """A minute to 35 days, as long as counts are kept, written as 90m, 5h, 7d or 4w."""
    match = re.fullmatch(r"([0-9]{1,7})([mhdw])", text(value).lower())
    if match is None:
        raise UnusableError("is no length of time such as 90m, 5h, 7d or 4w")
    found = int(match[1]) * _LENGTHS[match[2]]
    if not _LENGTHS["m"] <= found <= LONGEST_WINDOW_SECONDS:
        raise UnusableError("is not between a minute and 35 days")
    return Seconds(float(found))


def one_of(choices: tuple[T, ...]) -> Callable[[object], T]:
    def read(value: object) -> T:
        word = text(value).lower()
        for choice in choices:
            if choice == word:
                return choice
        raise UnusableError(f"is none of {', '.join(choices)}{suggestion(word, choices)}")

    return read


def words(value: object) -> tuple[str, ...]:
    """A list, or text separated by commas; may be empty."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise UnusableError("must be a list")
    return tuple(text(part) for part in parts if not isinstance(part, str) or part.strip())


def some_words(value: object) -> tuple[str, ...]:
    """The same, with at least one entry."""
    if found := words(value):
        return found
    raise UnusableError("is empty")


def workers(value: object) -> int:
    found = whole(1, 1024)(value)
    if found > 1:
        raise UnusableError("cannot be: several workers would each keep their own limits and sign-ins; use 1")
    return found


def bind_address(value: object) -> str:
    """An IP literal (brackets dropped) or a host name."""
    found = text(value).removeprefix("[").removesuffix("]")
    if _ip(found) is None and not _HOST.fullmatch(found):
        raise UnusableError("is neither an IP address nor a host name")
    return found


def host_names(value: object) -> tuple[str, ...]:
    found = tuple(name.lower().rstrip(".") for name in words(value))
    for name in found:
        if ":" in name or "/" in name:
            raise UnusableError("must hold bare host names, without scheme or port")
        if not _HOST.fullmatch(name):
            raise UnusableError("holds something that is no host name")
    return found


def origins(value: object) -> tuple[str, ...]:
    """Web origins, `https://example.com`, or the one entry `*`."""
    found = some_words(value)
    if "*" in found and len(found) > 1:
        raise UnusableError("must be '*' alone or a list of origins")
    for origin in found:
        parts = _split(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/")):
            raise UnusableError("must hold origins such as https://example.com")
    return tuple(origin.rstrip("/").lower() for origin in found)


def client_url(value: object) -> str:
    """Where a running server is; http anywhere, since that is what it speaks."""
    return _address(value, plain_http_anywhere=True)


def url(value: object) -> str:
    """An address of a provider: https, or http on this machine only."""
    return _address(value, plain_http_anywhere=False)


def urls(value: object) -> tuple[str, ...]:
    return tuple(url(part) for part in some_words(value))


def auth(value: object) -> Auth:
    choices: tuple[Literal["x-api-key", "bearer"], ...] = ("x-api-key", "bearer")
    return one_of(choices)(value)


def is_loopback(host: str) -> bool:
    """Whether a host name or IP literal can only be this machine."""
    name = host.lower().rstrip(".")
    found = _ip(name)
    return found.is_loopback if found else name == "localhost"


def _address(value: object, *, plain_http_anywhere: bool) -> str:
    found = text(value)
    parts = _split(found)
    if parts.username is not None or parts.password is not None:
        raise UnusableError("must not hold a user or password", shown=False)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(letter.isspace() for letter in found):
        raise UnusableError("is not an http(s) address", shown=False)
    if parts.query or parts.fragment:
        raise UnusableError("must not hold a query or fragment", shown=False)
    if parts.scheme == "http" and not plain_http_anywhere and not is_loopback(parts.hostname):
        raise UnusableError("is plain http, which only this machine's own addresses may be: use https")
    if not plain_http_anywhere and hands_out_secrets(parts.hostname):
        raise UnusableError("is where a cloud hands out a machine's own credentials: no provider is served there")
    return found.rstrip("/")


def _split(found: str) -> SplitResult:
    try:
        parts = urlsplit(found)
        _ = parts.port
    except ValueError:
        raise UnusableError("is not an http(s) address", shown=False) from None
    return parts


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
