"""One client request's life: its facts, its attempts, its answer, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.ids import AccountId, ModelId, RequestId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.conversation import agent, cache_ttl_1h, session
from mcp_proxy.dialects.estimate import Measure, measure
from mcp_proxy.gateway import asking
from mcp_proxy.gateway.answer import Answer, CutShort, relay
from mcp_proxy.gateway.apart import LARGE, apart
from mcp_proxy.gateway.asking import Asking
from mcp_proxy.gateway.callers import given_back, own_target
from mcp_proxy.gateway.ending import Ending, Why, reason
from mcp_proxy.gateway.failover import Course, failover
from mcp_proxy.gateway.gate import Ticket
from mcp_proxy.gateway.record import Attempt
from mcp_proxy.gateway.recording import Making
from mcp_proxy.gateway.sampling import Sampled
from mcp_proxy.gateway.surroundings import Surroundings
from mcp_proxy.gateway.verdict import draining, nobody, unserved
from mcp_proxy.gateway.waiting import Waiting
from mcp_proxy.routing.budget import counted
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Candidate, Decision, Facts, Seat, Target, Tried
from mcp_proxy.routing.react import Lesson, on_answer, on_failure

ESTIMATED_FROM_BYTES = LARGE
"""A smaller body fits every window we know; only a larger one is worth estimating."""

NEVER = Instant(0.0)


@dataclass(slots=True)
class Exchange:
    """One client request, from its parsed form to its end.

    budget  seconds that attempts, holding and waiting together may take
    key     the name of the key that the client showed
    """

    ask: Ask
    request: RequestId
    around: Surroundings
    budget: float
    attempts: list[Attempt] = field(default_factory=list)
    course: Course = field(default_factory=Course)
    facts: Facts | None = None
    answer: Answer | None = None
    failure: Failure | None = None
    outcome: str = ""
    key: str = "default"
    _waiting: Waiting = field(init=False)
    _asking: Asking = field(init=False)
    _first: float | None = None
    _begun: float = 0.0
    _account: AccountId | None = None
    _sampled: Sampled | None = None
    _asked_at: Instant = NEVER
    _blamed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._waiting = Waiting(self.around)
        self._asking = Asking(self.ask, self.around, self._waiting)

    async def open(self) -> Answer | Failure:
        """Find somebody who answers; an `Answer` is held open until `close`."""
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        self._waiting.until = self._begun + self.budget
        around = self.around
        caller = around.callers.name(self.ask.login)
        target = self._target(caller)
        if not target.serving and await around.listed():
            target = self._target(caller)  # it began just now, and accounts had yet to say what they have
        if not target.serving:
            self.failure = unserved(self.ask.model, around.pool.seats)
            return self.failure
        talk, hour_cache, size = await apart(_traits, len(self.ask.body), self.ask)
        thread = agent(self.ask)
        models = {way.offer.model for ways in target.serving.values() for way in ways}
        self.facts = Facts(
            request=self.request,
            target=target,
            session=talk,
            agent=thread,
            # the least of what any of them may count: whoever turns it away then knows that it does not fit
            tokens=min(around.calibration.likely(model, size) for model in models) if size else 0,
            stream=self.ask.stream,
            warm=around.pool.warm(talk, thread, models, around.clock.now()),
            hour_cache=hour_cache,
            local=self.ask.local,
            caller=caller,
        )
        result = await self._failover(self.facts, Ticket(around.gate(self.ask.model)))
        if isinstance(result, Answer) and self.ask.endpoint is Endpoint.MESSAGES and not self._asking.ask.unsigned:
            self._sampled = around.sampler.take(self.model or self.ask.model, self.ask.body, size)
        # nothing can be tried again from here on, and the body is most of what an open stream would hold
        self._let_go()
        if isinstance(result, Answer):
            self.answer, self._first = result, loop.time() - self._begun
        else:
            self.failure = result
        return result

    def _target(self, caller: str) -> Target:
        """Who serves the model that is asked for, to this client."""
        around, ask = self.around, self.ask
        target = around.catalog.resolve(ask.model, around.pool, around.policy, login=bool(caller), local=ask.local)
        target = own_target(target, around.pool.of(caller))
        if self.ask.endpoint is not Endpoint.IMAGES:
            return target
        pictures = {who: tuple(way for way in ways if way.offer.pictures) for who, ways in target.serving.items()}
        return replace(target, serving={who: ways for who, ways in pictures.items() if ways})

    async def _failover(self, facts: Facts, ticket: Ticket) -> Answer | Failure:
        around = self.around

        def decided(tried: frozenset[Tried]) -> Decision:
            return decide(facts, around.pool.of(facts.caller), around.policy, around.clock.now(), tried)

        def conclude(decision: Decision, failures: Mapping[AccountId, Failure]) -> Failure:
            if around.draining.is_set() and decision.first is None and decision.retry_at is not None:
                return draining()
            return nobody(self.ask.model, decision, failures, around.clock.now())

        async def attempt(candidate: Candidate, others: bool) -> Answer | Failure:
            result = await self._attempt(facts, candidate, others)
            if isinstance(result, Answer):
                ticket.served(asyncio.get_running_loop().time())
            return result

        async def wait(retry_at: Instant) -> bool:
            ticket.done()
            return await self._waiting.wait(retry_at, decided, ticket)

        try:
            return await failover(
                decided,
                attempt,
                wait,
                self._covered,
                conclude,
                around.policy.max_attempts,
                around.policy.failover_on,
                self.course,
            )
        finally:
            ticket.done()

    def _covered(self, failure: Failure, candidate: Candidate) -> frozenset[Tried]:
        """Where an address could not be reached, the other seats there cannot be either, whatever the model.

        A credential that is refused is so for every model.
        """
        if failure.reached and (failure.limit is not None or failure.blame not in (Blame.ACCOUNT, Blame.TOKEN)):
            return frozenset()
        base = self._base_url(candidate.account)
        serving = self.facts.target.serving if self.facts is not None else {}
        return frozenset(
            Tried(account, way.offer.model)
            for account, ways in serving.items()
            if account == candidate.account or (not failure.reached and self._base_url(account) == base)
            for way in ways
        )

    def _base_url(self, account: AccountId) -> str | None:
        seat = self.around.pool.seat(account)
        return self.around.catalog.base_url(seat.account) if seat is not None else None

    async def _attempt(self, facts: Facts, candidate: Candidate, others: bool) -> Answer | Failure:
        """Ask one seat, and learn from what it says."""
        around, loop = self.around, asyncio.get_running_loop()
        seat = around.pool.seat(candidate.account)
        if seat is None:
            return Failure(Blame.CONFIG, 502, "api_error", "the account is gone")
        begun, asked_at = loop.time(), around.clock.now()
        attempt = Attempt(candidate)
        self.attempts.append(attempt)
        around.pool.begin(seat.id)
        probe = around.pool.probe(seat.id, candidate.offer, asked_at)
        self._asked_at = asked_at
        result: Answer | Failure | None = None
        try:
            result = await self._asking.open(seat, candidate.offer, others)
        finally:
            attempt.seconds = loop.time() - begun
            around.pool.give_back(probe)
            if not isinstance(result, Answer):
                around.pool.end(seat.id)
        now, seat = around.clock.now(), around.pool.seat(candidate.account) or seat
        if isinstance(result, Answer):
            self._account, attempt.answered = seat.id, True
            around.pool.learn(seat.id, on_answer(facts, seat, candidate.offer, asked_at, now), now, asked_at)
            return result
        attempt.failure = result
        lesson = self._blaming(on_failure(result, seat, now), seat, attempt.seconds, result)
        around.pool.learn(seat.id, lesson, now, asked_at)
        if lesson.invalid is not None and self._asking.credential is not None:
            around.refused(seat.id, self._asking.credential, lesson.invalid)
        return result

    def _blaming(self, lesson: Lesson, seat: Seat, seconds: float, failure: Failure) -> Lesson:
        """What a lesson says against the account and its address, without what is not theirs.

        A token that could not be had says nothing of the address; a client that waits for less long than we do was
        hasty; and a request counts once against an address, however many accounts it asked there: it may be at fault.
        """
        silent = failure.blame is Blame.NETWORK and failure.status == 504
        if silent and self._waiting.left <= 0 and seconds < asking.HEAD_SECONDS:
            return replace(lesson, stumbled=None, sick=None)
        if lesson.sick is not None and (not self._asking.asked or (lesson.sick and seat.upstream in self._blamed)):
            return replace(lesson, sick=None)
        if lesson.sick:
            self._blamed.add(seat.upstream)
        return lesson

    @property
    def why(self) -> Why:
        """Why the answer came from where it came."""
        return reason(self.course, self.attempts, self.ask.model)

    @property
    def upstream_id(self) -> str | None:
        """What the upstream that was asked last calls the request; None where it did not say."""
        return self._asking.upstream_id

    @property
    def cleaned(self) -> tuple[str, ...]:
        """Why the body did not go to the last upstream as it came, a reason each."""
        return self._asking.cleaned

    @property
    def account(self) -> Seat | None:
        """The seat that answered, or was asked last; None where none was."""
        return self.around.pool.seat(self.attempts[-1].candidate.account) if self.attempts else None

    @property
    def model(self) -> ModelId | None:
        """The upstream model of the last attempt."""
        return self.attempts[-1].candidate.offer.model if self.attempts else None

    async def frames(self) -> AsyncIterator[bytes]:
        """What the client gets, as it comes. Raises `CutShort`; then no final chunk may be sent."""
        assert self.answer is not None  # noqa: S101 - asked for only after `open` gave an answer
        listener = self.answer.listener
        try:
            async for frames in relay(self.answer):
                if listener.error is not None and not self.outcome:
                    # before the client has it: most clients hang up there, and ask again at once
                    self.outcome = "error_event"
                    self._learn_from_event(self.answer, listener.error)
                yield frames if listener.error is None else self._asking.without_key(frames)
            if not self.outcome:
                self.outcome = "ok"
                self._learn(Lesson(stumbled=False, sick=False))
        except CutShort as cut:
            self.outcome = "cut"
            self._learn(Lesson(stumbled=True, sick=True, why=str(cut)))
            raise

    def _learn(self, lesson: Lesson) -> None:
        pool, now = self.around.pool, self.around.clock.now()
        pool.learn(self.attempts[-1].candidate.account, lesson, now, self._asked_at)

    def _learn_from_event(self, answer: Answer, error: bytes) -> None:
        """An `error` event in a running stream says of the account what the same refusal would have said."""
        seat, offer, now = self.account, self.attempts[-1].candidate.offer, self.around.clock.now()
        provider = self.around.catalog.provider(seat.account) if seat else None
        if seat is not None and provider is not None:
            failure = provider.read_failure(Refusal(200, answer.response.headers, error), offer, now)
            lesson = on_failure(given_back(self._asking.scrubbed(failure), seat), seat, now)
            # a credential that the upstream had taken is no bad one, but whoever asks again should ask elsewhere
            self._learn(lesson if lesson.invalid is None else Lesson(stumbled=True, why=f"HTTP {failure.status}"))

    async def close(self) -> None:
        """The end, whatever it was: give the upstream back, count, log. To be called once."""
        if self.answer is not None:
            await self.answer.response.aclose()
        if self._account is not None:
            self.around.pool.end(self._account)
            if self.answer is not None:
                self.around.pool.spend(self._account, counted(self.answer.usage), self.around.clock.now())
            self._account = None
        if self._sampled is not None and self.answer is not None and self.outcome == "ok":
            self.around.sampler.counted(self._sampled, self.answer.usage)
        self._sampled = None
        if not self.outcome:
            self.outcome = "client_gone" if self.answer is not None or self.failure is None else "failed"
        # whoever remembers an exchange remembers its decisions, not its content
        self._let_go()
        ending = self._ending()
        ending.log()
        self.around.record(ending.row)
        self.around.counters.add(self.outcome, self.attempts, ending.usage, ending.caller)
        self.answer, self._asking.token = None, None

    def _let_go(self) -> None:
        """Of what was asked, keep nothing that the client wrote but the name of the model."""
        ask = self._asking.ask
        if ask.body or ask.members or ask.login is not None:
            ask = self._asking.ask = msgspec.structs.replace(ask, body=b"", members=(), login=None)
        self.ask = ask

    def making(self) -> Making:
        """What makes the row of this exchange: everything is at hand, and is put together by whoever writes it."""
        return self._ending().row

    def _ending(self) -> Ending:
        return Ending(
            request=self.request,
            ask=self.ask,
            key=self.key,
            facts=self.facts,
            course=self.course,
            attempts=self.attempts,
            outcome=self.outcome,
            failure=self.failure,
            usage=self.answer.usage if self.answer is not None else None,
            seat=self.account,
            seats=self.around.pool.seats,
            upstream_id=self.upstream_id,
            cleaned=self.cleaned,
            first=self._first,
            total=asyncio.get_running_loop().time() - self._begun,
        )


def _traits(ask: Ask) -> tuple[str, bool, Measure | None]:
    """What the body tells: the session, whether its cache is kept for an hour, and a large one's size."""
    size = measure(ask.body, ask.members) if len(ask.body) > ESTIMATED_FROM_BYTES else None
    return session(ask), cache_ttl_1h(ask), size
