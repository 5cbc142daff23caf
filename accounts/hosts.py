"""Hosts that serve no account, whatever a person or a file says."""

from __future__ import annotations

import ipaddress
import socket

_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    # Amazon over IPv6, Alibaba, Azure, Oracle; most others are link-local
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def hands_out_secrets(host: str) -> bool:
    """Whether a cloud gives a machine its own credentials there: link-local addresses, and a few others.

    However the address is spelt: `2852039166`, `0xa9fea9fe` and `::ffff:169.254.169.254` are 169.254.169.254.
    """
    name = host.lower().rstrip(".")
    found = _address(name)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or _behind_nat64(found) or found
    return name in _NAMES if found is None else found.is_link_local or found in _ADDRESSES


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))  # the spellings that the system's resolver takes
    except (OSError, ValueError):
        return None


def _behind_nat64(found: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(found.packed[-4:]) if found in _NAT64 else None
