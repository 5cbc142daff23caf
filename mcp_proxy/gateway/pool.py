"""The seats: the one place that changes them, always between two awaits."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import structlog
from msgspec.structs import replace

from mcp_proxy.core.breaker import SOUND, Breaker
from mcp_proxy.core.change import Change, Limited, QuotaRead, Served, Tallied, Tripped, Used, breaker_of
from mcp_proxy.core.ids import AccountId, Conversation, ModelId, own_id
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.seating import for_caller, forgetting, subjects, with_knowledge
from mcp_proxy.gateway.tallies import Tallies
from mcp_proxy.routing import breaker as breakers
from mcp_proxy.routing.budget import slot_of
from mcp_proxy.routing.decide import probed
from mcp_proxy.routing.facts import ADDRESS, OWN, WINDOW, Closed, Seat
from mcp_proxy.routing.react import Lesson
from mcp_proxy.state.worth import order

log = structlog.get_logger("mcp_proxy.breakers")

MAX_CONVERSATIONS = 10_000
MAX_CALLERS = 1000
"""Seats of callers with a login of their own; the least recently used leave, but for those in use."""

Probe: TypeAlias = frozenset[tuple[str, str]]
"""What a request is the single probe of: each thing's kind, and whose it is."""

NO_PROBE: Probe = frozenset()


