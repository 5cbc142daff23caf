"""What the client is told when nobody answered. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mcp_proxy.core.failure import Blame, Failure, error_type
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.report import stamp
from mcp_proxy.routing.facts import Decision, Reason, Refused, Seat

RETRIED_BY_CLIENTS_SECONDS = 60
"""Claude Code waits for a `retry-after` up to this; over it, it shows the message at once."""


USUAL = frozenset({"content-type", "retry-after", "x-should-retry"})
"""The headers that any refusal may bring."""


def unknown_model(asked: str, why: str = "") -> Failure:
    """Nobody serves this name; `why` is what an upstream said of it."""
    return Failure(Blame.REQUEST, 404, error_type(404), f"model: {asked}" + (f" ({why})" if why else ""))


def unserved(asked: str, pool: Sequence[Seat]) -> Failure:
    """Nobody serves this name: because nobody knows it, or because there is no usable account at all."""
    if any(seat.account.enabled and seat.account.invalid is None for seat in pool):
        return unknown_model(asked)
    return _no_account(asked, [])


def draining() -> Failure:
    """The server is going down; another will be up soon."""
    return Failure(
        Blame.PROVIDER,
        529,
        error_type(529),
        "The proxy is shutting down, try again in a moment",
        headers=(("retry-after", "1"),),
    )


ELSEWHERE = (Reason.NOT_SERVED, Reason.NO_LOGIN, Reason.NOT_LOCAL)
"""Why an account has nothing to say to this request: another model's, or another client's."""

LONGEST_WHY = 300
"""Characters of an upstream's words that are passed on beside ours."""


def nobody(asked: str, decision: Decision, failures: Mapping[AccountId, Failure], now: Instant) -> Failure:
    """The one failure that tells best why no account answered.

    In this order: no account is usable; all are exhausted; the request fits none; what the attempts met, or what was
    met before by who is left alone since: any overload, then any time-out, then 502.
    """
    serving = [refusal for refusal in decision.refused if refusal.reason not in ELSEWHERE]
    if not serving and not decision.candidates:
        absent = [refusal for refusal in decision.refused if refusal.reason is Reason.NOT_SERVED]
        why = next((refusal.detail for refusal in absent if refusal.detail), "")
        withheld = [refusal for refusal in decision.refused if refusal not in absent]
        if withheld and not why and not failures:
            return _no_account(asked, withheld)
        return next(iter(failures.values()), unknown_model(asked, why))
    usable = [refusal for refusal in serving if refusal.reason not in (Reason.DISABLED, Reason.INVALID, Reason.UNPAID)]
    unpaid = next((refusal for refusal in serving if refusal.reason is Reason.UNPAID), None)
    if not usable and not decision.candidates:
        shut = [refusal for refusal in decision.refused if refusal.reason in (Reason.NO_LOGIN, Reason.NOT_LOCAL)]
        return _no_account(asked, [*serving, *shut]) if unpaid is None else _unpaid(unpaid)
    open_still = [refusal for refusal in usable if not _is_limit(refusal)]
    fitting = [refusal for refusal in open_still if refusal.reason is not Reason.TOO_SMALL]
    if not fitting and not decision.candidates and decision.retry_at is not None:
        first = min(usable, key=lambda refusal: refusal.until or Instant(math.inf))
        told = exhausted(asked, decision.retry_at, now, first.detail)
        # what it said of its windows besides goes with it: the client shows them to the one whose windows they are
        own = failures[first.account].headers if first.account in failures else ()
        return replace(told, headers=(*told.headers, *(pair for pair in own if pair[0] not in USUAL)))
    met = [failures[refusal.account] for refusal in open_still if refusal.account in failures]
    met += [failures[candidate.account] for candidate in decision.candidates if candidate.account in failures]
    if met:
        return _worst(met)
    broken = [refusal for refusal in open_still if refusal.reason in (Reason.BREAKER, Reason.PROBING)]
    if broken and not decision.candidates and decision.retry_at is not None:
        return _unwell(asked, broken, decision.retry_at, now)
    too_small = next((refusal for refusal in open_still if refusal.reason is Reason.TOO_SMALL), None)
    if too_small is not None:
        return Failure(Blame.REQUEST, 400, error_type(400), f"prompt is too long: {too_small.detail} maximum")
    return Failure(Blame.PROVIDER, 502, error_type(502), f"no account could answer for {asked}")


def _is_limit(refusal: Refused) -> bool:
    """Whether a limit is what refuses, or a window that one request tries now."""
    return refusal.reason is Reason.LIMITED or (refusal.reason is Reason.PROBING and refusal.status is None)


def _unwell(asked: str, broken: Sequence[Refused], retry_at: Instant, now: Instant) -> Failure:
    """Whoever could serve has failed again and again and is left alone for now: with what, and when that ends."""
    told = {refusal.status: refusal.detail for refusal in broken if refusal.status is not None}
    status = next((status for status in (529, 504) if status in told), 502)
    seconds = max(1, math.ceil(retry_at - now))
    why = told.get(status) or next(iter(told.values()), broken[0].detail)
    message = f"every account for {asked} is unwell, the next is tried in {_span(seconds)} ({why[:LONGEST_WHY]})"
    return Failure(Blame.PROVIDER, status, error_type(status), message, headers=(("retry-after", str(seconds)),))


def _no_account(asked: str, serving: Sequence[Refused]) -> Failure:
    why = next((f" ({refusal.detail})" for refusal in serving if refusal.detail), "")
    message = f"no account for {asked} is enabled and valid{why}: see `proxy accounts list`"
    return Failure(Blame.CONFIG, 503, error_type(503), message, headers=(("x-should-retry", "false"),))


def _unpaid(refusal: Refused) -> Failure:
    return Failure(Blame.ACCOUNT, 402, error_type(402), refusal.detail, headers=(("x-should-retry", "false"),))


def exhausted(asked: str, retry_at: Instant, now: Instant, why: str = "") -> Failure:
    """Every account is closed: until when, truthfully, in whole seconds and never too early.

    why  what the upstream of the one that opens first said: it need not be a limit of its rate
    """
    seconds = max(1, math.ceil(retry_at - now))
    reset = stamp(Instant(math.ceil(retry_at)))
    message = (
        f"RESOURCE_EXHAUSTED: every account for {asked} is rate limited; "
        f"the earliest reset is at {reset}, in {_span(seconds)}" + (f" ({why[:LONGEST_WHY]})" if why else "")
    )
    headers = [("retry-after", str(seconds))]
    if seconds > RETRIED_BY_CLIENTS_SECONDS:
        headers.append(("x-should-retry", "false"))
    return Failure(Blame.ACCOUNT, 429, error_type(429), message, retry_at=retry_at, headers=tuple(headers))


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _worst(failures: Sequence[Failure]) -> Failure:
    for status in (529, 504):
        if found := next((failure for failure in failures if failure.status == status), None):
            return found
    last = failures[-1]
    if last.blame in (Blame.REQUEST, Blame.MODEL):
        return last
    return Failure(last.blame, 502, error_type(502), last.message)
