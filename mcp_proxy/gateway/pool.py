"""The seats: the one place that changes them, always between two awaits."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, Used
from mcp_proxy.core.ids import AccountId, Conversation, ModelId
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.facts import Closed, Seat
from mcp_proxy.routing.react import Lesson
from mcp_proxy.state.worth import order

MAX_CONVERSATIONS = 10_000
MAX_CALLERS = 1000
"""Seats of callers with a login of their own; the least recently used leave, but for those in use."""


class Pool:
    """Every account as the router sees it, and where each conversation is warm.

    record   is told every change that should outlive the process
    version  grows when accounts or what they serve change, so that what is derived from them can be cached
    """

    def __init__(self, record: Callable[[Change], None] = lambda change: None) -> None:
        self._record = record
        self._seats: dict[AccountId, Seat] = {}
        self._own: OrderedDict[AccountId, Seat] = OrderedDict()
        self._warm: OrderedDict[Conversation, Served] = OrderedDict()
        self._snapshot: tuple[Seat, ...] | None = ()
        self.version = 0

    @property
    def seats(self) -> tuple[Seat, ...]:
        """A seat for every account, as it is now; where callers have their own, the one those are made of."""
        if self._snapshot is None:
            self._snapshot = tuple(self._seats.values())
        return self._snapshot

    def seat(self, account: AccountId) -> Seat | None:
        """One account's seat, or a caller's own; None once the account is gone."""
        return self._seats.get(account) or self._own.get(account)

    def of(self, caller: str) -> tuple[Seat, ...]:
        """The seats for this caller's request: its own wherever an account is asked with its caller's login.

        caller  what it is called; empty: it has no login, and such an account is there to be refused
        """
        if not caller:
            return self.seats
        return tuple(seat if seat.caller is None else self._of(caller, seat) for seat in self.seats)

    @property
    def callers(self) -> tuple[Seat, ...]:
        """The seats of callers with a login of their own, least recently used first."""
        return tuple(self._own.values())

    def _of(self, caller: str, seat: Seat) -> Seat:
        """A caller's own seat of an account, made where there is none yet."""
        account = AccountId(f"{seat.id}@{caller}")
        if account not in self._own:
            self._make_room()
            self._own[account] = _for_caller(caller, seat)
        self._own.move_to_end(account)
        return self._own[account]

    def _make_room(self) -> None:
        surplus = len(self._own) + 1 - MAX_CALLERS
        if surplus > 0:
            for account in [each.id for each in self._own.values() if not each.in_flight][:surplus]:
                del self._own[account]

    def _recall(self, account: AccountId) -> None:
        """Make the seat of a caller that an earlier process learnt something about."""
        stored, _, caller = account.rpartition("@")
        seat = self._seats.get(AccountId(stored))
        if seat is not None and seat.caller == "" and caller:
            self._of(caller, seat)

    def replace_all(self, seats: Iterable[Seat]) -> None:
        """Take over another set of accounts; what is known of those that stay is kept."""
        kept: dict[AccountId, Seat] = {}
        for seat in seats:
            known = self._seats.get(seat.id)
            kept[seat.id] = seat if known is None else _with_knowledge(seat, known)
        self._seats = kept
        self._own = OrderedDict(
            (account, _with_knowledge(_for_caller(own.caller, made_of), own))
            for account, own in self._own.items()
            if (made_of := kept.get(own.stored)) is not None and made_of.caller == ""
        )
        self._snapshot = None
        self.version += 1

    def restore(self, changes: Iterable[Change]) -> None:
        """Take over what an earlier process learnt, without recording it again."""
        for change in changes:
            if isinstance(change, QuotaRead | Limited):
                self._recall(change.account)
            self._apply(change)

    def apply(self, changes: Iterable[Change]) -> None:
        """Learn. Of two changes about one thing the later reading holds, whatever order they come in.

        Of two as late the same one holds as in the store, or what a restart brings back would differ.
        """
        for change in changes:
            if isinstance(change, Used) and (own := self._own.get(change.account)) is not None:
                self._apply(change)
                change = Used(own.stored, change.at)  # callers come and go; when an account was used is kept for long
            if self._apply(change):
                self._record(change)

    def learn(self, account: AccountId, lesson: Lesson, now: Instant) -> None:
        """Take in what an outcome taught about an account, and whether its upstream answered."""
        self.apply(lesson.changes)
        seat = self.seat(account)
        if seat is None:
            return
        if lesson.stumbled is True:
            self._put(replace(seat, stumbled=now))
        elif lesson.stumbled is False and seat.stumbled is not None:
            self._put(replace(seat, stumbled=None))

    def mark_invalid(self, account: AccountId, why: str) -> None:
        """The account's credential is refused, until its owner signs in again."""
        seat = self._seats.get(account)
        if seat is not None:
            self._put(replace(seat, account=dataclasses.replace(seat.account, invalid=why)))

    def begin(self, account: AccountId) -> None:
        """A request is now in flight on this account."""
        self._count(account, 1)

    def end(self, account: AccountId) -> None:
        """One request less is in flight on this account."""
        self._count(account, -1)

    def warm(self, session: str, agent: str, models: Iterable[ModelId], now: Instant) -> Mapping[ModelId, AccountId]:
        """Where this thread's prompt cache is still warm, by upstream model."""
        found: dict[ModelId, AccountId] = {}
        for model in models:
            served = self._warm.get(Conversation(session, agent, model))
            if served is not None and served.warm_until > now:
                found[model] = served.account
        return found

    def _count(self, account: AccountId, step: int) -> None:
        seat = self.seat(account)
        if seat is not None:
            self._put(replace(seat, in_flight=max(0, seat.in_flight + step)))

    def _put(self, seat: Seat) -> None:
        if seat.caller:
            self._own[seat.id] = seat
            return
        self._seats[seat.id] = seat
        self._snapshot = None

    def _apply(self, change: Change) -> bool:
        """Whether it was news."""
        if isinstance(change, Served):
            return self._serve(change)
        seat = self.seat(change.account)
        if seat is None:
            return False
        if isinstance(change, Used):
            if seat.last_used is not None and seat.last_used >= change.at:
                return False
            self._put(replace(seat, last_used=change.at))
            return True
        if isinstance(change, QuotaRead):
            quota = change.quota
            known = seat.quotas.get(quota.bucket)
            if known is not None and order(QuotaRead(seat.id, known)) >= order(change):
                return False
            self._put(replace(seat, quotas={**seat.quotas, quota.bucket: quota}))
            return True
        return self._limit(seat, change)

    def _limit(self, seat: Seat, change: Limited) -> bool:
        limit = change.limit
        held = seat.closed.get(limit.bucket)
        if held is not None and order(Limited(seat.id, held.limit, held.strikes)) >= order(change):
            return False
        self._put(replace(seat, closed={**seat.closed, limit.bucket: Closed(limit, change.strikes)}))
        return True

    def _serve(self, change: Served) -> bool:
        if self.seat(change.account) is None:
            return False
        known = self._warm.get(change.conversation)
        if known is not None and order(known) >= order(change):
            return False
        self._warm[change.conversation] = change
        self._warm.move_to_end(change.conversation)
        if len(self._warm) > MAX_CONVERSATIONS:
            self._warm.popitem(last=False)
        return True


def _for_caller(caller: str | None, seat: Seat) -> Seat:
    """A seat of a caller's own, of which nothing is known yet."""
    account = dataclasses.replace(seat.account, id=AccountId(f"{seat.id}@{caller}"))
    return replace(seat, account=account, caller=caller)


def _with_knowledge(seat: Seat, known: Seat) -> Seat:
    return replace(
        seat,
        quotas=known.quotas,
        closed=known.closed,
        in_flight=known.in_flight,
        stumbled=known.stumbled,
        last_used=known.last_used,
    )
