"""What is known of the accounts, as the documents that `/account-limits`, `/health` and `/v1/models` answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.ids import AccountId, ModelId
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import Kind
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.breaker import State, state
from mcp_proxy.routing.decide import put_back
from mcp_proxy.routing.facts import Policy, Seat, Target
from mcp_proxy.routing.names import LISTED_AS_ANTHROPIC
from mcp_proxy.routing.windows import closed_by, is_soft, left, lowest, windows

STATUSES = ("ok", "soft_limited", "rate_limited", "invalid", "disabled", "unknown")
EPOCH = "1970-01-01T00:00:00Z"
"""`created_at` of a model whose date is not known (Anthropic, "Models": an epoch value may stand for that)."""


def stamp(moment: Instant | None) -> str | None:
    """A moment as RFC 3339 in UTC, whole seconds; None where there is none."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CALLERS_SHOWN = 20
"""Of an account that callers use with logins of their own, so many are told of, the last that asked first."""


def limits(seats: tuple[Seat, ...], policy: Policy, now: Instant, callers: tuple[Seat, ...] = ()) -> dict[str, Any]:
    """The `/account-limits` document (contract §4).

    callers  the seats of callers with a login of their own, last used last
    """
    accounts = [account_limits(seat, policy, now, _own(seat, callers)) for seat in seats]
    counts = {status: sum(account["status"] == status for account in accounts) for status in STATUSES}
    return {
        "schema_version": 1,
        "timestamp": stamp(now),
        "totals": {
            "accounts": len(accounts),
            "available": counts["ok"] + counts["soft_limited"] + counts["unknown"],
            "rate_limited": counts["rate_limited"],
            "soft_limited": counts["soft_limited"],
            "invalid": counts["invalid"],
            "disabled": counts["disabled"],
            "unknown": counts["unknown"],
        },
        "models": sorted({model for account in accounts for model in account["limits"]}),
        "accounts": accounts,
    }


def _own(seat: Seat, callers: tuple[Seat, ...]) -> tuple[Seat, ...]:
    """The seats that callers have of an account, last used first."""
    return tuple(own for own in reversed(callers) if own.stored == seat.id) if seat.caller == "" else ()


def account_limits(seat: Seat, policy: Policy, now: Instant, callers: tuple[Seat, ...] = ()) -> dict[str, Any]:
    """One account of that document; where its callers have logins of their own, what each of them has left."""
    account = seat.account
    told = {"callers": [_caller(own, policy, now) for own in callers[:CALLERS_SHOWN]]} if seat.caller == "" else {}
    return {
        "id": account.id,
        "provider": account.provider,
        "label": account.label,
        "status": status(seat, policy, now, callers),
        "tier": seat.tier,
        "last_used": stamp(seat.last_used),
        "error": account.invalid,
        "breaker": breaker_of(seat.breaker, now),
        "upstream": seat.upstream or None,
        "probation": put_back(seat, now),
        "limits": {
            f"{account.provider}/{model}": model_limits(seat, offer, policy, now)
            for model, offer in seat.offers.items()
            if not is_absent(seat, offer, now)
        },
        **told,
    }


def _caller(own: Seat, policy: Policy, now: Instant) -> dict[str, Any]:
    """A caller by the name we gave it, which tells nothing of its login, and its windows."""
    return {
        "caller": own.caller,
        "status": status(own, policy, now),
        "last_used": stamp(own.last_used),
        "windows": [
            {"name": bucket.name, "remaining_fraction": left(quota, now), "resets_at": stamp(quota.resets)}
            for bucket, quota in own.quotas.items()
        ],
    }


def breaker_of(breaker: Breaker, now: Instant) -> dict[str, Any]:
    """Where a breaker stands. `since`: its last change; `until`: when an open one lets one request try."""
    at = state(breaker, now)
    sound = not breaker.failures
    return {
        "state": at.value,
        "since": None if sound else stamp(breaker.at),
        "until": stamp(breaker.until) if at is State.OPEN else None,
        "failures": breaker.failures,
        "error": None if sound else breaker.why,
    }


def upstreams(seats: tuple[Seat, ...], now: Instant) -> list[dict[str, Any]]:
    """Every provider at every address once, with its breaker and the accounts that share it."""
    shared: dict[str, list[Seat]] = {}
    for seat in seats:
        if seat.upstream:
            shared.setdefault(seat.upstream, []).append(seat)
    return [
        {"name": name, "accounts": [seat.id for seat in held], **breaker_of(held[0].address, now)}
        for name, held in sorted(shared.items())
    ]


def is_out(seat: Seat, now: Instant) -> bool:
    """Whether an account is not asked because it, or its upstream, has failed again and again."""
    return any(state(each, now) in (State.OPEN, State.HALF_OPEN) for each in (seat.breaker, seat.address))


def resets(seats: Sequence[Seat], forgotten: Mapping[AccountId, list[str]]) -> dict[str, Any]:
    """The `/reset` document: what was forgotten of each account."""
    return {
        "schema_version": 1,
        "reset": [
            {
                "id": seat.id,
                "provider": seat.provider,
                "label": seat.account.label,
                "forgotten": forgotten.get(seat.id, []),
            }
            for seat in seats
        ],
    }


