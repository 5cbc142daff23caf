"""What the tests of this package share: cheap keys, made-up accounts, and file layers that go wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from accounts.model import Account, AccountId, ApiKey, Entry, OAuthClient, OAuthGrant, Secret, Token
from accounts.vault.errors import KeychainUnavailable
from accounts.vault.files import Files
from accounts.vault.keys import KeySources
from accounts.vault.seal import Cost
from accounts.vault.vault import Vault

CHEAP = Cost(memory=32, iterations=1, lanes=1)
"""Argon2 that takes no time; for tests only."""

REPOSITORY = Path(__file__).parents[2]


def account(number: int = 1, provider: str = "zai", **fields: object) -> Account:
    return Account(id=AccountId(f"id{number:04}"), provider=provider, label=f"label-{number}", **fields)  # type: ignore[arg-type]


def key(number: int = 1) -> ApiKey:
    return ApiKey(Secret(f"sk-fake-{number:04}-not-a-real-key"))


def grant(number: int = 1, **fields: object) -> OAuthGrant:
    given: dict[str, object] = {
        "client": OAuthClient("client-0001.example", Secret("sk-fake-client-secret")),
        "token": Token(Secret(f"sk-fake-token-{number:04}"), 1_800_003_599.0),
    }
    return OAuthGrant(Secret(f"sk-fake-refresh-{number:04}-not-real"), **{**given, **fields})  # type: ignore[arg-type]


def entry(number: int = 1, provider: str = "zai", **fields: object) -> Entry:
    return Entry(account(number, provider, **fields), key(number))


@dataclass
class MemoryKeychain:
    """A keychain that keeps what it is given, for as long as it lives; `broken` makes every call fail."""

    kept: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    def get(self, name: str) -> str | None:
        self._work()
        return self.kept.get(name)

    def put(self, name: str, text: str) -> None:
        self._work()
        self.kept[name] = text

    def drop(self, name: str) -> None:
        self._work()
        self.kept.pop(name, None)

    def _work(self) -> None:
        if self.broken:
            raise KeychainUnavailable("the keychain is broken")


def sources(home: Path, key: str | None = None, passphrase: str | None = None, **fields: object) -> KeySources:
    return KeySources(
        key=None if key is None else Secret(key),
        passphrase=None if passphrase is None else Secret(passphrase),
        key_file=home / "config" / "vault.key",
        cost=CHEAP,
        **{"keychain": MemoryKeychain(), **fields},  # type: ignore[arg-type]
    )


def vault_in(home: Path, files: Files | None = None, **fields: object) -> Vault:
    given = fields.pop("sources", None)
    where = given if isinstance(given, KeySources) else sources(home, **fields)  # type: ignore[arg-type]
    return Vault(home / "data" / "accounts.json", where, files or Files())


def filled(vault: Vault, entries: Iterable[Entry]) -> Vault:
    for one in entries:
        vault.add(one.account, one.credential)
    return vault


def leftovers(home: Path) -> list[Path]:
    return sorted(home.rglob("*.tmp"))


class Died(BaseException):
    """The process is gone: nothing after this runs."""


class CountingFiles(Files):
    """Every call counts; what happens at each is up to `step`."""

    def __init__(self) -> None:
        self.calls = 0

    def step(self, name: str) -> None:
        self.calls += 1

    def create(self, path: Path) -> int:
        self.step("create")
        return super().create(path)

    def write(self, descriptor: int, content: bytes) -> int:
        self.step("write")
        return super().write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self.step("fsync")
        super().fsync(descriptor)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        self.step("close")

    def replace(self, source: Path, target: Path) -> None:
        self.step("replace")
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        super().unlink(path)

    def fsync_folder(self, folder: Path) -> None:
        self.step("fsync_folder")
        super().fsync_folder(folder)


class FailingFiles(CountingFiles):
    """The n-th call fails with an error of the operating system, the others work."""

    def __init__(self, at: int, number: int = errno.ENOSPC) -> None:
        super().__init__()
        self.at, self.number, self.failed = at, number, False

    def step(self, name: str) -> None:
        super().step(name)
        if self.calls == self.at:
            self.failed = True
            raise OSError(self.number, "made to fail")


class HalfWritingFiles(FailingFiles):
    """Like a full disk: the n-th call, if it writes, puts half of it there before it fails."""

    def write(self, descriptor: int, content: bytes) -> int:
        if self.calls + 1 == self.at:
            Files.write(self, descriptor, content[: len(content) // 2])
        return super().write(descriptor, content)


class DyingFiles(CountingFiles):
    """From the n-th call on nothing happens any more: the process was killed there."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.failed = at, False

    def step(self, name: str) -> None:
        super().step(name)
        if self.calls >= self.at:
            self.failed = True
            raise Died(name)
