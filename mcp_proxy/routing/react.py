"""What an outcome teaches: a refusal, a success, or the headers of either, as changes to the pool."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, Used
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import AccountId, Conversation
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import ACCOUNT, BILLING, Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant, after
from mcp_proxy.routing.facts import Facts, Seat

BACKOFF_SECONDS = (5.0, 15.0, 60.0, 300.0, 900.0)
"""How long a bucket stays closed whose upstream does not say until when: by how often that happened in a row."""

AGAIN_SECONDS = 10.0
"""A refusal this soon after the moment its upstream had named says that the moment was wrong."""

LONGEST_DOUBT_SECONDS = 60.0
"""How long such an upstream is left alone at most, whatever short moments it goes on to name."""

UNPAID_SECONDS = 600.0
"""How long an account that cannot pay is left alone: its owner may have paid by then."""

LONGEST_LIMIT_SECONDS = 32 * 86_400.0
"""No limit lasts longer than a month and a day: what says so is a mistake of units."""

LONGEST_RATE_SECONDS = 86_400.0
"""A rate is open again within a day, whatever the upstream's clock says."""

SICK = frozenset({500, 502, 504})
"""The statuses with which an address says that it is broken, whoever asks."""

LONGEST_WHY = 200
"""Characters of a failure's message that are remembered."""

WARM_SECONDS = 300.0
WARM_HOUR_SECONDS = 3600.0
"""How long a prompt cache lives after its last use: five minutes, an hour where `ttl: "1h"` is asked for."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an outcome teaches.

    changes   for the pool and its store
    invalid   why the account's credential is refused for good; None if it is not
    stumbled  True where its upstream failed to answer, False where it answered, None where that is unknown
    sick      the same of the address for all its accounts
    whole     whether what answered has ended; False: an answer has only begun, and may yet be cut short
    status    what it failed with, as the client would be told, and why: for people
    """

    changes: tuple[Change, ...] = ()
    invalid: str | None = None
    stumbled: bool | None = None
    sick: bool | None = None
    whole: bool = True
    status: int = 502
    why: str = ""


def moves_on(failure: Failure, failover_on: Set[int]) -> bool:
    """Whether the next account is asked after a failure; else it goes back to the client as it came.

    The operator's list of statuses decides what a status alone tells: an upstream's own trouble, a rate that was too
    high, and the client's mistakes, which no other account takes for anything else unless the list says so. A quota
    that is used up, a credential or a model that is refused and trouble on the way are never the end of it.
    """
    match failure.blame:
        case Blame.REQUEST:
            # a 429 of this kind says that the request asks for more than was booked, not that it came too soon, and a
            # 401 that the client's own login is to be renewed, which it would not hear of
            return failure.status in failover_on and failure.status < 500 and failure.status not in (401, 429)
        case Blame.PROVIDER if failure.status >= 500:
            return failure.status in failover_on
        case Blame.ACCOUNT if failure.limit is not None and failure.limit not in (ACCOUNT, BILLING):
            return failure.limit.kind is not Kind.RATE or failure.status in failover_on
    return True


def on_failure(failure: Failure, seat: Seat, now: Instant) -> Lesson:
    """What a refusal teaches about the account that was asked. Its scope is what the upstream said, never wider.

    The client's own mistakes teach nothing.
    """
    if failure.limit is not None:
        return Lesson((_closing(failure, seat, now),), stumbled=False, sick=False)
    if failure.blame in (Blame.ACCOUNT, Blame.TOKEN):
        return Lesson(invalid=failure.message, stumbled=False, sick=False)
    if failure.blame is Blame.NETWORK and failure.status == 529:
        return Lesson()  # it is we who have no room for a connection
    if failure.blame in (Blame.PROVIDER, Blame.NETWORK, Blame.CONFIG):
        # an upstream's own words may quote what was asked, and this is told to whoever asks next
        why = f"HTTP {failure.status}" if failure.blame is Blame.PROVIDER else failure.message[:LONGEST_WHY]
        return Lesson(stumbled=True, sick=_sick(failure), status=failure.status, why=why)
    return Lesson()


