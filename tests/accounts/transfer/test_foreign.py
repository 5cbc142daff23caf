from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.labels import is_label
from accounts.model import ApiKey, OAuthGrant, Secret
from accounts.transfer import READERS
from accounts.transfer.foreign import FOREIGN, read
from accounts.transfer.formats import Contents, NotImportable, reader_for

OURS = {
    "email": "someone@example.com",
    "source": "oauth",
    "provider": "antigravity",
    "refreshToken": "1//sk-fake-0001",
    "projectId": "cogent-sample-4mnnp",
    "addedAt": "2026-01-20T10:00:00Z",
    "invalidReason": None,
    "isInvalid": False,
    "lastUsed": "2026-01-29T21:00:00Z",
    "modelRateLimits": {"claude-sonnet-4-5": {"isRateLimited": True, "resetTime": 1769000000000}},
}
KEYED = {"email": "zai-1a2b3c4d", "source": "manual", "provider": "zai", "apiKey": "sk-fake-zai-0001"}
COPILOT = {"email": "octo", "source": "oauth", "provider": "copilot", "refreshToken": "gho_sk-fake"}


def file(*accounts: object) -> bytes:
    return json.dumps(
        {"accounts": accounts, "settings": {"cooldownDurationMs": 10000}, "activeIndex": 0}, indent=2
    ).encode()


def contents(*accounts: object) -> Contents:
    return read(file(*accounts), lambda sealed: pytest.fail("nothing is sealed"))


def test_the_file_is_known_by_its_content_and_stays_readable_to_anybody() -> None:
    reader = reader_for(file(OURS), READERS)
    assert reader is FOREIGN
    assert reader.plain


def test_accounts_come_with_what_they_need_and_without_what_was_true_then() -> None:
    found = contents(OURS, KEYED, COPILOT)
    signed, keyed, copilot = found.entries
    assert found.left_out == ()
    assert signed.account.name == "antigravity/someone@example.com"
    assert signed.account.extra == {"project": "cogent-sample-4mnnp", "email": "someone@example.com"}
    assert (signed.account.invalid, signed.account.enabled) == (None, True)
    assert signed.credential == OAuthGrant(Secret("1//sk-fake-0001"))
    assert (keyed.account.name, keyed.credential) == ("zai/zai-1a2b3c4d", ApiKey(Secret("sk-fake-zai-0001")))
    assert keyed.account.extra == {}
    assert copilot.account.provider == "copilot"
    assert len({each.account.id for each in found.entries}) == 3


def test_once_there_was_no_other_provider_and_one_field_held_the_project_too() -> None:
    old = {"email": "someone@example.com", "source": "oauth", "refreshToken": "1//sk-fake|a-project|managed"}
    (found,) = contents(old).entries
    assert found.account.provider == "antigravity"
    assert found.credential == OAuthGrant(Secret("1//sk-fake"))
    assert found.account.extra["project"] == "a-project"
    assert contents({**old, "refreshToken": "1//sk-fake||managed"}).entries[0].account.extra["project"] == "managed"
    assert contents({**old, "projectId": "own"}).entries[0].account.extra["project"] == "own"


@pytest.mark.parametrize(
    ("fields", "invalid"),
    [
        ({"isInvalid": True, "invalidReason": "Token revoked"}, "Token revoked"),
        ({"isInvalid": True, "invalidReason": None}, "marked invalid in the file it came from"),
        ({"isInvalid": True, "invalidReason": {"x": 1}}, "marked invalid in the file it came from"),
        ({"isInvalid": False, "invalidReason": "Token revoked"}, None),
    ],
)
def test_an_invalid_account_stays_invalid(fields: dict[str, object], invalid: str | None) -> None:
    assert contents({**OURS, **fields}).entries[0].account.invalid == invalid


def test_an_account_that_was_switched_off_stays_off() -> None:
    assert not contents({**OURS, "enabled": False}).entries[0].account.enabled


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({**OURS, "refreshToken": None}, "'refreshToken'"),
        ({**OURS, "refreshToken": ""}, "'refreshToken'"),
        ({**OURS, "refreshToken": "|sk-fake-project"}, "'refreshToken'"),
        ({**OURS, "refreshToken": ["sk-fake"]}, "'refreshToken'"),
        ({**OURS, "refreshToken": "sk-fake with space"}, "'refreshToken'"),
        ({**OURS, "source": "database", "refreshToken": None}, "'source'"),
        ({**OURS, "source": "sk-fake"}, "'source'"),
        ({**OURS, "email": {"sk-fake": 1}}, "'email'"),
        ({**OURS, "projectId": 7}, "'projectId'"),
        ({**KEYED, "apiKey": "sk-fake\nx"}, "'apiKey'"),
        ({**KEYED, "apiKey": "sk-fake" * 2000}, "'apiKey'"),
        ("sk-fake", "object"),
        (None, "object"),
    ],
)
def test_a_broken_account_is_named_without_its_values_and_the_others_come(broken: object, says: str) -> None:
    found = contents(KEYED, broken)
    assert len(found.entries) == 1
    (line,) = found.left_out
    assert line.startswith("account 2: ") and says in line
    assert "sk-fake" not in line


@pytest.mark.parametrize("email", [None, "", "a/b@example.com", "x" * 300, "\x1b[31m\n", "/"])
def test_every_account_gets_a_label_that_can_be_typed(email: str | None) -> None:
    (found,) = contents({**OURS, "email": email}).entries
    assert is_label(found.account.label)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"accounts": {}}', b'{"accounts": 1}', b"{", b"\xff{", b'{"accounts":' + b"[" * 100_000],
)
def test_another_file_is_not_taken_for_one(content: bytes) -> None:
    with pytest.raises(NotImportable):
        reader_for(content, READERS)


def test_a_file_without_accounts_is_an_error() -> None:
    with pytest.raises(NotImportable, match="no accounts"):
        contents()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.sampled_from([*sorted(OURS), "apiKey", "enabled"]), JSON) | JSON, min_size=1))
def test_whatever_stands_in_the_list_is_either_an_account_or_said_to_be_broken(accounts: list[object]) -> None:
    found = contents(*accounts)
    assert len(found.entries) + len(found.left_out) == len(accounts)
    assert all(is_label(entry.account.label) for entry in found.entries)
