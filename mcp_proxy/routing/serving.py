"""From the model name a client writes to the accounts that serve it (contract §4, "Who serves a model name")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from mcp_proxy.core.ids import AccountId, ModelId, ProviderName
from mcp_proxy.core.patterns import closest, matches
from mcp_proxy.core.provider import Offer, Size
from mcp_proxy.routing.facts import Policy, Route, Seat, Serving, Target
from mcp_proxy.routing.fallbacks import chain, nearest
from mcp_proxy.routing.names import LISTED_AS_ANTHROPIC, alias_of, size_of, unmarked

Ways = dict[AccountId, Serving]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A name made out as far as it can be without asking who serves it.

    bound    the provider it names, which nobody else may stand in for
    aliased  whether an alias made it: then no tier has a say
    """

    name: str
    bound: ProviderName | None
    aliased: bool


def resolve(asked: str, pool: Iterable[Seat], policy: Policy) -> Target:
    """Who serves `asked`, and as what; behind that, the chain of models that stand in once it has run out.

    Disabled accounts serve nothing; an account whose credential is refused still does, so that a refused
    key is told as such and does not quietly move its owner to another model, unless fallbacks were asked for.
    """
    seats = [seat for seat in pool if seat.account.enabled]
    aliases = _speaking_of(asked, policy.aliases, policy)
    alias = alias_of(asked, aliases)
    if alias is None:
        alias = alias_of(unmarked(asked), aliases)
    name = asked if alias is None else alias
    if not _listed(name, seats, policy):
        name = unmarked(name)
    bound = _bound(name, policy.providers)
    wanted = _Wanted(name, bound[1] if bound else None, alias is not None)
    first = _named(wanted, asked, [seat for seat in seats if not seat.last_resort], policy)
    last = _named(wanted, asked, [seat for seat in seats if seat.last_resort], policy)
    alike = {account for account, way in (first | last).items() if way.substitute}
    if first:  # beside anybody else a last resort only stands in, whatever it has
        last = {account: way._replace(substitute=True) for account, way in last.items()}
    first |= last
    serving: dict[AccountId, tuple[Serving, ...]] = {account: (way,) for account, way in first.items()}
    if policy.fallbacks:
        own = seats if bound is None or _exact(name, seats, policy) else _of(bound[1], seats)
        elsewhere = _bound_accounts(policy) - set(serving)
        own = [seat for seat in own if seat.id not in elsewhere]
        _add_fallbacks(serving, alike, bound[0] if bound else name, own, policy)
    return Target(asked, serving)


def _add_fallbacks(
    serving: dict[AccountId, tuple[Serving, ...]], alike: Set[AccountId], name: str, seats: list[Seat], policy: Policy
) -> None:
    """Behind what serves the name itself, what stands in for it, model by model.

    For a name that nobody offers any more that is first of all what took its place.

    alike  who serves another model of the same size beside those that have the model
    """
    served_as = dict.fromkeys(way.offer.model for ways in serving.values() for way in ways if not way.substitute)
    stand_ins = chain(name, policy.fallbacks, served_as)
    if closest(name, policy.own_rows) is not None:  # who says what stands in means it
        for account in alike:  # another of the same size comes behind it, and nobody where nobody shall
            ways = serving.pop(account)
            if stand_ins:
                serving[account] = tuple(way._replace(step=len(stand_ins) + 1) for way in ways)
    for step, model in enumerate(stand_ins if serving else (name, *stand_ins), start=1):
        for seat in seats:
            ways = serving.get(seat.id, ())
            offer = _stand_in(model, seat, policy)
            if offer is not None and all(way.offer.model != offer.model for way in ways):
                serving[seat.id] = (*ways, Serving(offer, step=step))
    for account, ways in serving.items():
        serving[account] = tuple(sorted(ways, key=lambda way: way.step))


def _stand_in(model: str, seat: Seat, policy: Policy) -> Offer | None:
    """What a seat has under a name of the chain: the very model, else what took its place there.

    A name that is bound to a provider stands for no other's, and for any model where that one takes every name.
    """
    offered = seat.offers.get(ModelId(model))
    if offered is not None:
        return offered
    if (bound := _bound(model, policy.providers)) is not None:
        model, provider = bound
        if provider != seat.provider:
            return None
        if seat.any or ModelId(model) in seat.offers:
            return seat.offers.get(ModelId(model)) or seat.serves.offer(ModelId(model))
    kin = nearest(model, (each for each, offer in seat.offers.items() if not offer.pictures))
    return seat.offers[ModelId(kin)] if kin is not None else None


def _named(wanted: _Wanted, asked: str, seats: list[Seat], policy: Policy) -> Ways:
    name, size = wanted.name, size_of(wanted.name)
    route = None if wanted.aliased or wanted.bound is not None else _route(name, size, policy)
    if wanted.bound is None:
        seats = _unbound(name, size, route, seats, policy)
    if route is not None and (found := _routed(name, size, route, seats, policy)):
        others = _any(name, seats, policy) | _exact(name, seats, policy) | _by_size(size, seats)
        return _with_others(found, others, policy)
    found = _exact(name, seats, policy)
    if not found and wanted.bound is not None and (bound := _bound(name, policy.providers)) is not None:
        model, own = bound[0], _of(bound[1], seats)
        if "*" in model and wanted.aliased:
            return _covered(model, size_of(asked), own)
        return _exact(model, own, policy) or _any(model, own, policy) or _by_size(size_of(model), own)
    if not found and "*" in name and wanted.aliased:
        return _covered(name, size_of(asked), seats)
    found = _any(name, seats, policy) | found
    if not found:
        return _by_size(size, seats)
    return _with_others(found, _by_size(size, seats), policy)


