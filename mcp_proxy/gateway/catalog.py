"""Accounts to seats, names to offers, and the list of models a client may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from accounts.model import Account, CallersOwn, ClaudeCodeLogin, Credential, OAuthClient, Token
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName
from mcp_proxy.core.provider import Access, Listed, Offer, Provider
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.routing.budget import Budget
from mcp_proxy.routing.facts import LAST_RESORT, Policy, Seat, Target
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
        self._offers: dict[AccountId, tuple[object, Mapping[ModelId, Offer]]] = {}
        self._targets: dict[tuple[str, bool, bool], Target] = {}
        self._targets_of: tuple[int, Policy | None] = (-1, None)

    def refit(
        self, options: Mapping[ProviderName, Options], budgets: Mapping[str, tuple[Budget, ...]] | None = None
    ) -> None:
        """Take over what the operator has set anew; seats that stand have to be made again."""
        self._options, self._budgets = options, budgets or {}

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

    def seat(
        self, account: Account, listed: tuple[Listed, ...] | None, credential: Credential | None = None
    ) -> Seat | None:
        """The account as a seat; `listed` is what its own model list says, None where it was not read.

        credential  tells whose login it is asked with; None: ours
        """
        provider = self.provider(account)
        if provider is None:
            return None
        options = self.options(account)
        offers = self._offers_of(account, provider, listed)
        local = isinstance(credential, ClaudeCodeLogin)
        usual = LAST_RESORT if local else options.tier if options.tier is not None else 1
        return Seat(
            account=account,
            offers=offers,
            serves=provider.serves,
            any=provider.serves.any and not offers,
            tier=account.tier if account.tier is not None else usual,
            comfort=provider.comfort,
            sticky=options.sticky,
            caller="" if isinstance(credential, CallersOwn) else None,
            local=local,
            upstream=self._upstream(account),
            budgets=(*options.budgets, *self._own_budgets(account)),
        )

    def _offers_of(
        self, account: Account, provider: Provider, listed: tuple[Listed, ...] | None
    ) -> Mapping[ModelId, Offer]:
        """What an account serves, made once: each list of models that is read makes all seats anew."""
        made_of = (provider, account.models, listed)
        known = self._offers.get(account.id)
        if known is None or known[0] != made_of:
            known = self._offers[account.id] = (made_of, _offers(account, provider, listed))
        return known[1]

    def keep_only(self, accounts: Iterable[AccountId]) -> None:
        """Forget what was made of other accounts."""
        kept = set(accounts)
        self._offers = {account: made for account, made in self._offers.items() if account in kept}

    def _upstream(self, account: Account) -> str:
        """Whom an account shares its upstream with: its provider's others at that address. Empty: it has none."""
        base_url = self.base_url(account)
        if base_url is None:
            return ""
        base = urlsplit(base_url)
        return f"{account.provider} {base.scheme}://{base.netloc.rpartition('@')[2]}{base.path}"

    def _own_budgets(self, account: Account) -> tuple[Budget, ...]:
        return next((self._budgets[name] for name in _names(account) if name in self._budgets), ())

    def idle_budgets(self, accounts: Iterable[Account]) -> list[str]:
        """The names that budgets are set for and that none of these accounts has."""
        return sorted(self._budgets.keys() - {name for account in accounts for name in _names(account)})

    def resolve(self, asked: str, pool: Pool, policy: Policy, *, login: bool = True, local: bool = True) -> Target:
        """Who serves a name. Remembered until an account or what it serves changes, or the policy is another one.

        login, local  whether the client has a login of its own, and is on this machine: seats that want it are as if
                      they were not there, unless nobody else is
        """
        target = self._resolved(asked, pool, policy, login, local)
        return target if target.serving else self._resolved(asked, pool, policy, True, True)

    def _resolved(self, asked: str, pool: Pool, policy: Policy, login: bool, local: bool) -> Target:
        version, known = self._targets_of
        if version != pool.version or known is not policy or len(self._targets) >= MAX_NAMES:
            self._targets, self._targets_of = {}, (pool.version, policy)
        key = (asked, login, local)
        target = self._targets.get(key)
        if target is None:
            seats = (seat for seat in pool.seats if (login or seat.caller is None) and (local or not seat.local))
            target = self._targets[key] = resolve(asked, seats, policy)
        return target


def _names(account: Account) -> tuple[str, ...]:
    """What an account may be called in the configuration, the closest first."""
    return account.id, f"{account.provider}/{account.label}", account.label


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