def _sick(failure: Failure) -> bool | None:
    """Whether a failure says that the address is sick, for all its accounts; None where it says nothing of it.

    Nobody got through to it, or it broke down. An overload does not: it is of one model, or of one account's share,
    and the others are served beside it (Anthropic, "Errors": 529; Google says 429 and 503 of a model without capacity).
    Nor does what we or the operator set wrongly, which may be one account's own.
    """
    if failure.blame is Blame.NETWORK:
        return True
    if failure.blame is Blame.PROVIDER and failure.status in SICK:
        return True
    return None


def _closing(failure: Failure, seat: Seat, now: Instant) -> Limited:
    bucket = failure.limit
    if bucket is None:
        raise ValueError("only a failure with a limit closes a bucket")
    if failure.retry_at is not None and failure.retry_at > now:  # a moment that is over closes nothing
        longest = LONGEST_RATE_SECONDS if bucket.kind is Kind.RATE and bucket != ACCOUNT else LONGEST_LIMIT_SECONDS
        until = Instant(max(min(failure.retry_at, now + longest), _doubted(seat, bucket, now)))
        return Limited(seat.id, RateLimit(bucket, until, failure.message, now))
    if bucket == BILLING:
        return Limited(seat.id, RateLimit(bucket, after(now, UNPAID_SECONDS), failure.message, now))
    held = seat.closed.get(bucket)
    strikes = held.strikes if held is not None else 0
    if held is None or held.limit.until <= now or not strikes:
        strikes += 1  # not for one that was asked before the bucket closed: a crowd refused at once is one strike
    until = after(now, BACKOFF_SECONDS[min(strikes, len(BACKOFF_SECONDS)) - 1])
    if held is not None and held.limit.until > until:
        # our guess neither shortens what an upstream said, nor makes a guess of it
        return Limited(seat.id, RateLimit(bucket, held.limit.until, failure.message, now), held.strikes)
    return Limited(seat.id, RateLimit(bucket, until, failure.message, now), strikes)


def _doubted(seat: Seat, bucket: Bucket, now: Instant) -> Instant:
    """The soonest moment to believe in: after one that was wrong and no answer since, twice as far ahead.

    An upstream that says "in half a second" each time would else be asked twice a second by whoever waits.
    """
    held = seat.closed.get(bucket)
    if held is None or held.strikes or not held.limit.until <= now <= held.limit.until + AGAIN_SECONDS:
        return now
    if seat.last_used is not None and seat.last_used >= held.limit.read_at:
        return now
    return after(now, min(2 * (held.limit.until - held.limit.read_at), LONGEST_DOUBT_SECONDS))


def on_answer(facts: Facts, seat: Seat, offer: Offer, asked_at: Instant, now: Instant) -> Lesson:
    """What an answer teaches: its cache is warm here, and buckets we only guessed to be closed are open.

    asked_at  when the attempt began: a refusal that was read since then still stands
    """
    conversation = Conversation(facts.session, facts.agent, offer.model)
    warm = WARM_HOUR_SECONDS if facts.hour_cache else WARM_SECONDS
    opened = tuple(
        Limited(seat.id, RateLimit(bucket, asked_at, "answered since", asked_at))
        for bucket in (*offer.buckets, *(budget.bucket for budget in seat.budgets))
        if (held := seat.closed.get(bucket)) is not None and held.strikes and held.limit.read_at < asked_at
    )
    changes: tuple[Change, ...] = (*opened, Used(seat.id, now), Served(conversation, seat.id, now, after(now, warm)))
    return Lesson(changes, stumbled=False, sick=False, whole=not facts.stream)


def on_quotas(account: AccountId, quotas: Iterable[Quota]) -> tuple[Change, ...]:
    """What a reading of an account's quotas teaches. A reset that no window can have is none."""
    return tuple(QuotaRead(account, _believed(quota)) for quota in quotas)


def _believed(quota: Quota) -> Quota:
    if quota.resets is None or quota.resets <= quota.read_at + LONGEST_LIMIT_SECONDS:
        return quota
    return replace(quota, resets=None)
