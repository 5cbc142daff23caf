"""The plain `accounts.json` of antigravity-claude-proxy and of earlier versions of multi-claude-proxy.

Its refresh tokens are only good with the OAuth client that issued them, which the file does not name. What it remembers
of limits is left: it was true then.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from accounts.labels import fitting
from accounts.model import Account, AccountId, ApiKey, Credential, Entry, OAuthGrant, Secret
from accounts.transfer.formats import Contents, NotImportable, Reader, Unseal

ANTIGRAVITY = "antigravity"
"""The provider of an account that names none: once there was no other."""

SECRET_LIMIT = 8192
REASON_LIMIT = 500


class Broken(Exception):
    """An account that cannot be read: which part of it, never what stands there."""


def recognises(content: bytes) -> bool:
    """Whether this is such a file: a JSON object with a list of accounts."""
    return content.lstrip()[:1] == b"{" and _accounts(content) is not None


def read(content: bytes, _: Unseal) -> Contents:
    """The accounts of the file, and which of them are broken. Raises NotImportable."""
    accounts = _accounts(content)
    if not accounts:
        raise NotImportable("the file holds no accounts")
    entries: list[Entry] = []
    left_out: list[str] = []
    for number, found in enumerate(accounts, 1):
        try:
            entries.append(_entry(found))
        except Broken as error:
            left_out.append(f"account {number}: {error}")
    return Contents(tuple(entries), tuple(left_out))


FOREIGN = Reader(
    name="an accounts.json of antigravity-claude-proxy or an older multi-claude-proxy",
    plain=True,
    recognises=recognises,
    read=read,
)


def _accounts(content: bytes) -> list[Any] | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    accounts = document.get("accounts") if isinstance(document, dict) else None
    return accounts if isinstance(accounts, list) else None


def _entry(found: object) -> Entry:
    if not isinstance(found, dict):
        raise Broken("it is no JSON object")
    credential, project = _credential(found)
    email = _text(found, "email")
    extra = {"project": project, "email": email if isinstance(credential, OAuthGrant) else None}
    account = Account(
        id=AccountId(secrets.token_hex(3)),
        provider=_text(found, "provider") or ANTIGRAVITY,
        label=fitting(email or "imported"),
        enabled=found.get("enabled") is not False,
        invalid=_invalid(found),
        extra={name: text for name, text in extra.items() if text is not None},
    )
    return Entry(account, credential)


def _credential(found: Mapping[str, Any]) -> tuple[Credential, str | None]:
    """The credential, and the project that belongs to it."""
    project = _text(found, "projectId")
    match found.get("source"):
        case "oauth":
            # one writer keeps "token|project|managed project" in one field
            token, *projects = _secret(found, "refreshToken").split("|")
            return OAuthGrant(Secret(_not_empty(token, "refreshToken"))), project or next(filter(None, projects), None)
        case "manual":
            return ApiKey(Secret(_secret(found, "apiKey"))), project
    raise Broken("its 'source' is neither 'oauth' nor 'manual', so there is no credential in it")


def _secret(found: Mapping[str, Any], name: str) -> str:
    text = _not_empty(_text(found, name), name)
    if len(text) > SECRET_LIMIT or not (text.isascii() and text.isprintable()) or " " in text:
        raise Broken(f"its {name!r} is none")
    return text


def _not_empty(text: str | None, name: str) -> str:
    if not text:
        raise Broken(f"it has no {name!r}")
    return text


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Broken(f"its {name!r} is not a text")
    return value.strip() or None


def _invalid(found: Mapping[str, Any]) -> str | None:
    if found.get("isInvalid") is not True:
        return None
    said = found.get("invalidReason")
    return said[:REASON_LIMIT] if isinstance(said, str) and said.strip() else "marked invalid in the file it came from"
