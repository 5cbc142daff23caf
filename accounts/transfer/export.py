"""Our own export: the accounts as JSON, sealed under a passphrase by whoever writes the file."""

from __future__ import annotations

import json

from accounts.model import Entry
from accounts.records import Unreadable, from_document, to_document
from accounts.transfer.formats import Contents, NotImportable, Reader, Unseal

MARK = b'{"format":"multi-claude-proxy/export",'
"""How the first line of an export begins; the seal writes its fields in this order."""


def written(entries: tuple[Entry, ...]) -> bytes:
    """The content of an export, still plain: only ever to be sealed."""
    return json.dumps({"accounts": [to_document(entry) for entry in entries]}).encode()


def read(content: bytes, unseal: Unseal) -> Contents:
    """The accounts of an export. Raises NotImportable for a content we did not write."""
    try:
        return Contents(tuple(from_document(document) for document in json.loads(unseal(content))["accounts"]))
    except (ValueError, KeyError, TypeError, AttributeError, Unreadable) as error:
        reason = str(error) if isinstance(error, Unreadable) else "it holds no list of accounts"
        raise NotImportable(f"the export cannot be read: {reason}") from None


EXPORT = Reader(
    name="an export of multi-claude-proxy",
    plain=False,
    recognises=lambda content: content.startswith(MARK),
    read=read,
)
