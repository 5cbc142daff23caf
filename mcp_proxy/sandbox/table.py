"""Every simulated host by name, and what serves it."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_proxy.sandbox.google.host import ANTIGRAVITY, Google
from mcp_proxy.sandbox.google.service import GoogleService
from mcp_proxy.sandbox.hosts import NATIVE, Host
from mcp_proxy.sandbox.service import Service
from mcp_proxy.sandbox.strict import Rules

HOSTS: Mapping[str, Host] = {**NATIVE, ANTIGRAVITY.name: ANTIGRAVITY}


def service_of(host: Host, rules: Rules) -> Service:
    """The host at work."""
    kind = GoogleService if isinstance(host, Google) else Service
    return kind(host=host, rules=rules)