def _with_others(found: Ways, others: Ways, policy: Policy) -> Ways:
    """Who serves a name, and with `--fallback` who serves another of its size beside them."""
    if not policy.substitutes:
        return found
    return found | {who: way._replace(substitute=True) for who, way in others.items() if who not in found}


def _route(name: str, size: Size | None, policy: Policy) -> Route | None:
    """The operator's line for a size class; a name that is such a line's model belongs to it too."""
    named = next((route for route in policy.tiers.values() if route.model == name), None)
    return named or (policy.tiers.get(size) if size is not None else None)


def _bound_accounts(policy: Policy) -> set[AccountId]:
    """The accounts that are for a size class alone."""
    return {route.account for route in policy.tiers.values() if route.account is not None}


def _unbound(name: str, size: Size | None, route: Route | None, seats: list[Seat], policy: Policy) -> list[Seat]:
    """The seats without those that are for other size classes; a name of no class may be theirs by their list."""
    own = {each.account for each in (route, policy.tiers.get(size) if size is not None else None) if each is not None}
    others = _bound_accounts(policy) - own
    if not others:
        return seats
    return [seat for seat in seats if seat.id not in others or (size is None and ModelId(name) in seat.offers)]


def _routed(name: str, size: Size | None, route: Route, seats: list[Seat], policy: Policy) -> Ways:
    own = _of(route.provider, seats) if route.provider is not None else seats
    if route.account is not None:
        own = [seat for seat in own if seat.id == route.account]
    if route.model is None:
        return _exact(name, own, policy) or _any(name, own, policy) or _by_size(size, own)
    found = _exact(route.model, own, policy) or _any(route.model, own, policy)
    if found or route.account is None:
        return found
    return {seat.id: Serving(seat.serves.offer(ModelId(route.model))) for seat in own}


def _of(provider: ProviderName, seats: list[Seat]) -> list[Seat]:
    return [seat for seat in seats if seat.provider == provider]


def _bound(name: str, providers: Set[ProviderName]) -> tuple[str, ProviderName] | None:
    """`provider/model`, or the `anthropic/provider/model` it is listed as, to the model and the provider it names."""
    for spelled in (name.removeprefix(LISTED_AS_ANTHROPIC), name):
        head, slash, rest = spelled.partition("/")
        if slash and ProviderName(head) in providers:
            return rest, ProviderName(head)
    return None


def _listed(name: str, seats: list[Seat], policy: Policy) -> bool:
    bound = _bound(name, policy.providers)
    return bool(_exact(name, seats, policy)) or (
        bound is not None and bool(_exact(bound[0], _of(bound[1], seats), policy))
    )


def _exact(name: str, seats: list[Seat], policy: Policy) -> Ways:
    """The seats that list the name, or whose provider's own aliases map it to a model."""
    found: Ways = {}
    for seat in seats:
        offer = _own(name, seat, policy) or seat.offers.get(ModelId(name))
        if offer is not None:
            found[seat.id] = Serving(offer)
    return found


def _own(name: str, seat: Seat, policy: Policy) -> Offer | None:
    """What the aliases of the seat's own provider make of a name; a pattern is the nearest model that it covers."""
    aliases = policy.own_aliases.get(seat.provider)
    target = alias_of(name, _speaking_of(name, aliases, policy)) if aliases else None
    if target is None:
        return None
    if "*" in target:
        return _best_covered(target, size_of(name), seat)
    return seat.offers.get(ModelId(target)) or seat.serves.offer(ModelId(target))


def _speaking_of(name: str, aliases: Mapping[str, str], policy: Policy) -> Mapping[str, str]:
    """The aliases that may cover a name: of one that names its provider those alone that have a slash, too.

    `claude-*` is about models, and not about whatever is asked of `claude-subscription/`.
    """
    if _bound(name, policy.providers) is None:
        return aliases
    return {pattern: target for pattern, target in aliases.items() if "/" in pattern}


def _covered(pattern: str, size: Size | None, seats: list[Seat]) -> Ways:
    """The seats that have a model under a pattern that an alias led to."""
    offers = {seat.id: _best_covered(pattern, size, seat) for seat in seats}
    return {who: Serving(offer) for who, offer in offers.items() if offer is not None}


def _best_covered(pattern: str, size: Size | None, seat: Seat) -> Offer | None:
    """Of the models that a pattern covers, the one for the size class, else the first."""
    covered = [model for model in seat.offers if matches(model, pattern)]
    usual = seat.serves.sizes.get(size) if size is not None else None
    return seat.offers[usual if usual in covered else covered[0]] if covered else None


def _any(name: str, seats: list[Seat], policy: Policy) -> Ways:
    return {
        seat.id: Serving(_own(name, seat, policy) or seat.serves.offer(ModelId(name))) for seat in seats if seat.any
    }


def _by_size(size: Size | None, seats: list[Seat]) -> Ways:
    """The seats whose provider has a model for this size class and whose account has that model."""
    if size is None:
        return {}
    return {
        seat.id: Serving(seat.offers[model])
        for seat in seats
        if (model := seat.serves.sizes.get(size)) is not None and model in seat.offers
    }
