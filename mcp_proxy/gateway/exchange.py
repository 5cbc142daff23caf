"""One client request's life: its facts, its attempts, its answer, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog

from accounts.model import ClaudeCodeLogin, Credential, OAuthGrant, Token, secrets_of
from mcp_proxy.core.failure import Blame, Failure, Refusal, hidden_bytes, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport, Trouble, header
from mcp_proxy.core.ids import AccountId, ModelId, RequestId
from mcp_proxy.core.journal import Detail, Row, pack
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, Offer, Provider
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.core.time import Clock, Instant
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.dialects.conversation import agent, cache_ttl_1h, session
from mcp_proxy.dialects.estimate import Measure, measure
from mcp_proxy.gateway.answer import Answer, CutShort, network_failure, read_answer, relay
from mcp_proxy.gateway.apart import LARGE, apart
from mcp_proxy.gateway.callers import Callers, given_back, own_access, own_target
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.failover import Course, failover
from mcp_proxy.gateway.gate import Gate, Ticket
from mcp_proxy.gateway.logins import login_failure
from mcp_proxy.gateway.metrics import Counters
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.record import Attempt, detailed, hashed, short, undecided
from mcp_proxy.gateway.recording import Making
from mcp_proxy.gateway.sampling import Sampled, Sampler
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.gateway.verdict import draining, nobody, unserved
from mcp_proxy.routing.budget import counted
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Candidate, Decision, Facts, Policy, Reason, Seat, Target, Tried, stored_as
from mcp_proxy.routing.react import Lesson, on_answer, on_failure, on_quotas

log = structlog.get_logger("mcp_proxy.exchange")

ESTIMATED_FROM_BYTES = LARGE
"""A smaller body fits every window we know; only a larger one is worth estimating."""

HEAD_SECONDS = 100.0
"""How long a seat may be silent while another could be asked. Real heads under load come within a minute."""

RENEWED = (OAuthGrant, ClaudeCodeLogin)
"""The credentials whose token may be another by now: one that is refused is worth a second look."""

LOOK_AGAIN_SECONDS = 1.0
"""A waiting request looks this often whether a seat has opened early."""


NEVER = Instant(0.0)

UPSTREAM_IDS = ("request-id", "x-request-id", "x-cloudaicompanion-trace-id")
"""What upstreams call the id that their people find a request by; the last is Google's."""


