"""One seat is asked: its token, the request, and its answer up to the first content, or why there is none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import msgspec

from accounts.model import ClaudeCodeLogin, Credential, OAuthGrant, Token, secrets_of
from mcp_proxy.core.failure import Blame, Failure, hidden_bytes, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Trouble, header
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access, Offer, Provider
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.gateway.answer import Answer, network_failure, read_answer
from mcp_proxy.gateway.apart import apart
from mcp_proxy.gateway.callers import given_back, own_access
from mcp_proxy.gateway.logins import login_failure
from mcp_proxy.gateway.surroundings import Surroundings
from mcp_proxy.gateway.waiting import Waiting
from mcp_proxy.routing.facts import Seat
from mcp_proxy.routing.react import on_quotas

HEAD_SECONDS = 100.0
"""How long a seat may be silent while another could be asked. Real heads under load come within a minute."""

RENEWED = (OAuthGrant, ClaudeCodeLogin)
"""The credentials whose token may be another by now: one that is refused is worth a second look."""

UPSTREAM_IDS = ("request-id", "x-request-id", "x-cloudaicompanion-trace-id")
"""What upstreams call the id that their people find a request by; the last is Google's."""


@dataclass(slots=True)
class Asking:
    """Asks the seats of one request, one at a time. All but the first three are of the seat that was asked last.

    ask          what is asked; without what another model signed, once a seat has refused that
    credential   what is kept for its account; None for a caller's own
    token        what it was asked with
    asked        whether its address was: without a token, or a body that can be written for it, it is not
    upstream_id  what its upstream calls the request
    cleaned      why the body did not go as it came, a reason each
    """

    ask: Ask
    around: Surroundings
    waiting: Waiting
    credential: Credential | None = None
    token: Token | None = None
    asked: bool = False
    upstream_id: str | None = None
    cleaned: tuple[str, ...] = ()

    async def open(self, seat: Seat, offer: Offer, others: bool) -> Answer | Failure:
        """Ask one seat; once more with a fresh token, and once more without what another model signed.

        Where that is refused too, the first refusal is what the client hears: it knows what to do about a signature.
        """
        around = self.around
        self.asked, self.upstream_id, self.cleaned = False, None, ()
        provider = around.catalog.provider(seat.account)
        access = own_access(seat, self.ask, around.catalog) or around.tokens.ready(seat.account)
        access = access or await self._access(seat, None, others)
        renewed = False
        signature: Failure | None = None
        while True:
            self.credential = around.tokens.credential(seat.id)
            if provider is None or isinstance(access, Failure):
                return access if isinstance(access, Failure) else _unknown(seat)
            self.token = access.token
            result = await self._read(seat, offer, provider, access, others)
            if isinstance(result, Answer):
                return result
            if result.unsigned and not self.ask.unsigned:
                self.ask, signature = msgspec.structs.replace(self.ask, unsigned=True), result
            elif result.blame is Blame.TOKEN and not renewed and isinstance(self.credential, RENEWED):
                access, renewed = await self._access(seat, access.token, others), True
            else:
                break
        if signature is not None and result.blame is Blame.REQUEST:
            result = signature
        result = given_back(self.scrubbed(result), seat)
        if renewed and result.blame is Blame.TOKEN and isinstance(self.credential, ClaudeCodeLogin):
            return login_failure("the login is refused", around.clock.now())
        if renewed and result.blame is Blame.TOKEN:
            # its sign-in is good, or nothing could have been minted from it: the upstream errs, and not for ever
            return replace(result, blame=Blame.ACCOUNT, limit=ACCOUNT, retry_at=None)
        return result

    async def _access(self, seat: Seat, refused: Token | None, others: bool) -> Access | Failure:
        """How the seat is asked, which may have to be waited for; whoever does that is not what makes it happen."""
        seconds = min(self.waiting.left, HEAD_SECONDS) if others else self.waiting.left
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                return await self.around.tokens.access(seat.account, refused)
        except TimeoutError:
            return Failure(Blame.NETWORK, 504, "timeout_error", f"{seat.provider}: no token in time")

    def _secrets(self) -> list[str]:
        """What the account that was asked last must not be quoted with."""
        held = secrets_of(self.credential) if self.credential is not None else ()
        return [secret.reveal() for secret in (*held, *((self.token.value,) if self.token is not None else ()))]

    def scrubbed(self, failure: Failure) -> Failure:
        """The failure without them."""
        return scrubbed(failure, *self._secrets())

    async def _read(
        self, seat: Seat, offer: Offer, provider: Provider, access: Access, others: bool
    ) -> Answer | Failure:
        around = self.around
        seconds = self.waiting.left
        if others and self.ask.stream:  # a message that is not streamed has its head when it is finished
            seconds = min(seconds, HEAD_SECONDS)
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                transport = around.client(seat.stored, access.base_url)
                request = await apart(provider.request, len(self.ask.body), self.ask, offer, access)
                if isinstance(request, Failure):
                    return request
                self.cleaned, self.asked = request.cleaned, True
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

    def without_key(self, frames: bytes) -> bytes:
        """Frames with an `error` event among them, without the account's key, which an upstream may quote in one."""
        for secret in filter(None, self._secrets()):
            frames = hidden_bytes(frames, secret)
        return frames


def _unknown(seat: Seat) -> Failure:
    return Failure(Blame.CONFIG, 502, "api_error", f"{seat.provider}: no such provider")