def model_limits(seat: Seat, offer: Offer, policy: Policy, now: Instant) -> dict[str, Any]:
    """One model of one account: what can be used of it now, so 0 while it is closed, whatever its windows hold.

    An unknown fraction is null and "?", not 0 and not full.
    """
    closed = closed_by(seat, offer, now)
    low = lowest(seat, offer, now)
    fraction = left(low, now) if closed is None else 0.0
    resets = closed.until if closed is not None else low.resets if low is not None else None
    return {
        "remaining": "?" if fraction is None else f"{round(fraction * 100)}%",
        "remaining_fraction": fraction,
        "resets_at": stamp(resets),
        "limited_until": stamp(closed.until) if closed is not None else None,
        "limited_by": closed.why if closed is not None else None,
        "soft_limited": is_soft(seat, offer, policy, now),
        "windows": [
            {
                "name": bucket.name,
                "remaining_fraction": left(quota, now),
                "resets_at": stamp(quota.resets) if quota is not None and left(quota, now) is not None else None,
            }
            for bucket, quota in windows(seat, offer)
        ],
    }


def is_absent(seat: Seat, offer: Offer, now: Instant) -> bool:
    """Whether the account is known not to have this model."""
    closed = closed_by(seat, offer, now)
    return closed is not None and closed.bucket.kind is Kind.ABSENCE


def status(seat: Seat, policy: Policy, now: Instant, callers: tuple[Seat, ...] = ()) -> str:
    """The best over its models: ok, soft_limited, rate_limited; before that disabled, invalid, unknown.

    Of an account that is used with its callers' logins, the best over its callers.
    """
    account = seat.account
    if not account.enabled:
        return "disabled"
    if account.invalid is not None:
        return "invalid"
    if callers:
        return min((status(own, policy, now) for own in callers), key=STATUSES.index)
    ours = {budget.bucket for budget in seat.budgets}
    if seat.last_used is None and seat.quotas.keys() <= ours and not seat.closed:
        return "unknown"
    # one that serves every id lists none: it is closed where any id would be
    served = tuple(seat.offers.values()) or (seat.serves.offer(ModelId("")),)
    offers = [offer for offer in served if not is_absent(seat, offer, now)]
    open_offers = [offer for offer in offers if closed_by(seat, offer, now) is None]
    if offers and not open_offers:
        return "rate_limited"
    soft = [is_soft(seat, offer, policy, now) for offer in open_offers]
    return "soft_limited" if soft and all(soft) else "ok"


def health(
    seats: tuple[Seat, ...], policy: Policy, now: Instant, *, draining: bool, callers: tuple[Seat, ...] = ()
) -> str:
    """ok: every account that is switched on can serve; degraded: some can; down: none is enabled and valid."""
    states = [status(seat, policy, now, _own(seat, callers)) for seat in seats if seat.account.enabled]
    valid = [each for each in states if each != "invalid"]
    if draining or not valid:
        return "down"
    good = all(each in ("ok", "unknown", "soft_limited") for each in states)
    out = any(is_out(seat, now) for seat in seats if seat.account.enabled)
    return "ok" if good and not out else "degraded"


def models(
    seats: tuple[Seat, ...],
    policy: Policy,
    now: Instant,
    *,
    for_claude: bool,
    resolved: Callable[[str], Target] | None = None,
) -> list[dict[str, Any]]:
    """Entries of `/v1/models`, sorted by id: what enabled accounts serve by name, and aliases without a pattern.

    for_claude  also list what Claude Code would hide under `anthropic/<provider>/<id>`
    resolved    who serves a name, where that is not simply who lists it: with aliases and lines for size classes
    """
    serving: dict[str, list[tuple[Seat, Offer]]] = {}
    for seat in seats:
        if not seat.account.enabled or seat.account.invalid is not None:
            continue
        for model, offer in seat.offers.items():
            if is_absent(seat, offer, now):
                continue
            serving.setdefault(model, []).append((seat, offer))
            if for_claude and not _shown(model):
                serving.setdefault(f"{LISTED_AS_ANTHROPIC}{seat.provider}/{model}", []).append((seat, offer))
    if resolved is not None:
        usable = {seat.id: seat for seat in seats if seat.account.enabled and seat.account.invalid is None}
        aliases = [alias for table in (policy.aliases, *policy.own_aliases.values()) for alias in table]
        names = {*serving, *(alias for alias in aliases if "*" not in alias)}
        serving = {name: _by_target(resolved(name), usable, now) for name in names}
    return [_entry(name, held, policy, now) for name, held in sorted(serving.items()) if held]


def _by_target(target: Target, seats: Mapping[AccountId, Seat], now: Instant) -> list[tuple[Seat, Offer]]:
    """The seats that serve a name itself, and by which model; those that only stand in where nobody else does."""
    ways = [
        (seats[account], way)
        for account, all_ways in target.serving.items()
        if account in seats and not (way := all_ways[0]).step and not is_absent(seats[account], way.offer, now)
    ]
    first = [(seat, way.offer) for seat, way in ways if not way.substitute]
    return first or [(seat, way.offer) for seat, way in ways]


def _shown(model: str) -> bool:
    return "claude" in model or "anthropic" in model


def _entry(name: str, held: list[tuple[Seat, Offer]], policy: Policy, now: Instant) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "model",
        "id": name,
        "display_name": next((offer.display_name for _, offer in held if offer.display_name), name),
        "created_at": EPOCH,
    }
    entry["served_by"] = [f"{seat.provider}/{seat.id}" for seat, _ in held]
    told = [model_limits(seat, offer, policy, now) for seat, offer in held]
    known = [(fraction, each["resets_at"]) for each in told if (fraction := each["remaining_fraction"]) is not None]
    # beside an account of which nothing is known, one that is used up is not the best: unknown is not empty
    if known and (len(known) == len(told) or any(fraction > 0.0 for fraction, _ in known)):
        fraction, resets = max(known, key=lambda pair: pair[0])
        entry["quota"] = {"remaining_fraction": fraction, "resets_at": resets}
    return entry
