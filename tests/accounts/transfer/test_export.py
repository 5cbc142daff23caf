from __future__ import annotations

import pytest

from accounts.model import Entry
from accounts.transfer import READERS
from accounts.transfer.export import read, written
from accounts.transfer.formats import NotImportable, reader_for
from accounts.vault import seal
from tests.accounts.kit import CHEAP, account, entry, grant


def test_what_was_written_is_read_again() -> None:
    stored = (entry(1), entry(2, "kimi", tier=3, models=("a", "b")), Entry(account(3), grant(3)))
    assert read(b"sealed", lambda _: written(stored)).entries == stored


@pytest.mark.parametrize("plain", [b"", b"[]", b"{}", b'{"accounts": 1}', b'{"accounts": [1]}', b'{"accounts": [{}]}'])
def test_a_content_we_did_not_write_is_an_error(plain: bytes) -> None:
    with pytest.raises(NotImportable, match="cannot be read"):
        read(b"sealed", lambda _: plain)


def test_an_export_is_recognised_by_its_first_line() -> None:
    key = seal.new_key()
    header = seal.header_for(key, seal.KeySource.PASSPHRASE, 1, seal.new_stretch(CHEAP), seal.Format.EXPORT)
    assert reader_for(seal.seal(b"{}", key, header), READERS).plain is False
    store = seal.seal(b"{}", key, seal.header_for(key, seal.KeySource.FILE, 1))
    with pytest.raises(NotImportable):
        reader_for(store, READERS)
