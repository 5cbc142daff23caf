"""The system's keychain as a place for the store's key. Optional: the `keyring` extra.

A keychain may be locked and wait for a person for ever, or be a backend that keeps nothing and
says it did; so every call has a deadline, and what was put is read back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from accounts.vault.errors import KeychainUnavailable

SERVICE = "multi-claude-proxy"
DEADLINE = 20.0
"""Seconds a person has to unlock the keychain."""

T = TypeVar("T")


class Keychain(Protocol):
    """Where named texts are kept. Every call may raise KeychainUnavailable."""

    def get(self, name: str) -> str | None: ...
    def put(self, name: str, text: str) -> None: ...
    def drop(self, name: str) -> None: ...


class SystemKeychain:
    """The keychain of the person's desktop session, by the `keyring` package."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline

    def get(self, name: str) -> str | None:
        """The text kept under the name; None where there is none."""

        def ask() -> str | None:
            import keyring

            return keyring.get_password(SERVICE, name)

        return self._within_deadline(ask)

    def put(self, name: str, text: str) -> None:
        """Keep a text, and make sure that it was kept."""

        def store() -> str | None:
            import keyring

            keyring.set_password(SERVICE, name, text)
            return keyring.get_password(SERVICE, name)

        if self._within_deadline(store) != text:
            raise KeychainUnavailable("the system keychain does not keep what it is given; choose another place")

    def drop(self, name: str) -> None:
        """Forget a text. None there is fine."""

        def forget() -> None:
            import keyring
            from keyring.errors import PasswordDeleteError

            try:
                keyring.delete_password(SERVICE, name)
            except PasswordDeleteError:
                return

        self._within_deadline(forget)

    def _within_deadline(self, call: Callable[[], T]) -> T:
        """Run the call in a thread that a hanging keychain may keep; raises KeychainUnavailable."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def attempt() -> None:
            try:
                outcome.append(call())
            except BaseException as error:  # handed to the caller below
                failure.append(error)

        thread = threading.Thread(target=attempt, name="keychain", daemon=True)
        thread.start()
        thread.join(self._deadline)
        if outcome:
            return outcome[0]
        if not failure:
            raise KeychainUnavailable(f"the system keychain did not answer within {self._deadline:g} s: unlock it")
        if isinstance(failure[0], ImportError):
            raise KeychainUnavailable("the keychain needs one more package: pip install 'multi-claude-proxy[keyring]'")
        raise KeychainUnavailable(f"there is no usable system keychain here ({type(failure[0]).__name__})")
