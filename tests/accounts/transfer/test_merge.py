from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from accounts.model import Account, AccountId, ApiKey, Entry, Secret, Token
from accounts.transfer.merge import merge
from tests.accounts.kit import account, entry, grant

NAMES = st.sampled_from(["a", "b", "a-2"])
ENTRIES = st.lists(
    st.builds(
        Entry,
        st.builds(
            Account,
            id=st.sampled_from(["1", "2", "3", "4"]).map(AccountId),
            provider=st.sampled_from(["zai", "kimi"]),
            label=NAMES,
        ),
        st.builds(ApiKey, NAMES.map(Secret)),
    ),
    max_size=6,
)


def numbered() -> AccountId:
    return AccountId(f"new{next(COUNTER)}")


COUNTER = itertools.count()


def stored(entries: list[Entry]) -> tuple[Entry, ...]:
    """The list without what a store would not hold twice."""
    by_id = {one.account.id: one for one in entries}
    return tuple({one.account.name: one for one in by_id.values()}.values())


@given(ENTRIES.map(stored), ENTRIES.map(tuple))
def test_a_merge_keeps_ids_and_names_apart_and_loses_no_credential_that_came(
    before: tuple[Entry, ...], incoming: tuple[Entry, ...]
) -> None:
    merged = merge(before, incoming, numbered)
    assert len({one.account.id for one in merged.entries}) == len(merged.entries)
    assert len({one.account.name for one in merged.entries}) == len(merged.entries)
    assert len(merged.added) + len(merged.replaced) == len(incoming)
    assert len(merged.entries) == len(before) + len(merged.added)


@given(ENTRIES.map(stored))
def test_merging_what_is_there_changes_nothing(before: tuple[Entry, ...]) -> None:
    merged = merge(before, before, numbered)
    assert merged.entries == before
    assert merged.added == ()


def test_an_id_goes_before_a_name_and_a_label_of_the_config_file_is_not_taken() -> None:
    one, other = entry(1), entry(2)
    incoming = Entry(replace(other.account, id=one.account.id), other.credential)
    merged = merge((one, other), (incoming,), numbered, {"zai": {"label-7"}})
    assert [known.account.label for known in merged.entries] == ["label-2-2", "label-2"]
    assert merge((), (entry(7),), numbered, {"zai": {"label-7"}}).added == ("zai/label-7-2",)


def test_a_sign_in_whose_token_was_renewed_is_the_same_account_and_keeps_its_client() -> None:
    """The files of other programs name no client, and a refresh token is only good with its own."""
    held = Entry(account(1, "antigravity"), grant(1))
    bare = Entry(replace(held.account, id=AccountId("other1"), invalid="revoked"), grant(1, client=None, token=None))
    merged = merge((held,), (bare,), numbered)
    assert merged.replaced == (held.account.name,)
    assert merged.entries == (Entry(replace(held.account, invalid="revoked"), grant(1)),)
    renewed = Entry(bare.account, grant(1, token=Token(Secret("sk-fake-newer"))))
    assert merge((held,), (renewed,), numbered).entries[0].credential == renewed.credential
    other = Entry(bare.account, grant(2, client=None))
    assert merge((held,), (other,), numbered).added == ("antigravity/label-1-2",)


def test_the_same_id_at_another_provider_is_another_account() -> None:
    merged = merge((entry(1),), (entry(1, "kimi"),), numbered)
    assert len(merged.entries) == 2
    assert merged.entries[1].account.id.startswith("new")
