from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.model import (
    Account,
    AccountId,
    ApiKey,
    CallersOwn,
    ClaudeCodeLogin,
    Entry,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
)
from accounts.records import Unreadable, from_document, to_document
from tests.accounts.kit import account, entry, grant

TEXT = st.text(min_size=1, max_size=20)
SECRETS = st.builds(Secret, TEXT)
ENTRIES = st.builds(
    Entry,
    st.builds(
        Account,
        id=TEXT.map(AccountId),
        provider=TEXT,
        label=TEXT,
        enabled=st.booleans(),
        tier=st.none() | st.integers(0, 9),
        base_url=st.none() | TEXT,
        auth=st.sampled_from([None, "x-api-key", "bearer"]),
        models=st.lists(TEXT, max_size=3).map(tuple),
        invalid=st.none() | TEXT,
        extra=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    st.builds(ApiKey, SECRETS)
    | st.builds(CallersOwn)
    | st.builds(ClaudeCodeLogin, st.none() | TEXT)
    | st.builds(
        OAuthGrant,
        SECRETS,
        st.none() | st.builds(OAuthClient, TEXT, st.none() | SECRETS),
        st.none() | st.builds(Token, SECRETS, st.none() | st.integers(0, 10**11) | st.floats(0, 1e11)),
    ),
)


@given(ENTRIES)
def test_an_entry_comes_back_from_its_document_unchanged(one: Entry) -> None:
    assert from_document(json.loads(json.dumps(to_document(one)))) == one


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", 7),
        ("label", ["x"]),
        ("enabled", "yes"),
        ("tier", "first"),
        ("auth", "cookie"),
        ("models", "glm"),
        ("models", [1]),
        ("extra", {"a": 1}),
        ("credential", None),
        ("credential", {"kind": "api_key"}),
        ("credential", {"kind": "oauth"}),
        ("credential", {"kind": "claude_code", "path": 7}),
        ("credential", {"kind": "oauth", "refresh_token": ["sk-fake-canary"]}),
        ("credential", {"kind": "from-the-future", "key": "sk-fake-canary"}),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_and_its_value_is_not_repeated(field: str, value: object) -> None:
    with pytest.raises(Unreadable) as caught:
        from_document({**to_document(entry()), field: value})
    assert field in str(caught.value) or field == "credential"
    assert "sk-fake" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("refresh_token", None),
        ("client_id", 7),
        ("client_secret", ["sk-fake-canary"]),
        ("token", {"sk-fake-canary": 1}),
        ("expires_at", "sk-fake-canary"),
        ("expires_at", True),
    ],
)
def test_a_part_of_a_grant_that_is_of_the_wrong_kind_is_named(field: str, value: object) -> None:
    document = to_document(Entry(account(), grant()))
    document["credential"][field] = value
    with pytest.raises(Unreadable) as caught:
        from_document(document)
    assert field in str(caught.value)
    assert "sk-fake" not in str(caught.value)


def test_fields_nobody_knows_are_ignored() -> None:
    assert from_document({**to_document(entry()), "from_the_future": 1}) == entry()
