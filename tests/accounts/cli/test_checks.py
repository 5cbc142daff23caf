from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.cli.checks import checked_base_url, is_loopback
from accounts.exits import Trouble


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/path",
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://127.0.0.1:1",
        "http://127.9.8.7",
        "http://[::1]:8080/v1",
        "https://10.0.0.1",
    ],
)
def test_https_anywhere_and_http_to_this_machine_are_addresses(url: str) -> None:
    assert checked_base_url(f" {url}/ ") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "http://api.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://[::1",
        "http://[fe80::1]",
        "http://2130706433",
        "https://host:99999",
        "https://ho st",
        "https://host/\r\nx: y",
        "https://höst",
        "https://user:sk-fake-canary@host",
        "https://host/?key=sk-fake-canary",
        "https://host/#x",
        "https://169.254.169.254/latest",
        "https://[::ffff:a9fe:a9fe]",
        "https://0xa9fea9fe",
        "https://metadata.google.internal",
    ],
)
def test_everything_else_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(Trouble) as caught:
        checked_base_url(url)
    assert "canary" not in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_trouble(text: str) -> None:
    try:
        url = checked_base_url(text)
    except Trouble:
        return
    assert url.lower().startswith(("https://", "http://"))


@given(st.ip_addresses(v=4))
def test_only_one_network_is_this_machine(address: object) -> None:
    assert is_loopback(str(address)) == str(address).startswith("127.")