class Pool:
    """Every account as the router sees it, and where each conversation is warm.

    record   is told every change that should outlive the process
    draw     gives a number by chance, 0.0 to 1.0
    writer   names this process among those that count tokens
    version  grows when accounts or what they serve change, so that what is derived from them can be cached
    """

    def __init__(
        self,
        record: Callable[[Change], None] = lambda change: None,
        draw: Callable[[], float] = lambda: 0.0,
        writer: str = "",
    ) -> None:
        self._record, self._draw = record, draw
        self._tallies = Tallies(writer)
        self._breakers: dict[str, Breaker] = {}
        self._probes: set[tuple[str, str]] = set()
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

    def _all(self) -> tuple[Seat, ...]:
        return (*self._seats.values(), *self._own.values())

    @property
    def callers(self) -> tuple[Seat, ...]:
        """The seats of callers with a login of their own, least recently used first."""
        return tuple(self._own.values())

    def _of(self, caller: str, seat: Seat) -> Seat:
        """A caller's own seat of an account, made where there is none yet."""
        account = own_id(seat.id, caller)
        if account not in self._own:
            self._make_room()
            self._own[account] = self._with_troubles(for_caller(caller, seat))
        self._own.move_to_end(account)
        return self._own[account]

    def _make_room(self) -> None:
        surplus = len(self._own) + 1 - MAX_CALLERS
        if surplus > 0:
            for account in [each.id for each in self._own.values() if not each.in_flight][:surplus]:
                del self._own[account]
                self._breakers.pop(breaker_of(account), None)

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
            kept[seat.id] = seat if known is None else with_knowledge(seat, known)
        concerned = {subject for seat in kept.values() for subject in subjects(seat)}
        self._tallies.seat_all(kept.values())
        self._seats = kept
        self._own = OrderedDict(
            (account, with_knowledge(for_caller(own.caller or "", made_of), own))
            for account, own in self._own.items()
            if (made_of := kept.get(own.stored)) is not None and made_of.caller == ""
        )
        concerned |= {subject for seat in self._own.values() for subject in subjects(seat)}
        self._breakers = {subject: each for subject, each in self._breakers.items() if subject in concerned}
        for seat in self._all():
            self._put(self._with_troubles(seat))
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

    def learn(self, account: AccountId, lesson: Lesson, now: Instant, asked_at: Instant | None = None) -> None:
        """Take in what an outcome taught about an account and its upstream.

        asked_at  when the attempt began; None: just now
        """
        self.apply(lesson.changes)
        seat = self.seat(account)
        if seat is None:
            return
        for change in lesson.changes:
            self._open_for_all(seat, change)
        asked = now if asked_at is None else asked_at
        self._outcome(breaker_of(account), lesson.stumbled, lesson, asked, now)
        if seat.upstream:
            self._outcome(seat.upstream, lesson.sick, lesson, asked, now)

    def _outcome(self, subject: str, failed: bool | None, lesson: Lesson, asked_at: Instant, now: Instant) -> None:
        before = self._breakers.get(subject, SOUND)
        if failed:
            after = breakers.failed(before, asked_at, now, self._draw(), lesson.status, lesson.why)
        elif failed is None or before is SOUND:
            return
        else:
            after = (breakers.succeeded if lesson.whole else breakers.answered)(before, asked_at, now)
        if after is not before:
            self.apply((Tripped(subject, after),))
            _tell(subject, before, after, now)

    def _open_for_all(self, seat: Seat, change: Change) -> None:
        """Who was served from a budget that accounts share has tried it for all of them."""
        if not isinstance(change, Limited) or change.strikes:
            return
        if any(each.bucket == change.limit.bucket and each.shared for each in seat.budgets):
            for peer in self._of_provider(seat):
                self.apply((dataclasses.replace(change, account=peer.id),))

    def spend(self, account: AccountId, tokens: int, now: Instant) -> None:
        """Count the tokens of an answer, where a budget of the account's or its provider's does.

        An account that callers use with their own logins has one budget for all of them.
        """
        seat = self.seat(account)
        if seat is None or not seat.budgets or tokens <= 0:
            return
        self.apply((self._tallies.counted(seat.stored, slot_of(now), tokens),))
        shared = any(budget.shared for budget in seat.budgets)
        for each in self._of_provider(seat):
            if shared or each.stored == seat.stored:
                self._read_budgets(each, now)

    def read_budgets(self, now: Instant) -> None:
        """Say anew what is left of every budget: with time alone it grows."""
        self._tallies.prune(now)
        for seat in self._all():
            if seat.budgets:
                self._read_budgets(seat, now)

    def _read_budgets(self, seat: Seat, now: Instant) -> None:
        quotas = dict(seat.quotas)
        for quota, closing in self._tallies.readings(seat, now):
            known, held = quotas.get(quota.bucket), seat.closed.get(quota.bucket)
            if known is None or (known.left, known.resets) != (quota.left, quota.resets):
                quotas[quota.bucket] = quota  # not by the order of readings: it follows from what was counted
            if closing is None and held is not None and held.strikes and held.limit.until > now:
                closing = RateLimit(quota.bucket, now, "there is room again", now)
            if closing is not None and (held is None or not held.strikes or held.limit.until != closing.until):
                self.apply((Limited(seat.id, closing, strikes=1),))
        seat = self.seat(seat.id) or seat
        if quotas != seat.quotas:
            self._put(replace(seat, quotas=quotas))

    def reset(self, accounts: Iterable[AccountId], now: Instant) -> dict[AccountId, list[str]]:
        """Close the breakers of accounts and of their upstreams and forget their limits, as their owner asks.

        By account, the names of what there was to forget. Budgets stay: they are counts, and not anybody's refusal.
        """
        told: dict[AccountId, list[str]] = {}
        upstreams: dict[str, bool] = {}
        wanted = set(accounts)
        for seat in [seat for seat in self._all() if seat.stored in wanted]:
            forgotten = told.setdefault(seat.stored, [])
            for name, change in forgetting(seat, now):
                self.apply((change,))
                forgotten.append(name)
            for subject in subjects(seat):
                if subject not in upstreams:
                    held = self._breakers.get(subject, SOUND)
                    upstreams[subject] = bool(held.failures)
                    if held.failures:
                        self.apply((Tripped(subject, breakers.closed(held, now)),))
                if upstreams[subject]:
                    forgotten.append("upstream breaker" if subject == seat.upstream else "breaker")
        return {account: list(dict.fromkeys(names)) for account, names in told.items()}

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

    def probe(self, account: AccountId, offer: Offer, now: Instant) -> Probe:
        """Mark what a request that begins now is the only probe of, until that is given back."""
        seat = self.seat(account)
        if seat is None or not (seat.closed or seat.breaker.trips or seat.address.trips):
            return NO_PROBE
        keys = {OWN: str(seat.id), ADDRESS: seat.upstream}
        keys |= {f"{WINDOW}{each.bucket.name}": seat.provider for each in seat.budgets if each.shared}
        probe = frozenset((name, keys.get(name, str(seat.id))) for name in probed(seat, offer, now)) - self._probes
        if probe:
            self._probes |= probe
            self._mark_probes()
        return probe

    def give_back(self, probe: Probe) -> None:
        """The probe is over, whatever came of it: what it has not closed, the next one tries."""
        if probe:
            self._probes -= probe
            self._mark_probes()

    def _mark_probes(self) -> None:
        for seat in self._all():
            marked = self._with_troubles(seat)
            if marked.probing != seat.probing:
                self._put(marked)

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

    def _of_provider(self, seat: Seat) -> list[Seat]:
        return [each for each in self._all() if each.provider == seat.provider]

    def _with_troubles(self, seat: Seat) -> Seat:
        """The seat with what is known beside it: breakers, and the probes under way."""
        mine = (seat.id, seat.upstream, seat.provider)
        probing = frozenset(name for name, key in self._probes if key in mine) if self._probes else frozenset()
        own, address = self._breaker(breaker_of(seat.id)), self._breaker(seat.upstream)
        return replace(seat, breaker=own, address=address, probing=probing)

    def _breaker(self, subject: str) -> Breaker:
        found = self._breakers.get(subject, SOUND)
        return found if found.failures else SOUND  # the very same, which a decision tells at a glance

    def _trip(self, change: Tripped) -> bool:
        known = self._breakers.get(change.subject)
        concerned = [seat for seat in self._all() if change.subject in subjects(seat)]
        if not concerned or (known is not None and order(Tripped(change.subject, known)) >= order(change)):
            return False
        self._breakers[change.subject] = change.breaker
        for seat in concerned:
            self._put(self._with_troubles(seat))
        return True

    def _apply(self, change: Change) -> bool:
        """Whether it was news."""
        if isinstance(change, Served):
            return self._serve(change)
        if isinstance(change, Tripped):
            return self._trip(change)
        if isinstance(change, Tallied):
            return self._tallies.take(change)
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


def _tell(subject: str, before: Breaker, after: Breaker, now: Instant) -> None:
    if after.trips > before.trips:
        seconds = round(after.until - now, 1)
        log.warning("breaker open", of=subject, failures=after.failures, seconds=seconds, error=after.why)
    elif before.trips and not after.trips:
        log.info("breaker closed", of=subject)
