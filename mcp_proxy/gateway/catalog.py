"""Accounts to seats, names to offers, and the list of models a client may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from accounts.model import Account, OAuthClient, Token
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Access, Listed, Offer, Provider
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.routing.budget import Budget
from mcp_proxy.routing.facts import Policy, Seat, Target
from mcp_proxy.routing.serving import resolve

MAX_NAMES = 1024
"""Names made out and kept; what clients ask for is a handful."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator set for one provider; None where nothing was.

    urls            addresses by the provider's own names for them
    client          the OAuth client that its accounts sign in with
    client_version  which version of its own client it is told
    budgets         token budgets that all its accounts use up together
    """

    base_url: str | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    tier: int | None = None
    sticky: bool = True
    client: OAuthClient | None = None
    client_version: str | None = None
    budgets: tuple[Budget, ...] = ()


NO_OPTIONS = Options()


class Catalog:
    """What each provider's form and the operator's options make of an account."""

    def __init__(
        self,
        providers: Mapping[ProviderName, Provider],
        options: Mapping[ProviderName, Options],
        budgets: Mapping[str, tuple[Budget, ...]] | None = None,
    ) -> None:
        """budgets: of single accounts, by id, `provider/label` or label."""
        self.providers = providers
        self._options = options
        self._budgets = budgets or {}
        self._targets: dict[str, Target] = {}
        self._targets_of = -1

    def provider(self, account: Account) -> Provider | None:
        """The account's provider; None for one this version does not know."""
        return self.providers.get(ProviderName(account.provider))

    def options(self, account: Account) -> Options:
        """What the operator set for the account's provider."""
        return self._options.get(ProviderName(account.provider), NO_OPTIONS)

    def base_url(self, account: Account) -> str | None:
        """Where the account is asked; None where that is not known."""
        provider = self.provider(account)
        found = account.base_url or self.options(account).base_url or (provider.base_url if provider else None)
        return found.rstrip("/") if found is not None else None

    def access(self, account: Account, token: Token) -> Access | None:
        """Where and with what the account is asked; None where its address is not known."""
        provider = self.provider(account)
        if provider is None:
            return None
        options, base_url = self.options(account), self.base_url(account)
        if base_url is None:
            return None
        auth = account.auth or provider.auth
        return Access(base_url, auth, token, options.urls, account.extra, options.client_version)

    def seat(self, account: Account, listed: tuple[Listed, ...] | None) -> Seat | None:
        """The account as a seat; `listed` is what its own model list says, None where it was not read."""
        provider = self.provider(account)
        if provider is None:
            return None
        options = self.options(account)
        offers = _offers(account, provider, listed)
        return Seat(
            account=account,
            offers=offers,
            serves=provider.serves,
            any=provider.serves.any and not offers,
            tier=account.tier if account.tier is not None else options.tier if options.tier is not None else 1,
            comfort=provider.comfort,
            sticky=options.sticky,
            upstream=self._upstream(account),
            budgets=(*options.budgets, *self._own_budgets(account)),
        )

    def _upstream(self, account: Account) -> str:
        """Whom an account shares its upstream with: its provider's others at that address. Empty: it has none."""
        base_url = self.base_url(account)
        if base_url is None:
            return ""
        base = urlsplit(base_url)
        return f"{account.provider} {base.scheme}://{base.netloc.rpartition('@')[2]}{base.path}"

    def _own_budgets(self, account: Account) -> tuple[Budget, ...]:
        names = (account.id, f"{account.provider}/{account.label}", account.label)
        return next((self._budgets[name] for name in names if name in self._budgets), ())

    def resolve(self, asked: str, pool: Pool, policy: Policy) -> Target:
        """Who serves a name. Remembered until an account or what it serves changes."""
        if self._targets_of != pool.version or len(self._targets) >= MAX_NAMES:
            self._targets, self._targets_of = {}, pool.version
        target = self._targets.get(asked)
        if target is None:
            target = self._targets[asked] = resolve(asked, pool.seats, policy)
        return target


def _offers(account: Account, provider: Provider, listed: tuple[Listed, ...] | None) -> dict[ModelId, Offer]:
    """The models an account serves: those its owner named, else what its provider lists and what it lists itself."""
    known = {offer.model: offer for offer in provider.serves.offers}
    make = provider.serves.offer
    own = {entry.model: _offer(entry, known.get(entry.model), make) for entry in listed or ()}
    if account.models:
        return {(model := ModelId(name)): own.get(model) or known.get(model) or make(model) for name in account.models}
    return own if provider.listed_only and listed is not None else {**known, **own}


def _offer(entry: Listed, known: Offer | None, make: Callable[[ModelId], Offer]) -> Offer:
    """What an account's own list says of a model; where it tells a name alone, what is known already counts more."""
    if entry.offer is not None or known is not None:
        return entry.offer or known or make(entry.model)
    offer = make(entry.model)
    return replace(offer, display_name=entry.display_name)
