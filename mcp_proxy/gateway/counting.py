"""How many tokens a request has: the provider's own count where there is one, else an estimate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from mcp_proxy.core.failure import Blame, Failure, Refusal, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport, read_all
from mcp_proxy.core.ids import AccountId, RequestId, stored_id
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Provider
from mcp_proxy.core.time import Clock, Instant, after
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.dialects.estimate import measure
from mcp_proxy.gateway.apart import apart
from mcp_proxy.gateway.callers import Callers, given_back, own_access, own_target
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.gateway.verdict import unserved
from mcp_proxy.routing.decide import decide, probed
from mcp_proxy.routing.facts import Candidate, Facts, Policy, Seat

COUNT_SECONDS = 2.0
MAX_COUNT_BYTES = 64 * 1024
UNSUPPORTED_SECONDS = 600.0
"""How long a model whose count failed is estimated without asking again."""


class _Count(msgspec.Struct):
    input_tokens: int


class Counter:
    """Counts tokens. Its failures touch no account and no conversation: a count is free and may be wrong.

    policy  may be replaced while it is in use
    """

    def __init__(
        self,
        pool: Pool,
        catalog: Catalog,
        tokens: Tokens,
        client: Callable[[AccountId, str], Transport],
        policy: Policy,
        clock: Clock,
        calibration: Calibration,
        callers: Callers,
    ) -> None:
        self._pool, self._catalog, self._tokens = pool, catalog, tokens
        self._client, self.policy, self._clock = client, policy, clock
        self._calibration, self._callers = calibration, callers
        self._unsupported: dict[tuple[AccountId, str], Instant] = {}

    async def count(self, ask: Ask, request: RequestId) -> int | Failure:
        """Input tokens. A `Failure` only where the request itself is at fault, or nobody serves the model."""
        caller = self._callers.name(ask.login)
        target = self._catalog.resolve(ask.model, self._pool, self.policy, login=bool(caller), local=ask.local)
        target = own_target(target, self._pool.of(caller))
        if not target.serving:
            return unserved(ask.model, self._pool.seats)
        now = self._clock.now()
        facts = Facts(request, target, "", "", tokens=0, stream=False, local=ask.local, caller=caller)
        candidates = decide(facts, self._pool.of(caller), self.policy, now).candidates
        first = candidates[0].offer if candidates else next(iter(target.serving.values()))[0].offer
        for candidate in candidates:
            if self._unsupported.get((stored_id(candidate.account, caller), candidate.offer.model), now) > now:
                continue
            if (asked := self._counting(candidate, now)) is not None:
                counted = await self._ask(ask, candidate, *asked)
                return await self._estimated(ask, candidate.offer.model) if counted is None else counted
        return await self._estimated(ask, first.model)

    async def _estimated(self, ask: Ask, model: str) -> int:
        """What the model is likely to count, as far as its answers have taught us."""
        return self._calibration.tokens(model, await apart(measure, len(ask.body), ask.body, ask.members))

    def _counting(self, candidate: Candidate, now: Instant) -> tuple[Provider, Seat] | None:
        """The candidate and its provider, if that counts at all; none that a single request has to try first."""
        seat = self._pool.seat(candidate.account)
        if seat is not None and probed(seat, candidate.offer, now):
            return None
        provider = self._catalog.provider(seat.account) if seat else None
        return (provider, seat) if seat is not None and provider is not None and provider.counts else None

    async def _ask(self, ask: Ask, candidate: Candidate, provider: Provider, seat: Seat) -> int | Failure | None:
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                access = own_access(seat, ask, self._catalog) or await self._tokens.access(seat.account)
                if isinstance(access, Failure):
                    return None
                request = provider.request(ask, candidate.offer, access)
                if isinstance(request, Failure):
                    return request
                transport = self._client(seat.stored, access.base_url)
                response = await transport.send(request)
                body = await read_all(response, MAX_COUNT_BYTES)
        except (NetworkTrouble, TimeoutError):
            return None
        now = self._clock.now()
        counted = _number(body) if response.status == 200 else None
        if counted:
            return counted
        if response.status not in (200, 404, 429, 501):
            failure = provider.read_failure(Refusal(response.status, response.headers, body), candidate.offer, now)
            failure = given_back(scrubbed(failure, access.token.value.reveal()), seat)
            return failure if failure.blame is Blame.REQUEST else None
        if response.status != 429:
            self._unsupported[seat.stored, candidate.offer.model] = after(now, UNSUPPORTED_SECONDS)
        return None


def _number(body: bytes) -> int | None:
    """The count; None where there is none, or none that can be."""
    try:
        return max(0, msgspec.json.decode(body, type=_Count).input_tokens) or None
    except (msgspec.MsgspecError, RecursionError):
        return None