class Why(StrEnum):
    """`x-proxy-reason`: the first that holds."""

    WAITED = "waited"
    FALLBACK_MODEL = "fallback_model"
    FAILOVER = "failover"
    SOFT_LIMITED = "soft_limited"
    STICKY = "sticky"
    FIRST_CHOICE = "first_choice"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an exchange needs of the gateway, the same for all."""

    pool: Pool
    catalog: Catalog
    tokens: Tokens
    client: Callable[[AccountId, str], Transport]
    policy: Policy
    clock: Clock
    draining: asyncio.Event
    gate: Callable[[str], Gate]
    refused: Callable[[AccountId, Credential, str], None]
    listed: Callable[[], Awaitable[bool]]
    calibration: Calibration
    sampler: Sampler
    callers: Callers
    record: Callable[[Making], None]
    counters: Counters


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
    upstream_id: str | None = None
    cleaned: tuple[str, ...] = ()
    caller: str = ""
    key: str = "default"
    _first: float | None = None
    _begun: float = 0.0
    _waited: float = 0.0
    _account: AccountId | None = None
    _credential: Credential | None = None
    _token: Token | None = None
    _sampled: Sampled | None = None
    _asked_at: Instant = NEVER
    _asked: bool = False
    _blamed: set[str] = field(default_factory=set)

    async def open(self) -> Answer | Failure:
        """Find somebody who answers; an `Answer` is held open until `close`."""
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        around = self.around
        self.caller = around.callers.name(self.ask.login)
        target = self._target()
        if (
            not target.serving and await around.listed()
        ):  # it began just now, and accounts had yet to say what they have
            target = self._target()
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
            caller=self.caller,
        )
        result = await self._failover(self.facts, Ticket(around.gate(self.ask.model)))
        if isinstance(result, Answer) and self.ask.endpoint is Endpoint.MESSAGES and not self.ask.unsigned:
            self._sampled = around.sampler.take(self.model or self.ask.model, self.ask.body, size)
        # nothing can be tried again from here on, and the body is most of what an open stream would hold
        self.ask = replace(self.ask, body=b"", members=(), login=None)
        if isinstance(result, Answer):
            self.answer, self._first = result, loop.time() - self._begun
        else:
            self.failure = result
        return result

    def _target(self) -> Target:
        """Who serves the model that is asked for, to this client."""
        around, ask = self.around, self.ask
        target = around.catalog.resolve(ask.model, around.pool, around.policy, login=bool(self.caller), local=ask.local)
        target = own_target(target, around.pool.of(self.caller))
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
            return await self._wait(retry_at, decided, ticket)

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

    def _left(self) -> float:
        """Seconds left of the request's budget."""
        return self._begun + self.budget - asyncio.get_running_loop().time()

    async def _wait(self, retry_at: Instant, decided: Callable[[frozenset[Tried]], Decision], ticket: Ticket) -> bool:
        """Wait for a reset, if that ends in time; then for one's turn. False: nobody waits."""
        around, loop = self.around, asyncio.get_running_loop()
        seconds = retry_at - around.clock.now()
        if around.draining.is_set() or seconds > min(around.policy.max_wait - self._waited, self._left()):
            return False
        begun = loop.time()
        try:
            while (seconds := retry_at - around.clock.now()) > 0:
                # the wall clock says when it opens, the loop's how long was waited: the first may be set meanwhile
                if self._left() <= 0 or await self._drained(min(seconds, LOOK_AGAIN_SECONDS, self._left())):
                    return False
                decision = decided(frozenset())
                if decision.candidates and decision.hold is None:
                    break
                retry_at = decision.hold or decision.retry_at or retry_at
                if retry_at - around.clock.now() > around.policy.max_wait - self._waited - (loop.time() - begun):
                    return False
            if not await self._turn(ticket):
                return False
        finally:
            self._waited += loop.time() - begun
        return self._left() > 0

    async def _turn(self, ticket: Ticket) -> bool:
        """Wait for one's turn; False where the time is over before, or the server goes down."""
        loop = asyncio.get_running_loop()
        turn = loop.create_task(ticket.turn(loop.time()))
        drain = loop.create_task(self.around.draining.wait())
        try:
            await asyncio.wait({turn, drain}, timeout=max(self._left(), 0.001), return_when=asyncio.FIRST_COMPLETED)
            return turn.done() and not self.around.draining.is_set()
        finally:
            drain.cancel()
            if not turn.done():
                turn.cancel()
                await asyncio.wait({turn})

    async def _drained(self, seconds: float) -> bool:
        """Sleep, or less if the server begins to drain meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self.around.draining.wait()
        except TimeoutError:
            return False
        return True

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
        self._asked_at, self._asked = asked_at, False
        result: Answer | Failure | None = None
        try:
            result = await self._open(seat, candidate.offer, others)
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
        if lesson.invalid is not None and self._credential is not None:
            around.refused(seat.id, self._credential, lesson.invalid)
        return result

    def _blaming(self, lesson: Lesson, seat: Seat, seconds: float, failure: Failure) -> Lesson:
        """What a lesson says against the account and its address, without what is not theirs.

        A token that could not be had says nothing of the address; a client that waits for less long than we do was
        hasty; and a request counts once against an address, however many accounts it asked there: it may be at fault.
        """
        if failure.blame is Blame.NETWORK and failure.status == 504 and self._left() <= 0 and seconds < HEAD_SECONDS:
            return replace(lesson, stumbled=None, sick=None)
        if lesson.sick is not None and (not self._asked or (lesson.sick and seat.upstream in self._blamed)):
            return replace(lesson, sick=None)
        if lesson.sick:
            self._blamed.add(seat.upstream)
        return lesson

    async def _open(self, seat: Seat, offer: Offer, others: bool) -> Answer | Failure:
        """Ask one seat; once more with a fresh token, and once more without what another model signed.

        Where that is refused too, the first refusal is what the client hears: it knows what to do about a signature.
        """
        around = self.around
        provider = around.catalog.provider(seat.account)
        access = own_access(seat, self.ask, around.catalog) or around.tokens.ready(seat.account)
        access = access or await self._access(seat, None, others)
        renewed = False
        signature: Failure | None = None
        while True:
            self._credential = around.tokens.credential(seat.id)
            if provider is None or isinstance(access, Failure):
                return access if isinstance(access, Failure) else _unknown(seat)
            self._token = access.token
            result = await self._read(seat, offer, provider, access, others)
            if isinstance(result, Answer):
                return result
            if result.unsigned and not self.ask.unsigned:
                self.ask, signature = replace(self.ask, unsigned=True), result
            elif result.blame is Blame.TOKEN and not renewed and isinstance(self._credential, RENEWED):
                access, renewed = await self._access(seat, access.token, others), True
            else:
                break
        if signature is not None and result.blame is Blame.REQUEST:
            result = signature
        result = given_back(self._scrubbed(result), seat)
        if renewed and result.blame is Blame.TOKEN and isinstance(self._credential, ClaudeCodeLogin):
            return login_failure("the login is refused", around.clock.now())
        if renewed and result.blame is Blame.TOKEN:
            # its sign-in is good, or nothing could have been minted from it: the upstream errs, and not for ever
            return replace(result, blame=Blame.ACCOUNT, limit=ACCOUNT, retry_at=None)
        return result

    async def _access(self, seat: Seat, refused: Token | None, others: bool) -> Access | Failure:
        """How the seat is asked, which may have to be waited for; whoever does that is not what makes it happen."""
        seconds = min(self._left(), HEAD_SECONDS) if others else self._left()
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                return await self.around.tokens.access(seat.account, refused)
        except TimeoutError:
            return Failure(Blame.NETWORK, 504, "timeout_error", f"{seat.provider}: no token in time")

    def _secrets(self) -> list[str]:
        """What the account that was asked last must not be quoted with."""
        held = secrets_of(self._credential) if self._credential is not None else ()
        return [secret.reveal() for secret in (*held, *((self._token.value,) if self._token is not None else ()))]

    def _scrubbed(self, failure: Failure) -> Failure:
        for secret in self._secrets():
            failure = scrubbed(failure, secret)
        return failure

    async def _read(
        self, seat: Seat, offer: Offer, provider: Provider, access: Access, others: bool
    ) -> Answer | Failure:
        around = self.around
        seconds = self._left()
        if others and self.ask.stream:  # a message that is not streamed has its head when it is finished
            seconds = min(seconds, HEAD_SECONDS)
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                transport = around.client(seat.stored, access.base_url)
                request = await apart(provider.request, len(self.ask.body), self.ask, offer, access)
                if isinstance(request, Failure):
                    return request
                self.cleaned, self._asked = request.cleaned, True
                response = await transport.send(request)
                now = around.clock.now()
                self.upstream_id = next(
                    (told for name in UPSTREAM_IDS if (told := header(response.headers, name))), None
                )
                around.pool.apply(on_quotas(seat.id, provider.read_headers(response.headers, offer, now)))
                if request.translate is not None and response.status == 200:
                    response = request.translate(response)
                return await read_answer(response, self.ask, provider, offer, now)
        except TimeoutError:
            return network_failure(NetworkTrouble(Trouble.READ_TIMEOUT, sent=True))
        except NetworkTrouble as trouble:
            return network_failure(trouble)

    @property
    def why(self) -> Why:
        """Why the answer came from where it came."""
        rank = self.attempts[-1].candidate.rank if self.attempts else None
        if self.course.waited:
            return Why.WAITED
        if rank is None:
            return Why.FIRST_CHOICE
        if rank.substitute or rank.step:
            return Why.FALLBACK_MODEL
        if len(self.attempts) > 1:
            return Why.FAILOVER
        if self._others_are_soft():
            return Why.SOFT_LIMITED
        return Why.STICKY if not rank.cold else Why.FIRST_CHOICE

    def _others_are_soft(self) -> bool:
        """Whether the soft limit had a say: it is on the one that served, or moved the conversation off its seat."""
        decision, attempt = self.course.decision, self.attempts[-1]
        if attempt.candidate.rank.soft_limited:
            return True
        if decision is None:
            return False
        warm = [c for c in decision.candidates if not c.rank.cold and c.rank.soft_limited]
        if warm:
            return True
        rank = attempt.candidate.rank
        return any(c.rank.soft_limited and c.rank._replace(soft_limited=False) < rank for c in decision.candidates)

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
                yield frames if listener.error is None else self._without_key(frames)
            if not self.outcome:
                self.outcome = "ok"
                self._learn(Lesson(stumbled=False, sick=False))
        except CutShort as cut:
            self.outcome = "cut"
            self._learn(Lesson(stumbled=True, sick=True, why=str(cut)))
            raise

    def _without_key(self, frames: bytes) -> bytes:
        """Frames with an `error` event among them, without the account's key, which an upstream may quote in one."""
        for secret in filter(None, self._secrets()):
            frames = hidden_bytes(frames, secret)
        return frames

    def _learn(self, lesson: Lesson) -> None:
        pool, now = self.around.pool, self.around.clock.now()
        pool.learn(self.attempts[-1].candidate.account, lesson, now, self._asked_at)

    def _learn_from_event(self, answer: Answer, error: bytes) -> None:
        """An `error` event in a running stream says of the account what the same refusal would have said."""
        seat, offer, now = self.account, self.attempts[-1].candidate.offer, self.around.clock.now()
        provider = self.around.catalog.provider(seat.account) if seat else None
        if seat is not None and provider is not None:
            failure = provider.read_failure(Refusal(200, answer.response.headers, error), offer, now)
            lesson = on_failure(given_back(self._scrubbed(failure), seat), seat, now)
            # a credential that the upstream had taken is no bad one, but whoever asks again should ask elsewhere
            self._learn(lesson if lesson.invalid is None else Lesson(stumbled=True, why=failure.message))

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
        self._log()
        self.around.record(self.making())
        self.around.counters.add(self.outcome, self.attempts, self.answer.usage if self.answer is not None else None)
        # whoever remembers an exchange remembers its decisions, not its content
        self.ask = replace(self.ask, body=b"", members=(), login=None)
        self.answer, self._token = None, None

    def _log(self) -> None:
        if not self.outcome:
            self.outcome = "client_gone" if self.answer is not None or self.failure is None else "failed"
        usage = self.answer.usage if self.answer is not None else None
        seat = self.account
        log.info(
            "request",
            request_id=self.request,
            model=self.ask.model,
            account=f"{seat.provider}/{seat.stored}" if seat else None,
            upstream_model=self.model,
            upstream_request_id=self.upstream_id,
            reason=self.why.value,
            attempts=len(self.attempts),
            outcome=self.outcome,
            status=self.failure.status if self.failure else 200,
            stream=self.ask.stream,
            seconds=round(asyncio.get_running_loop().time() - self._begun, 3),
            input=usage.input if usage else None,
            cache_read=usage.cache_read if usage else None,
            cache_write=usage.cache_write if usage else None,
            output=usage.output if usage else None,
            cleaned=list(self.cleaned) or None,
            refusals=[
                f"{attempt.candidate.account}: {attempt.failure.blame.value} {attempt.failure.status}"
                for attempt in self.attempts
                if attempt.failure is not None
            ]
            or None,
        )

    def making(self) -> Making:
        """What makes the row of this exchange: everything is at hand, and is put together by whoever writes it."""
        usage, seat, facts, course = self.answer and self.answer.usage, self.account, self.facts, self.course
        total, seats, at = asyncio.get_running_loop().time() - self._begun, self.around.pool.seats, self.ask.at

        def row() -> Row:
            return Row(
                request=self.request,
                upstream=short(self.upstream_id),
                begun=Instant(at),
                first=self._first,
                total=total,
                session=hashed(facts.session) if facts else "",
                key=self.key,
                caller=facts.caller if facts else "",
                asked=short(self.ask.model) or "",
                model=self.model,
                provider=seat.provider if seat else None,
                account=stored_as(self.attempts[-1].candidate.account) if self.attempts else None,
                outcome=self.outcome,
                status=self.failure.status if self.failure else 200,
                reason=self.why.value,
                stream=self.ask.stream,
                waited=course.waited,
                hour=facts.hour_cache if facts else False,
                attempts=len(self.attempts),
                input=usage.input if usage else None,
                cache_read=usage.cache_read if usage else None,
                cache_write=usage.cache_write if usage else None,
                output=usage.output if usage else None,
                reasoning=usage.reasoning if usage else None,
                detail=pack(self._detail(seats)),
            )

        return row

    def _detail(self, seats: Sequence[Seat]) -> Detail:
        """How it was decided. Where nobody serves the name, or the client had left by then, it was not."""
        if self.course.decision is None:
            return undecided(seats, Reason.NOT_SERVED if self.failure is not None else "client_gone")
        return detailed(self.course.first, self.course.decision, self.attempts, seats)


def _unknown(seat: Seat) -> Failure:
    return Failure(Blame.CONFIG, 502, "api_error", f"{seat.provider}: no such provider")


def _traits(ask: Ask) -> tuple[str, bool, Measure | None]:
    """What the body tells: the session, whether its cache is kept for an hour, and a large one's size."""
    size = measure(ask.body) if len(ask.body) > ESTIMATED_FROM_BYTES else None
    return session(ask), cache_ttl_1h(ask), size
