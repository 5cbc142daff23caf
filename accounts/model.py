"""The nouns of an account: who it is, what it may use, and how a person gets it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NewType, NoReturn, TypeAlias

AccountId = NewType("AccountId", str)

Auth: TypeAlias = Literal["x-api-key", "bearer"]
"""Which header carries a key: `x-api-key: K` or `Authorization: Bearer K`."""


class Secret:
    """Text that must not be seen. Prints as `Secret(...)`; leaves only through `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that builds a header or seals a store."""
        return self._text

    def masked(self) -> str:
        """Enough to tell two keys apart, too little to use one: the last four of a long one."""
        return f"…{self._text[-4:]}" if len(self._text) >= 20 else "…"

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that a person copied from the provider's page; it is its own token."""

    key: Secret


@dataclass(frozen=True, slots=True)
class Token:
    """What goes on the wire, and until when (unix seconds; None: until it is refused)."""

    value: Secret
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """The program that a person's consent was given to, as its provider knows it (RFC 6749, 2)."""

    id: str
    secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """A person's consent, from which tokens are minted.

    refresh_token  only good with the client that it was issued to
    client         that client; None: whichever is configured
    token          the last that was minted, so that no other process has to mint one too
    """

    refresh_token: Secret
    client: OAuthClient | None = None
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class CallersOwn:
    """None: each request brings the login of whoever sends it, which is passed on and kept nowhere."""


@dataclass(frozen=True, slots=True)
class ClaudeCodeLogin:
    """Where Claude Code keeps its user's login. It is read there when it is used; we neither write nor renew it.

    path  the file; None: the Keychain of macOS
    """

    path: str | None = None


Credential: TypeAlias = ApiKey | OAuthGrant | CallersOwn | ClaudeCodeLogin
"""What a person gave us. Kept in the vault only."""


def secrets_of(credential: Credential) -> tuple[Secret, ...]:
    """Everything in a credential that must not be seen."""
    if isinstance(credential, ApiKey):
        return (credential.key,)
    if not isinstance(credential, OAuthGrant):
        return ()
    client, token = credential.client, credential.token
    held = (credential.refresh_token, client.secret if client else None, token.value if token else None)
    return tuple(secret for secret in held if secret is not None)


def same_credential(one: Credential | None, other: Credential | None) -> bool:
    """Whether two are what the same person gave, whatever was minted from it since."""
    if isinstance(one, OAuthGrant) and isinstance(other, OAuthGrant):
        return one.refresh_token == other.refresh_token
    return one == other


@dataclass(frozen=True, slots=True)
class Account:
    """One account of one provider, as it is stored. Its credential is kept beside it, never in it.

    label     the person's own name for it, unique within the provider
    tier      lower is tried first; None: the provider's tier
    base_url  where it is served; None: the provider's own address
    auth      which header carries its key; None: the provider's own way
    models    the only model ids it serves; empty: whatever its provider serves
    invalid   why the provider refuses its credential; None while it is good
    extra     what its provider has to be told with each request, and learnt at sign-in: a project, a plan
    """

    id: AccountId
    provider: str
    label: str
    enabled: bool = True
    tier: int | None = None
    base_url: str | None = None
    auth: Auth | None = None
    models: tuple[str, ...] = ()
    invalid: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`provider/label`, for people. Programs use `id`."""
        return f"{self.provider}/{self.label}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An account with the credential that belongs to it: one document of the store."""

    account: Account
    credential: Credential


@dataclass(frozen=True, slots=True)
class ApiKeySignIn:
    """Sign in by pasting a key.

    key_page  where a person finds the key; None where we do not know
    notice    one line a person should read first, such as a limit in the provider's terms
    """

    key_page: str | None = None
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSignIn:
    """Sign in on the provider's page (RFC 6749, 4.1, with PKCE), answered to a loopback address or by pasting.

    Addresses are the provider's own; settings may replace each under its name here.

    scopes        what is asked for
    parameters    what the page is told besides what the standard asks for
    port, path    where the answer is waited for; another port where this one is taken
    client_names  the two settings that hold the OAuth client's id and secret, where a person has to bring one
    notice        one line a person should read first
    terms         one line of what the provider's terms forbid; it has to be agreed to
    """

    authorize_url: str
    token_url: str
    userinfo_url: str
    scopes: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    path: str = "/callback"
    client_names: tuple[str, str] | None = None
    notice: str | None = None
    terms: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersSignIn:
    """No sign-in: each request brings its caller's login, or Claude Code's own is read where it lies.

    notice  what a person should know of that, and of the provider's terms
    terms   one line of what the terms say of a login that is read; it has to be agreed to
    """

    notice: str
    terms: str


SignIn: TypeAlias = ApiKeySignIn | BrowserSignIn | CallersSignIn
"""A provider's recipe for getting a credential, a plain value."""


class Works(StrEnum):
    """What a provider says of a credential."""

    YES = "ok"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of asking a provider whether a credential works; `detail` is for people.

    learnt      what the provider says of the account that has to be known to use it: `Account.extra`
    again       the provider is at work on it: in some seconds it may say something else
    credential  the credential with what was minted from it to ask; None: it is as it was
    """

    works: Works
    detail: str = ""
    learnt: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    credential: Credential | None = None
