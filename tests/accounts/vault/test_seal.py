from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.model import Secret
from accounts.vault import seal
from accounts.vault.errors import ForeignStore, NewerVersion, VaultDamaged, VaultEmpty, VaultError, WrongKey
from accounts.vault.seal import Format, Key, KeySource
from tests.accounts.kit import CHEAP

KEY = Key(bytes(range(32)))
PLAIN = b'{"accounts":{}}'


def sealed(plain: bytes = PLAIN, key: Key = KEY, generation: int = 1, source: KeySource = KeySource.FILE) -> bytes:
    return seal.seal(plain, key, seal.header_for(key, source, generation))


def with_header(**changes: object) -> bytes:
    """A sealed file whose header says something else, with a checksum that fits."""
    line, _, rest = sealed().partition(b"\n")
    fields = json.loads(line)
    del fields["sum"]
    fields.update(changes)
    body = json.dumps(fields, separators=(",", ":")).encode()[:-1]
    return body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}\n' + rest


@given(st.binary(max_size=3000))
def test_what_was_sealed_comes_back(plain: bytes) -> None:
    assert seal.unseal(sealed(plain), KEY) == plain


def test_the_first_line_is_json_that_says_what_opens_the_file() -> None:
    first = json.loads(sealed(generation=7).partition(b"\n")[0])
    assert first["format"] == "multi-claude-proxy/accounts"
    assert (first["version"], first["generation"]) == (1, 7)
    assert first["key"] == {"id": KEY.id, "source": "file", "check": KEY.check}
    assert len(bytes.fromhex(KEY.check)) == 8


def test_nothing_sealed_can_be_read_in_the_file_and_no_two_files_are_alike() -> None:
    assert PLAIN not in sealed()
    assert sealed() != sealed()


def test_a_passphrase_opens_what_it_sealed_and_its_cost_is_in_the_header() -> None:
    stretch = seal.new_stretch(CHEAP)
    key = seal.stretched(Secret("correct horse"), stretch)
    whole = seal.seal(PLAIN, key, seal.header_for(key, KeySource.PASSPHRASE, 1, stretch))
    read = seal.read_header(whole).stretch
    assert read == stretch
    assert seal.unseal(whole, seal.stretched(Secret("correct horse"), stretch)) == PLAIN
    with pytest.raises(WrongKey):
        seal.unseal(whole, seal.stretched(Secret("correct horsf"), stretch))


def test_a_key_never_prints_itself() -> None:
    assert repr(KEY) == "Key(...)"
    assert seal.encoded_key(KEY) not in repr(seal.header_for(KEY, KeySource.ENV, 1))


@pytest.mark.parametrize("bit", range(8))
def test_one_flipped_bit_anywhere_is_damage_and_nothing_else(bit: int) -> None:
    whole = sealed()
    for place in range(len(whole)):
        hurt = bytearray(whole)
        hurt[place] ^= 1 << bit
        with pytest.raises(VaultDamaged) as caught:
            seal.unseal(bytes(hurt), KEY)
        assert type(caught.value) is VaultDamaged, f"byte {place}"


def test_a_file_cut_anywhere_is_damage_and_an_empty_one_is_called_empty() -> None:
    whole = sealed()
    for length in range(1, len(whole)):
        with pytest.raises(VaultDamaged) as caught:
            seal.unseal(whole[:length], KEY)
        assert type(caught.value) is VaultDamaged, f"cut at {length}"
    with pytest.raises(VaultEmpty):
        seal.unseal(b"", KEY)


def test_another_key_is_told_apart_from_damage() -> None:
    with pytest.raises(WrongKey):
        seal.unseal(sealed(), Key(bytes(32)))


def test_a_header_of_another_generation_does_not_fit() -> None:
    line = sealed(generation=2).partition(b"\n")[0]
    with pytest.raises(VaultDamaged):
        seal.unseal(line + b"\n" + sealed(generation=1).partition(b"\n")[2], KEY)


def test_a_newer_version_is_named() -> None:
    with pytest.raises(NewerVersion, match="version 2"):
        seal.unseal(with_header(version=2), KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": {}},
        {"key": None},
        {"key": {"id": "0", "source": "tea leaves", "check": "0"}},
        {"generation": "many"},
        {"generation": None},
        {"key": {"id": "0", "source": "passphrase", "check": "0"}},
        {"key": {"id": "0", "source": "passphrase", "check": "0", "kdf": {"name": "md5"}}},
        {
            "key": {
                "id": "0",
                "source": "passphrase",
                "check": "0",
                "kdf": {"name": "argon2id", "salt": "AAAA", "memory": 2**30, "iterations": 1, "lanes": 1},
            }
        },
    ],
)
def test_a_header_that_makes_no_sense_is_damage(changes: dict[str, object]) -> None:
    with pytest.raises(VaultDamaged):
        seal.read_header(with_header(**changes))


def test_a_plain_file_of_another_tool_is_named_as_such() -> None:
    with pytest.raises(ForeignStore, match=r"plain accounts\.json of another tool"):
        seal.read_header(b'{\n  "accounts": [{"email": "someone", "refreshToken": "fake"}]\n}\n')
    with pytest.raises(ForeignStore, match="plain JSON"):
        seal.read_header(b'{"_default": {}}')


def test_an_export_is_not_taken_for_a_store_nor_a_store_for_an_export() -> None:
    export = seal.seal(
        PLAIN, KEY, seal.header_for(KEY, KeySource.PASSPHRASE, 1, seal.new_stretch(CHEAP), Format.EXPORT)
    )
    with pytest.raises(ForeignStore, match="an export"):
        seal.unseal(export, KEY)
    with pytest.raises(ForeignStore, match="not an export"):
        seal.unseal(sealed(), KEY, Format.EXPORT)


@given(st.binary(min_size=1, max_size=400))
def test_garbage_is_an_error_of_ours_and_never_an_account(garbage: bytes) -> None:
    with pytest.raises(VaultError):
        seal.unseal(garbage, KEY)


@pytest.mark.parametrize("text", ["", "short", "A" * 44, "=" * 44, "ä" * 44, "AAAA" * 20])
def test_what_is_not_32_bytes_of_base64_is_no_key(text: str) -> None:
    assert seal.decoded_key(text) is None


def test_a_key_is_read_in_either_alphabet_with_or_without_padding() -> None:
    key = Key(b"\xfb\xff" * 16)
    text = seal.encoded_key(key)
    assert "+" in text or "/" in text
    for variant in (text, f" {text}\n", text.rstrip("="), text.replace("+", "-").replace("/", "_")):
        assert seal.decoded_key(variant) == key
