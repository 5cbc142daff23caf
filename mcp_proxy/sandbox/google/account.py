"""Somebody with a Google login: grants, access tokens, a project, and two windows for each family of models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from accounts.model import OAuthClient, OAuthGrant, Secret
from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox.accounts import DAY, HOUR, Account, Window
from mcp_proxy.sandbox.google.models import GoogleModel

LIFETIME = 3600.0
"""Seconds that an access token is good for."""

POOLS = ("gemini", "3p")
REMEMBERED = 3600.0
"""Seconds that a conversation's prompt stays cached."""


@dataclass(slots=True, eq=False)
class AccessToken:
    """What a request to the API carries. expires_at: by the sandbox's clock; `expire()` brings it forward."""

    value: str
    expires_at: float


@dataclass(slots=True, eq=False)
class GoogleAccount(Account):
    """One login. `key` is the first refresh token.

    email         who it is
    project       the Cloud project its requests have to name; None: none yet, `onboardUser` makes one
    as_object     whether `loadCodeAssist` tells the project as an object
    tier          the id of the tier everybody has
    plan          the id of the one that is paid for; None: a free account
    polls         how often `onboardUser` says that it is not done yet
    stranded      `onboardUser` ends without a project
    banned        its refresh tokens are refused, with the words that banned accounts get
    withholds     a sign-in gives no refresh token
    rotates       each refresh gives a new refresh token, and the old one is dead
    unsummed      pools that the summary of its quotas leaves out
    wrapped       the field that the summary stands in; None: it stands bare
    wary          the client of the IDE hub is sent to verify the account
    credits       may spend credits when its quota is gone
    lifetime      seconds that its next access tokens are good for
    refreshes     every refresh token that is good now, the newest last
    minted        access tokens that the token endpoint gave for it
    refused       requests to the token endpoint that it refused for this account
    unauthorized  API requests with an access token of its own that was expired
    pestered      generate requests that came for a spent pool after its first refusal and before its reset
    sessions      by conversation: digests of the prompt's beginnings, and until when they are cached
    """

    email: str = ""
    project: str | None = None
    as_object: bool = False
    tier: str = "free-tier"
    plan: str | None = "g1-pro-tier"
    polls: int = 2
    stranded: bool = False
    banned: bool = False
    withholds: bool = False
    rotates: bool = False
    unsummed: tuple[str, ...] = ()
    wrapped: str | None = None
    wary: bool = False
    credits: bool = False
    lifetime: float = LIFETIME
    refreshes: list[str] = field(default_factory=list)
    tokens: dict[str, AccessToken] = field(default_factory=dict)
    client: OAuthClient | None = None
    minted: int = 0
    refused: int = 0
    unauthorized: int = 0
    pestered: int = 0
    polled: int = 0
    sessions: dict[str, tuple[float, dict[bytes, int]]] = field(default_factory=dict)
    _closed: dict[str, float] = field(default_factory=dict)

    def grant(self, *, with_client: bool = False) -> OAuthGrant:
        """A person's consent, as the proxy's store keeps it. with_client: and the client it was given to."""
        return OAuthGrant(Secret(self.refreshes[-1]), self.client if with_client else None)

    def revoke(self) -> None:
        """The person takes the consent back: nothing of it is good any more."""
        self.refreshes.clear()
        self.tokens.clear()

    def expire(self) -> None:
        """Every access token so far is expired now."""
        for token in self.tokens.values():
            token.expires_at = 0.0

    def mint(self, value: str, now: float) -> AccessToken:
        """A new access token."""
        made = self.tokens[value] = AccessToken(value, now + self.lifetime)
        return made

    def holds(self, value: str, now: float) -> bool:
        token = self.tokens.get(value)
        return token is not None and now < token.expires_at

    # Windows

    def pool(self, name: str) -> list[Window]:
        return [window for window in self.windows.values() if window.name.startswith(f"{name}-")]

    def spent(self, pool: str, now: float) -> Window | None:
        """The window that closes a pool for longest, if one does. Notes who asks on although it was told so."""
        spent = [window for window in self.pool(pool) if window.used >= window.capacity]
        found = max(spent, key=lambda window: window.resets_at or 0.0, default=None)
        if found is not None:
            self.pestered += now < self._closed.get(pool, now)
            self._closed[pool] = found.resets_at or now
        return found

    def pay(self, pool: str, usage: Usage, now: float) -> None:
        """Tokens out of a pool; what was cached is free."""
        for window in self.pool(pool):
            window.charge(usage, now)

    def google_models(self) -> list[GoogleModel]:
        return [model for model in self.models.values() if isinstance(model, GoogleModel)]

    def find(self, model: str) -> GoogleModel | None:
        found = self.models.get(model)
        return found if isinstance(found, GoogleModel) else None


def google_windows() -> tuple[Window, ...]:
    return tuple(
        Window(f"{pool}-{name}", size, length, length=length)
        for pool in POOLS
        for name, size, length in (("5h", 40_000_000, 5 * HOUR), ("weekly", 200_000_000, 7 * DAY))
    )


def with_lengths(windows: Iterable[Window]) -> list[Window]:
    """The windows, their lengths by their names where none was given."""
    found = list(windows)
    for window in found:
        window.length = window.length or (5 * HOUR if window.name.endswith("-5h") else 7 * DAY)
    return found


def binding(windows: list[Window]) -> Window | None:
    """The window that has least left; of those spent, the one that stays so for longest."""
    return min(windows, key=lambda window: (window.left, -(window.resets_at or 0.0)), default=None)
