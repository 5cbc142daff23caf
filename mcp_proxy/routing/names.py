"""From the model name a client writes to the accounts that serve it (contract §4, "Who serves a model name")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from fnmatch import fnmatchcase

from mcp_proxy.core.ids import AccountId, ModelId, ProviderName
from mcp_proxy.core.provider import Size
from mcp_proxy.routing.facts import Policy, Seat, Serving, Target

LISTED_AS_ANTHROPIC = "anthropic/"
"""Claude Code shows only names with `claude` or `anthropic`: others are listed under this prefix."""

LONG_CONTEXT = re.compile(r"\[\d+[km]\]$")
"""The mark Claude Code writes behind a name; it cuts it off itself before sending, other clients may not."""


def size_of(name: str) -> Size | None:
    """The size class a name belongs to: the first of Claude's that it contains."""
    lowered = name.lower()
    return next((size for size in Size if size.value in lowered), None)


def alias_of(name: str, aliases: Mapping[str, str]) -> str | None:
    """What the operator's most specific alias makes of a name: the pattern with most literal letters wins."""
    matching = [pattern for pattern in aliases if pattern == name or fnmatchcase(name, _literal_brackets(pattern))]
    return aliases[max(matching, key=lambda pattern: (len(pattern.replace("*", "")), pattern))] if matching else None


def _literal_brackets(pattern: str) -> str:
    """`*` is the only wildcard: `?` and `[1m]` in a model name mean themselves."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def resolve(asked: str, pool: Iterable[Seat], policy: Policy) -> Target:
    """Who serves `asked`, and as what.

    Disabled accounts serve nothing; an account whose credential is refused still does, so that a refused
    key is told as such and does not quietly move its owner to another family of models.
    """
    seats = [seat for seat in pool if seat.account.enabled]
    providers = policy.providers
    alias = alias_of(asked, policy.aliases)
    if alias is None:
        alias = alias_of(unmarked(asked), policy.aliases)
    name = asked if alias is None else alias
    if not _listed(name, seats, providers):
        name = unmarked(name)
    return Target(asked, _named(name, seats, providers, policy, aliased=alias is not None))


def unmarked(name: str) -> str:
    """A name without the mark of a long context, which is part of it only where somebody lists it so."""
    return LONG_CONTEXT.sub("", name)


def _named(
    name: str, seats: list[Seat], providers: Set[ProviderName], policy: Policy, *, aliased: bool
) -> dict[AccountId, Serving]:
    size, bound = size_of(name), _bound(name, providers)
    if size is not None and bound is None and not aliased and (provider := policy.tiers.get(size)) is not None:
        own = _of(provider, seats)
        if found := _exact(name, own) or _by_size(size, own):
            return found
    found = _exact(name, seats)
    if not found and bound is not None:
        model, own = bound[0], _of(bound[1], seats)
        return _exact(model, own) or _any(model, own) or _by_size(size_of(model), own)
    found = _any(name, seats) | found
    if not found:
        return _by_size(size, seats)
    return found | (_by_size(size, seats, beside=found) if policy.substitutes else {})


def _of(provider: ProviderName, seats: list[Seat]) -> list[Seat]:
    return [seat for seat in seats if seat.provider == provider]


def _bound(name: str, providers: Set[ProviderName]) -> tuple[str, ProviderName] | None:
    """`provider/model`, or the `anthropic/provider/model` it is listed as, to the model and the provider it names."""
    for spelled in (name.removeprefix(LISTED_AS_ANTHROPIC), name):
        head, slash, rest = spelled.partition("/")
        if slash and ProviderName(head) in providers:
            return rest, ProviderName(head)
    return None


def _listed(name: str, seats: list[Seat], providers: Set[ProviderName]) -> bool:
    bound = _bound(name, providers)
    return bool(_exact(name, seats)) or (bound is not None and bool(_exact(bound[0], _of(bound[1], seats))))


def _exact(name: str, seats: list[Seat]) -> dict[AccountId, Serving]:
    model = ModelId(name)
    return {seat.id: Serving(seat.offers[model]) for seat in seats if model in seat.offers}


def _any(name: str, seats: list[Seat]) -> dict[AccountId, Serving]:
    return {seat.id: Serving(seat.serves.offer(ModelId(name))) for seat in seats if seat.any}


def _by_size(
    size: Size | None, seats: list[Seat], beside: Mapping[AccountId, Serving] | None = None
) -> dict[AccountId, Serving]:
    """The seats whose provider has a model for this size class and whose account has that model.

    They are stand-ins only `beside` others that serve the very name.
    """
    if size is None:
        return {}
    return {
        seat.id: Serving(seat.offers[model], substitute=beside is not None)
        for seat in seats
        if (model := seat.serves.sizes.get(size)) is not None and model in seat.offers
        if beside is None or seat.id not in beside
    }
