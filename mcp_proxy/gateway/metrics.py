"""What has happened since the start, counted, and how things are, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mcp_proxy.core.ids import AccountId, stored_id
from mcp_proxy.core.time import Instant
from mcp_proxy.core.usage import Usage
from mcp_proxy.gateway.record import Attempt
from mcp_proxy.routing.breaker import State, state
from mcp_proxy.routing.facts import Seat
from mcp_proxy.routing.windows import closed_by, left

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

KINDS = ("input", "cache_read", "cache_write", "output")


class Counters:
    """What every exchange adds to at its end. Bounded: by outcomes, accounts and kinds of tokens.

    Callers with logins of their own are one: with each renewal there is another login.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.tokens: Counter[tuple[str, str]] = Counter()

    def add(self, outcome: str, attempts: Sequence[Attempt], usage: Usage | None, caller: str = "") -> None:
        """One exchange is over.

        usage   of its answer, which the last attempt gave
        caller  whose own seats were asked: they count as the accounts that they are made of
        """
        self.requests[outcome] += 1
        for attempt in attempts:
            failure = attempt.failure
            self.attempts[
                stored_id(attempt.candidate.account, caller), failure.blame.value if failure is not None else "answered"
            ] += 1
        if usage is not None and attempts:
            account = stored_id(attempts[-1].candidate.account, caller)
            for kind in KINDS:
                self.tokens[account, kind] += getattr(usage, kind)


def exposition(counters: Counters, seats: Sequence[Seat], now: Instant, callers: Sequence[Seat] = ()) -> str:
    """The document. Accounts are named by provider and id, never by their labels.

    callers  callers' own seats: too many to be told one by one, in flight they count as their account's
    """
    busy = Counter({seat.id: seat.in_flight for seat in seats})
    for own in callers:
        busy[own.stored] += own.in_flight
    names = {str(seat.id): f"{seat.provider}/{seat.id}" for seat in seats}
    return "".join(f"{line}\n" for line in (*_counted(counters, names), *_gauges(seats, busy, now)))


def _counted(counters: Counters, names: Mapping[str, str]) -> Iterator[str]:
    yield from _family(
        "requests_total", "counter", "Requests for a message that have ended, by outcome.",
        (({"outcome": outcome}, count) for outcome, count in sorted(counters.requests.items())),
    )  # fmt: skip
    yield from _family(
        "attempts_total", "counter", "Requests to upstreams, by account and by what came of them.",
        (({"account": names.get(who, who), "outcome": how}, n) for (who, how), n in sorted(counters.attempts.items())),
    )  # fmt: skip
    yield from _family(
        "tokens_total", "counter", "Tokens of answers, by account and kind.",
        (({"account": names.get(who, who), "kind": kind}, n) for (who, kind), n in sorted(counters.tokens.items())),
    )  # fmt: skip


def _gauges(seats: Sequence[Seat], busy: Mapping[AccountId, int], now: Instant) -> Iterator[str]:
    yield from _family(
        "in_flight", "gauge", "Requests in flight, by account.",
        (({"account": _name(seat)}, busy[seat.id]) for seat in seats),
    )  # fmt: skip
    yield from _family(
        "account_usable", "gauge", "Whether an account is enabled and its credential accepted.",
        (({"account": _name(seat)}, int(seat.account.enabled and seat.account.invalid is None)) for seat in seats),
    )  # fmt: skip
    yield from _family(
        "models_limited", "gauge", "Models of an account that a limit keeps closed now.",
        (({"account": _name(seat)}, _limited(seat, now)) for seat in seats),
    )  # fmt: skip
    yield from _family(
        "window_left_ratio", "gauge", "What is left of a window, 0 to 1; absent where it is unknown.",
        (
            ({"account": _name(seat), "window": bucket.name}, fraction)
            for seat in seats
            for bucket, quota in seat.quotas.items()
            if (fraction := left(quota, now)) is not None
        ),
    )  # fmt: skip
    yield from _family("breaker_state", "gauge", "1 for the state that a breaker is in.", _breakers(seats, now))


def _limited(seat: Seat, now: Instant) -> int:
    return sum(closed_by(seat, offer, now) is not None for offer in seat.offers.values())


def _breakers(seats: Sequence[Seat], now: Instant) -> Iterator[tuple[dict[str, str], float]]:
    found = {("account", _name(seat)): seat.breaker for seat in seats}
    found |= {("upstream", seat.upstream): seat.address for seat in seats if seat.upstream}
    for (kind, name), breaker in found.items():
        at = state(breaker, now)
        for each in State:
            yield {"of": kind, "name": name, "state": each.value}, int(each is at)


def _name(seat: Seat) -> str:
    return f"{seat.provider}/{seat.id}"


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP mcp_proxy_{name} {about}"
    yield f"# TYPE mcp_proxy_{name} {kind}"
    for labels, value in samples:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield (
            f"mcp_proxy_{name}{{{told}}} {value:g}"
            if isinstance(value, float)
            else f"mcp_proxy_{name}{{{told}}} {value}"
        )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
