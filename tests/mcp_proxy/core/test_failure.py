"""What a failure must not say."""

from __future__ import annotations

import pytest

from mcp_proxy.core.failure import TELLING, Blame, Failure, hidden, hidden_bytes, scrubbed

SECRET = "ya29.a0sk-fake_" + "0123456789" * 20


def test_a_secret_is_hidden_wherever_its_quotation_was_cut() -> None:
    for end in range(TELLING, len(SECRET) + 1):
        assert hidden(f"bad token {SECRET[:end]} here", SECRET) == "bad token ... here"
        assert hidden_bytes(f'"{SECRET[:end]}"'.encode(), SECRET) == b'"..."'
    assert hidden(SECRET + SECRET[:40], SECRET) == "......"


@pytest.mark.parametrize("text", ["", "ya29.a0", SECRET[: TELLING - 1], "\x00 4 °C", SECRET[1:]])
def test_what_is_no_secret_stays(text: str) -> None:
    assert (hidden(text, SECRET), hidden_bytes(text.encode(), SECRET)) == (text, text.encode())
    assert hidden(text, "") == text


@pytest.mark.parametrize("secret", ["sk-fake", SECRET, "...", "schlüssel-sk-fake"])
def test_a_failure_is_scrubbed_in_both_its_texts(secret: str) -> None:
    told = Failure(Blame.REQUEST, 400, "invalid_request_error", f"no: {secret}", body=f'"{secret}"'.encode())
    found = scrubbed(told, secret)
    assert (found.message, found.body) == ("no: ...", b'"..."')
    plain = Failure(Blame.REQUEST, 400, "invalid_request_error", "no")
    assert scrubbed(plain, secret) is plain
