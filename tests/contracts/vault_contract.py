"""What every store of accounts must do. A variant's own test says only how to open one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import pytest

from accounts.model import AccountId, ApiKey, Entry, Secret
from accounts.vault.errors import LabelTaken, NoSuchAccount
from accounts.vault.vault import Vault
from tests.accounts.kit import account, entry, filled, key


class VaultContract(ABC):
    """Subclass, and say how a store under a folder is opened; twice for one folder opens the same store."""

    @abstractmethod
    def open(self, home: Path) -> Vault: ...

    def test_a_store_nobody_made_holds_nothing_and_is_not_made_by_looking(self, tmp_path: Path) -> None:
        vault = self.open(tmp_path)
        assert vault.entries() == ()
        assert vault.stamp() is None
        assert vault.generation() == 0
        assert list(tmp_path.iterdir()) == []

    def test_what_was_added_is_there_for_whoever_opens_it_next(self, tmp_path: Path) -> None:
        stored = [entry(number) for number in range(1, 6)]
        filled(self.open(tmp_path), stored)
        assert self.open(tmp_path).entries() == tuple(stored)

    def test_a_change_touches_one_account_and_no_credential(self, tmp_path: Path) -> None:
        vault = filled(self.open(tmp_path), [entry(1), entry(2)])
        changed = vault.change(AccountId("id0002"), lambda known: replace(known, enabled=False, tier=3))
        assert changed == replace(account(2), enabled=False, tier=3)
        assert self.open(tmp_path).entries() == (entry(1), Entry(changed, key(2)))

    def test_a_new_credential_clears_the_invalid_mark(self, tmp_path: Path) -> None:
        vault = filled(self.open(tmp_path), [entry(1, invalid="refused")])
        vault.replace_credential(AccountId("id0001"), ApiKey(Secret("sk-fake-new")))
        assert self.open(tmp_path).entries() == (Entry(account(1), ApiKey(Secret("sk-fake-new"))),)

    def test_what_was_removed_is_gone(self, tmp_path: Path) -> None:
        vault = filled(self.open(tmp_path), [entry(1), entry(2)])
        vault.remove(AccountId("id0001"))
        assert self.open(tmp_path).entries() == (entry(2),)

    def test_an_account_that_is_not_there_cannot_be_changed(self, tmp_path: Path) -> None:
        vault = filled(self.open(tmp_path), [entry(1)])
        nobody = AccountId("nobody")
        for attempt in (
            lambda: vault.change(nobody, lambda known: known),
            lambda: vault.replace_credential(nobody, key()),
            lambda: vault.remove(nobody),
        ):
            with pytest.raises(NoSuchAccount):
                attempt()
        assert vault.entries() == (entry(1),)

    def test_two_accounts_share_neither_an_id_nor_a_name(self, tmp_path: Path) -> None:
        vault = filled(self.open(tmp_path), [entry(1), entry(2)])
        for clash in (replace(account(1), label="other"), replace(account(1), id=AccountId("other"))):
            with pytest.raises(LabelTaken):
                vault.add(clash, key(9))
        with pytest.raises(LabelTaken):
            vault.change(AccountId("id0002"), lambda known: replace(known, label="label-1"))
        vault.add(replace(account(1), id=AccountId("other"), provider="kimi"), key(9))
        assert len(vault.entries()) == 3

    def test_an_edit_that_raises_changes_nothing_and_one_that_changes_nothing_writes_nothing(
        self, tmp_path: Path
    ) -> None:
        vault = filled(self.open(tmp_path), [entry(1)])
        stamp, generation = vault.stamp(), vault.generation()

        def fails(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            raise KeyError("changed my mind")

        with pytest.raises(KeyError):
            vault.edit(fails)
        vault.edit(lambda entries: entries)
        vault.change(AccountId("id0001"), lambda known: replace(known, enabled=True))
        assert (vault.stamp(), vault.generation()) == (stamp, generation)
        assert vault.entries() == (entry(1),)

    def test_every_write_is_a_generation_and_changes_the_stamp(self, tmp_path: Path) -> None:
        vault = self.open(tmp_path)
        seen = {vault.stamp()}
        for number in range(1, 6):
            filled(vault, [entry(number)])
            assert vault.generation() == number
            seen.add(vault.stamp())
        assert len(seen) == 6

    def test_two_handles_agree_at_any_time(self, tmp_path: Path) -> None:
        one, other = self.open(tmp_path), self.open(tmp_path)
        for number in range(1, 9):
            filled(one if number % 2 else other, [entry(number)])
            assert one.entries() == other.entries()
        other.change(AccountId("id0001"), lambda known: replace(known, tier=5))
        assert one.entries() == other.entries()
