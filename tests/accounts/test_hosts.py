from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.hosts import hands_out_secrets

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
    "FD00:0EC2:0::0254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "metadata.google.internal",
    "Metadata.Google.Internal.",
    "metadata",
]
OTHERS = [
    "api.anthropic.com",
    "localhost",
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd00::1",
    "169.254.example.com",
    "metadata.example.com",
    "xn--mnchen-3ya.example",
    "",
]


@pytest.mark.parametrize("host", METADATA)
def test_where_a_cloud_hands_out_secrets_no_account_is_served(host: str) -> None:
    """P8."""
    assert hands_out_secrets(host)


@pytest.mark.parametrize("host", OTHERS)
def test_any_other_host_may_serve_one(host: str) -> None:
    """P8."""
    assert not hands_out_secrets(host)


@given(st.ip_addresses(network="169.254.0.0/16"))
def test_every_link_local_address_is_one_in_every_spelling(address: object) -> None:
    """P8."""
    number = int(address)  # type: ignore[call-overload]
    dotted = ".".join(oct(part).replace("o", "") if part else "0" for part in number.to_bytes(4, "big"))
    for host in (f"{number}", hex(number), dotted, f"::ffff:{address}", f"{address}"):
        assert hands_out_secrets(host), host


@given(st.text(max_size=40))
def test_any_text_is_one_or_is_not(host: str) -> None:
    hands_out_secrets(host)
