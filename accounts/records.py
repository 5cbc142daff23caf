"""An entry as a JSON document, and back: what the store holds and an export carries.

Every field is always written, so a field that was emptied is emptied in the store too.
Fields we do not know are ignored here and kept by the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast, get_args

from accounts.model import (
    Account,
    AccountId,
    ApiKey,
    Auth,
    CallersOwn,
    ClaudeCodeLogin,
    Credential,
    Entry,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
)

T = TypeVar("T")


class Unreadable(Exception):
    """A document that is not one of ours. Says which field, never its value."""


def to_document(entry: Entry) -> dict[str, Any]:
    """The entry as JSON values. Holds the secret in plain text: only ever to be sealed."""
    account = entry.account
    return {
        "id": account.id,
        "provider": account.provider,
        "label": account.label,
        "enabled": account.enabled,
        "tier": account.tier,
        "base_url": account.base_url,
        "auth": account.auth,
        "models": list(account.models),
        "invalid": account.invalid,
        "extra": dict(account.extra),
        "credential": _credential_document(entry.credential),
    }


def from_document(document: Mapping[str, Any]) -> Entry:
    """The entry a document describes. Raises Unreadable naming the first field that cannot be."""
    auth = _optional(document, "auth", str)
    if auth is not None and auth not in get_args(Auth):
        raise Unreadable("field 'auth' names a way to send a key that this version does not know")
    account = Account(
        id=AccountId(_required(document, "id", str)),
        provider=_required(document, "provider", str),
        label=_required(document, "label", str),
        enabled=_required(document, "enabled", bool),
        tier=_optional(document, "tier", int),
        base_url=_optional(document, "base_url", str),
        auth=cast("Auth | None", auth),
        models=_words(document.get("models") or []),
        invalid=_optional(document, "invalid", str),
        extra=_texts(document.get("extra") or {}),
    )
    return Entry(account, _credential(document.get("credential")))


def _credential_document(credential: Credential) -> dict[str, Any]:
    if isinstance(credential, ApiKey):
        return {"kind": "api_key", "key": credential.key.reveal()}
    if isinstance(credential, CallersOwn):
        return {"kind": "callers_own"}
    if isinstance(credential, ClaudeCodeLogin):
        return {"kind": "claude_code", "path": credential.path}
    client, token = credential.client, credential.token
    return {
        "kind": "oauth",
        "refresh_token": credential.refresh_token.reveal(),
        "client_id": client.id if client else None,
        "client_secret": client.secret.reveal() if client and client.secret else None,
        "token": token.value.reveal() if token else None,
        "expires_at": token.expires_at if token else None,
    }


def _credential(document: object) -> Credential:
    if not isinstance(document, dict):
        raise Unreadable("field 'credential' is missing")
    match document.get("kind"):
        case "api_key":
            return ApiKey(Secret(_required(document, "key", str)))
        case "oauth":
            return _grant(document)
        case "callers_own":
            return CallersOwn()
        case "claude_code":
            return ClaudeCodeLogin(_optional(document, "path", str))
    raise Unreadable("field 'credential' is of a kind that this version does not know")


def _grant(document: Mapping[str, Any]) -> OAuthGrant:
    client, token = _optional(document, "client_id", str), _optional(document, "token", str)
    secret, until = _optional(document, "client_secret", str), document.get("expires_at")
    if until is not None and (isinstance(until, bool) or not isinstance(until, int | float)):
        raise Unreadable("field 'expires_at' is not a number")
    return OAuthGrant(
        Secret(_required(document, "refresh_token", str)),
        OAuthClient(client, Secret(secret) if secret is not None else None) if client is not None else None,
        Token(Secret(token), until) if token is not None else None,
    )


def _required(document: Mapping[str, Any], field: str, kind: type[T]) -> T:
    value = document.get(field)
    if not isinstance(value, kind):
        raise Unreadable(f"field {field!r} is missing or not of type {kind.__name__}")
    return value


def _optional(document: Mapping[str, Any], field: str, kind: type[T]) -> T | None:
    return None if document.get(field) is None else _required(document, field, kind)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise Unreadable("field 'models' is not a list of words")
    return tuple(value)


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Unreadable("field 'extra' is not a table of texts")
    return dict(value)
