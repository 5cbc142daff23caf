"""Who may ask: Host, Origin and key, in this order, before anything else is looked at. Pure."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import urlsplit

from accounts.model import Secret

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

KEY_HEADERS = (b"x-api-key", b"x-proxy-api-key")
OPEN = frozenset({("GET", "/livez"), ("HEAD", "/livez"), ("GET", "/readyz"), ("HEAD", "/readyz")})
PROBES = frozenset({("HEAD", "/"), ("HEAD", "/api/hello")})
HEALTH = "/health"
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:@/?#\\]+))(?::\d*)?")
"""Not `urlsplit`: that one drops tabs, and before Python 3.11.10 takes `evil[::1]` for `::1`."""

LOGIN = re.compile(rb"sk-ant-oat[\w.~+/=-]{1,4096}", re.ASCII)
"""A login at Anthropic, of Claude Code's or of `claude setup-token`: what any other bearer is we cannot know, and so
nobody is sent it."""

MISTAKEN = (
    "that is your login at Anthropic, which is not this proxy's key: send the key beside it as x-proxy-api-key "
    "(Claude Code: ANTHROPIC_CUSTOM_HEADERS)"
)

FORWARDED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-forwarded",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-envoy-external-address",
        b"true-client-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
    }
)
FORWARDED_START = (b"x-forwarded-", b"cf-", b"tailscale-")
"""What a proxy in front of us says of who asks: then it is not who is connected."""

RETRY_NEVER = (("x-should-retry", "false"),)


@dataclass(frozen=True, slots=True)
class Cors:
    """What browsers are told, where the operator switched it on.

    origins  exact origins, or "*" alone
    """

    origins: tuple[str, ...]
    methods: str
    headers: str
    max_age: int

    def allows(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request goes no further.

    origin  the allowed origin of a page, which may read so much
    guess   it brought a key, and a wrong one
    """

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    origin: str | None = None
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Visitor:
    """A request that may pass. keyed: it brought the key; origin: the allowed origin a browser named."""

    keyed: bool
    origin: str | None = None
    preflight: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """The rules at the door; `key` is compared in constant time and never shown.

    loopback  whether the server listens on loopback alone
    """

    key: bytes = field(repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    cors: Cors | None = None
    loopback: bool = False

    def admit(self, method: str, path: str, headers: RawHeaders) -> Visitor | Denial:
        """Whether a request may pass. `path` as it is routed; header names in lower case."""
        host = _first(headers, b"host")
        if not self._is_ours(host):
            return Denial(403, "this Host is not served here; name it in allowed_hosts (ALLOWED_HOSTS)")
        origin = _first(headers, b"origin")
        if origin is not None and not self._may_come_from(origin, host):
            return Denial(403, "requests from this Origin are not allowed")
        allowed = origin if origin is not None and self.cors is not None else None
        if method == "OPTIONS" and origin is not None and _first(headers, b"access-control-request-method"):
            return Visitor(keyed=False, origin=allowed, preflight=True)
        given = keys(headers)
        if self._is_key(given):
            return Visitor(keyed=True, origin=allowed)
        path = path.rstrip("/").lower() or "/"
        if (method, path) in OPEN or (method, path) in PROBES or (path == HEALTH and not given):
            return Visitor(keyed=False, origin=allowed)
        if not given:
            return Denial(401, "no API key: send it as x-api-key or as Authorization: Bearer", RETRY_NEVER, allowed)
        wrong = MISTAKEN if any(LOGIN.fullmatch(value) for value in given) else "invalid API key"
        return Denial(401, wrong, RETRY_NEVER, allowed, guess=True)

    def login(self, headers: RawHeaders) -> Secret | None:
        """The caller's own login at Anthropic, beside our key; None where there is none, or more than one."""
        given = bearers(headers)
        if not any(LOGIN.fullmatch(value) for value in given):
            return None
        found = [value for value in given if not hmac.compare_digest(value, self.key)]
        return Secret(found[0].decode()) if len(found) == 1 and LOGIN.fullmatch(found[0]) else None

    def is_local(self, headers: RawHeaders, peer: str | None) -> bool:
        """Whether a program on this machine asks, and not for somebody else.

        peer  the address that is connected; None: not known
        """
        passed_on = any(name in FORWARDED or name.startswith(FORWARDED_START) for name, _ in headers)
        host = host_name(_first(headers, b"host") or "")
        asked_here = host is not None and is_loopback(host)  # a tunnel passes on by what name it was asked
        return self.loopback and asked_here and not passed_on and peer is not None and is_loopback(peer)

    def _is_key(self, given: list[bytes]) -> bool:
        # a list, not a generator: every value is looked at, whichever is right
        return any([hmac.compare_digest(value, self.key) for value in given])  # noqa: C419

    def _is_ours(self, host: str | None) -> bool:
        name = host_name(host) if host is not None else None
        return name is not None and (name == "localhost" or name in self.allowed_hosts or _is_literal(name))

    def _may_come_from(self, origin: str, host: str | None) -> bool:
        if self.cors is not None:
            return self.cors.allows(origin)
        try:
            parts = urlsplit(origin)
            return (
                parts.scheme in ("http", "https")
                and parts.netloc != ""
                and parts.netloc.lower() == (host or "").lower()
            )
        except ValueError:
            return False


def keys(headers: RawHeaders) -> list[bytes]:
    """Every value that is offered as a key."""
    found = [value.strip() for name, value in headers if name in KEY_HEADERS]
    return found + bearers(headers)


def bearers(headers: RawHeaders) -> list[bytes]:
    """Every bearer token that is sent."""
    return [
        value[7:].strip() for name, value in headers if name == b"authorization" and value[:7].lower() == b"bearer "
    ]


@lru_cache(maxsize=64)
def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own; a name is only where it is `localhost`."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def host_name(host: str) -> str | None:
    """The name in a Host header, in lower case, without port, brackets and a last dot; None if it is malformed."""
    parts = _HOST.fullmatch(host)
    return (parts[1] or parts[2]).lower().removesuffix(".") if parts else None


@lru_cache(maxsize=64)
def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _first(headers: RawHeaders, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
