"""The system keychain, with backends of the real `keyring` package put in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import PasswordDeleteError

from accounts.vault.errors import KeychainUnavailable
from accounts.vault.keychain import SystemKeychain


class Keeping(KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise PasswordDeleteError("not there")
        del self.kept[service, username]


class Hanging(Keeping):
    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self.released = released

    def get_password(self, service: str, username: str) -> str | None:
        self.released.wait(10)
        return None


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def test_what_was_put_is_there_until_it_is_dropped() -> None:
    keyring.set_keyring(Keeping())
    keychain = SystemKeychain()
    keychain.put("one", "fake")
    assert keychain.get("one") == "fake"
    keychain.drop("one")
    keychain.drop("one")
    assert keychain.get("one") is None


def test_a_backend_that_swallows_what_it_is_given_is_found_out() -> None:
    keyring.set_keyring(null.Keyring())
    with pytest.raises(KeychainUnavailable, match="does not keep"):
        SystemKeychain().put("one", "sk-fake-canary")


def test_no_backend_is_said_in_a_line() -> None:
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(KeychainUnavailable, match="no usable system keychain"):
        SystemKeychain().get("one")


def test_a_keychain_that_hangs_has_a_deadline() -> None:
    released = threading.Event()
    keyring.set_keyring(Hanging(released))
    with pytest.raises(KeychainUnavailable, match="did not answer"):
        SystemKeychain(deadline=0.05).get("one")
    released.set()
