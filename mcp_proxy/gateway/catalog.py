"""Accounts to seats, names to offers, and the list of models a client may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accounts.model import Account, Token
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Access, Listed, Offer, Provider
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.routing.facts import Policy, Seat, Target
from mcp_proxy.routing.names import resolve

MAX_NAMES = 1024
"""Names made out and kept; what clients ask for is a handful."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator set for one provider; None where nothing was.

    urls  addresses by the provider's own names for them
    """

    base_url: str | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    tier: int | None = None
    sticky: bool = True


NO_OPTIONS = Options()


class Catalog:
    """What each provider's form and the operator's options make of an account."""

    def __init__(self, providers: Mapping[ProviderName, Provider], options: Mapping[ProviderName, Options]) -> None:
        self.providers = providers
        self._options = options
        self._targets: dict[str, Target] = {}
        self._targets_of = -1

    def provider(self, account: Account) -> Provider | None:
        """The account's provider; None for one this version does not know."""
        return self.providers.get(ProviderName(account.provider))

    def options(self, account: Account) -> Options:
        """What the operator set for the account's provider."""
        return self._options.get(ProviderName(account.provider), NO_OPTIONS)

    def access(self, account: Account, token: Token) -> Access | None:
        """Where and with what the account is asked; None where its address is not known."""
        provider = self.provider(account)
        if provider is None:
            return None
        options = self.options(account)
        base_url = account.base_url or options.base_url or provider.base_url
        if base_url is None:
            return None
        return Access(base_url.rstrip("/"), account.auth or provider.auth, token, options.urls)

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
        )

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
    if account.models:
        return {ModelId(name): known.get(ModelId(name)) or make(ModelId(name)) for name in account.models}
    for entry in listed or ():
        if entry.model not in known:
            offer = make(entry.model)
            known[entry.model] = Offer(offer.model, offer.draws_on, entry.display_name, offer.context_window)
    return known
