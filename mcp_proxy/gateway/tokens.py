"""What goes on the wire for an account: a key as it is, a token that is minted when it is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import structlog

from accounts.model import (
    Account,
    ApiKey,
    CallersOwn,
    ClaudeCodeLogin,
    Credential,
    OAuthGrant,
    Token,
    Works,
    secrets_of,
)
from mcp_proxy.core.failure import Blame, Failure, scrubbed
from mcp_proxy.core.http import NetworkTrouble, Transport
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.provider import Access, Provider
from mcp_proxy.core.time import Clock
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.held import Held, Setback, setback
from mcp_proxy.gateway.jobs import FIRST_PAUSE, LONGEST_PAUSE, Jobs
from mcp_proxy.gateway.ledger import Ledger
from mcp_proxy.gateway.logins import ReadLogin, login_failure, no_login
from mcp_proxy.gateway.minting import Minter

log = structlog.get_logger("mcp_proxy.tokens")

SPARE_SECONDS = 300.0
"""A token with less left than this is renewed before it is used (facts: 2.7)."""

EARLY_SECONDS = 600.0
"""One of an account in use is renewed in the background once it has less left than this."""

LOOK_SECONDS = 30.0
ANEW_SECONDS = 24 * 3600.0
"""What was learnt of an account in use is asked for again after this: a project may be moved (facts: 3.4)."""

VERIFY_SECONDS = 90.0
"""How long a provider may take to say what must be known of an account: it may have to set one up first."""

ALL_SECONDS = 60.0
SETTLE_SECONDS = 1.5


class Tokens:
    """Credentials to access. What has to be minted or learnt first is, once for all who wait.

    refused  told of an account whose credential its provider does not take any more, and why
    login    reads a login that another program keeps; blocks
    """

    def __init__(
        self,
        catalog: Catalog,
        client: Callable[[AccountId, str], Transport],
        ledger: Ledger,
        jobs: Jobs,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._catalog, self._client, self._ledger = catalog, client, ledger
        self._jobs, self._clock, self._rng = jobs, clock, rng
        self._held: dict[AccountId, Held] = {}
        self._wrong_clients: dict[tuple[str, str | None], Setback] = {}
        self._minter = Minter(catalog, client, ledger, jobs, clock, lambda account: self._held.get(account))
        self.writing = self._minter.writing
        self.login: ReadLogin = no_login
        self.refused: Callable[[AccountId, Credential, str], None] = lambda account, credential, why: None

    def replace_all(self, credentials: Mapping[AccountId, Credential]) -> None:
        """Take over what the vault holds now; what is known of a credential that stays is kept."""
        kept: dict[AccountId, Held] = {}
        for account, credential in credentials.items():
            held = self._held.get(account)
            if held is None or not held.is_of(credential):
                held = Held(credential)
            else:
                held.take(credential)
            kept[account] = held
        self._held = kept

    def credential(self, account: AccountId) -> Credential | None:
        """What the account signs with now; None once the account is gone."""
        held = self._held.get(account)
        return held.credential if held is not None else None

    def token(self, account: AccountId) -> Token | None:
        """The account's token; None where it has to be minted, or the account is gone."""
        held = self._held.get(account)
        return held.token if held is not None else None

    def ready(self, account: Account, refused: Token | None = None) -> Access | None:
        """How the account is asked, where nothing has to be waited for; else None."""
        held = self._held.get(account.id)
        if held is None or held.token is None or self._is_short(held, SPARE_SECONDS):
            return None
        if refused is not None and refused.value == held.token.value:
            return None
        provider = self._catalog.provider(account)
        if provider is None or (provider.needs and _lacks(provider, account, held)):
            return None
        return self._access(account, held, held.token)

    async def access(self, account: Account, refused: Token | None = None) -> Access | Failure:
        """How the account is asked. Does not wait where there is a key, or a token that lives long enough.

        refused  the token that its provider would not take: another is minted, unless that was done already
        """
        return self.ready(account, refused) or await self._prepared(account, refused, known=True)

    async def signed(self, account: Account, refused: Token | None = None) -> Access | Failure:
        """The same, whether or not all is known of the account."""
        return self.ready(account, refused) or await self._prepared(account, refused, known=False)

    async def renewed(self, account: Account) -> Failure | None:
        """Mint a token though the one at hand may be good; one that is a minute old counts as new."""
        held, provider = self._held.get(account.id), self._catalog.provider(account)
        if held is None or provider is None or not isinstance(held.credential, OAuthGrant):
            return Failure(Blame.CONFIG, 500, "api_error", f"{account.provider}: nothing to renew")
        if held.kept > self._loop_time():
            return None
        old = held.token
        return await self._work(account, provider, held, lambda: held.token == old or self._is_short(held), known=False)

    async def renew_all(self, accounts: Iterable[Account]) -> dict[AccountId, str | None]:
        """Renew the tokens of those that have such; None, or why that failed."""
        work = {
            account.id: self._jobs.start("renew", self.renewed(account))
            for account in accounts
            if isinstance(self.credential(account.id), OAuthGrant)
        }
        if work:
            await asyncio.wait(work.values(), timeout=ALL_SECONDS)
        return {account: _outcome(task) for account, task in work.items()}

    async def keep_fresh(self, used: Callable[[], Iterable[Account]]) -> None:
        """Renew the tokens of the accounts in use shortly before they expire, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for account in used():
                self._renew_early(account)
                self._learn_anew(account)

    def _learn_anew(self, account: Account) -> None:
        held, provider, now = self._held.get(account.id), self._catalog.provider(account), self._loop_time()
        if held is None or provider is None or not provider.needs or held.token is None:
            return
        if held.asked is None:
            held.asked = now
        elif now - held.asked >= ANEW_SECONDS and (held.work is None or held.work.done()):
            held.work = self._jobs.start("learn anew", self._learn(account, provider, held))

    def _renew_early(self, account: Account) -> None:
        held, provider = self._held.get(account.id), self._catalog.provider(account)
        minted = held is not None and isinstance(held.credential, OAuthGrant)
        if held is not None and minted and provider is not None and self._is_short(held, EARLY_SECONDS):
            self._begin(account, provider, held, lambda: self._is_short(held, EARLY_SECONDS))

    async def settle(self) -> None:
        """Before the end: let what is being minted be saved, if that is soon."""
        work = {held.work for held in self._held.values() if held.work is not None and not held.work.done()}
        if work:
            await asyncio.wait(work, timeout=SETTLE_SECONDS)
        unsaved = [(account, held) for account, held in self._held.items() if held.stored is not None]
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                for account, held in unsaved:
                    await self._minter.save_now(account, held)
        except TimeoutError:
            log.error("renewed tokens not saved", accounts=len(unsaved))

    async def _prepared(self, account: Account, refused: Token | None, *, known: bool) -> Access | Failure:
        held, provider = self._held.get(account.id), self._catalog.provider(account)
        if held is None or provider is None or self._catalog.base_url(account) is None:
            return Failure(Blame.CONFIG, 502, "api_error", f"{account.provider}: no address or no credential")
        if refused is not None:
            if isinstance(held.credential, ApiKey):
                return Failure(Blame.ACCOUNT, 401, "authentication_error", "the key is refused")
            held.drop(refused)
        if isinstance(held.credential, CallersOwn):
            return Failure(Blame.CONFIG, 502, "api_error", f"{account.provider}: each request brings its own login")
        if isinstance(held.credential, ClaudeCodeLogin):
            return await self._read(account, held.credential, refused)
        failure: Failure | None = None
        for _ in range(2):  # what was under way may have been begun before this token was refused
            failure = await self._work(
                account, provider, held, partial(self._is_short, held, SPARE_SECONDS), known=known
            )
            held = self._held.get(account.id, held)
            if failure is not None or (held.token is not None and not (known and _lacks(provider, account, held))):
                break
        token = held.token
        if token is None or (failure is not None and self._is_short(held, 0.0)):
            return failure or Failure(Blame.PROVIDER, 503, "api_error", "the token was replaced meanwhile; try again")
        if known and _lacks(provider, account, held):
            return failure or Failure(Blame.PROVIDER, 503, "api_error", "the account changed meanwhile; try again")
        # a token that still lives serves while it cannot be renewed
        return self._access(account, held, token) or Failure(Blame.CONFIG, 502, "api_error", "no address")

    async def _read(self, account: Account, login: ClaudeCodeLogin, refused: Token | None) -> Access | Failure:
        """The login as it lies there now, of which nothing is kept; nobody but its program renews it."""
        token, now = await asyncio.to_thread(self.login, login), self._clock.now()
        if isinstance(token, str):
            return login_failure(token, now)
        if token.expires_at is not None and token.expires_at <= now:
            return login_failure("the login has expired", now)
        if refused is not None and refused.value == token.value:
            return login_failure("the login is refused", now)
        return self._catalog.access(account, token) or Failure(Blame.CONFIG, 502, "api_error", "no address")

    async def _work(
        self, account: Account, provider: Provider, held: Held, wanted: Callable[[], bool], *, known: bool
    ) -> Failure | None:
        """What came of making the account ready: of what is under way, remembered, or begun now."""
        work = self._begin(account, provider, held, wanted, known=known)
        if isinstance(work, Failure):
            return work
        await asyncio.wait({work})  # whoever waits may leave: the work goes on
        return Failure(Blame.NETWORK, 503, "api_error", "going down") if work.cancelled() else work.result()

    def _begin(
        self, account: Account, provider: Provider, held: Held, wanted: Callable[[], bool], *, known: bool = False
    ) -> asyncio.Task[Failure | None] | Failure:
        if held.work is not None and not held.work.done():
            return held.work
        remembered = self._remembered(account, held)
        if remembered is not None:
            return remembered
        work = self._prepare(account, provider, held, wanted, known)
        held.work = self._jobs.start("make ready", work)
        return held.work

    async def _prepare(
        self, account: Account, provider: Provider, held: Held, wanted: Callable[[], bool], known: bool
    ) -> Failure | None:
        failure: Failure | None = None
        if isinstance(held.credential, OAuthGrant) and wanted():
            failure = await self._minter.renew(account, provider, held, wanted)
        if failure is None and known and _lacks(provider, account, held):
            failure = await self._learn(account, provider, held)
            if failure is not None and failure.blame is Blame.ACCOUNT and self._may_be_stale(held):
                # it may be the token alone that was refused, which says nothing of the account
                failure = await self._minter.renew(account, provider, held, partial(self._is_short, held))
                failure = failure or await self._learn(account, provider, held)
        if failure is None:
            held.setback = None
            self._wrong_clients.pop(self._client_key(account, held), None)
            return None
        return self._remember(account, held, failure)

    def _remembered(self, account: Account, held: Held) -> Failure | None:
        now = self._loop_time()
        for known in (held.setback, self._wrong_clients.get(self._client_key(account, held))):
            if known is not None and known.until > now:
                return known.failure
        return None

    def _remember(self, account: Account, held: Held, failure: Failure) -> Failure:
        if failure.blame is Blame.ACCOUNT:
            again = f"; sign in again: proxy accounts add --provider {account.provider}"
            if failure.status == 401 and not failure.message.endswith(again):
                failure = replace(failure, message=failure.message[: 300 - len(again)] + again)
            self.refused(account.id, held.credential, failure.message)
        loop_time, key = self._loop_time(), self._client_key(account, held)
        if failure.blame is Blame.CONFIG:  # the client's, so all its accounts have it
            before = self._wrong_clients.get(key)
            self._wrong_clients[key] = setback(failure, before, loop_time, self._clock.now(), self._rng)
            if before is None:
                log.error("tokens cannot be renewed", provider=account.provider, error=failure.message)
        else:
            held.setback = setback(failure, held.setback, loop_time, self._clock.now(), self._rng)
            log.warning("token not renewed", account=account.id, provider=account.provider, error=failure.message)
        return failure

    def _client_key(self, account: Account, held: Held) -> tuple[str, str | None]:
        grant = held.credential
        client = self._minter.client_of(account, grant) if isinstance(grant, OAuthGrant) else None
        return account.provider, client.id if client is not None else None

    async def _learn(self, account: Account, provider: Provider, held: Held) -> Failure | None:
        """Have the provider say what must be known of the account, and keep it."""
        token = held.token
        access = self._access(account, held, token) if token is not None else None
        held.asked = self._loop_time()
        if access is None:
            return Failure(Blame.CONFIG, 502, "api_error", f"{account.provider}: no address or no credential")
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                transport = self._client(account.id, access.base_url)
                verdict = await provider.verify(transport, access, self._clock.now())
        except TimeoutError:
            return Failure(Blame.PROVIDER, 503, "api_error", f"no answer within {VERIFY_SECONDS:g} s")
        except NetworkTrouble as trouble:
            return Failure(Blame.PROVIDER, 503, "api_error", str(trouble))
        except Exception as exc:  # a form that breaks is no reason to ask with every request
            log.error("asking about an account broke", account=account.id, error=type(exc).__name__)
            return Failure(Blame.PROVIDER, 503, "api_error", "the provider's answer cannot be read")
        held.learnt = {**held.learnt, **verdict.learnt}
        failure = None
        if verdict.works is Works.REFUSED:
            detail = verdict.detail or "refused by the provider"
            failure = Failure(Blame.ACCOUNT, 403, "permission_error", detail)
        elif verdict.works is Works.UNREACHABLE:
            failure = Failure(Blame.PROVIDER, 503, "api_error", verdict.detail or "the provider gave no answer")
        elif lacking := _lacks(provider, account, held):
            failure = Failure(Blame.PROVIDER, 503, "api_error", f"the provider did not say its {', '.join(lacking)}")
        if verdict.learnt:
            self._jobs.start("save what was learnt", self._save_learnt(account.id, held, dict(verdict.learnt)))
        return _without_secrets(failure, held) if failure is not None else None

    async def _save_learnt(self, account: AccountId, held: Held, learnt: Mapping[str, str]) -> None:
        """Keep what was learnt; until that works it is in memory, named once, and tried again and again."""
        pause = FIRST_PAUSE
        while self._held.get(account) is held:
            try:
                async with self.writing:
                    await asyncio.to_thread(self._ledger.learn, account, held.stored or held.credential, learnt)
            except Exception as exc:
                if pause == FIRST_PAUSE:
                    log.error("what was learnt of an account is not saved", account=account, error=str(exc))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    def _is_short(self, held: Held, spare: float = SPARE_SECONDS) -> bool:
        """Whether a token has to be minted before this one is used, or there is none."""
        token = held.token
        if token is None:
            return True
        until = token.expires_at
        if until is None or until - self._clock.now() > spare:
            return False
        return held.kept <= self._loop_time()

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    def _may_be_stale(self, held: Held) -> bool:
        """Drop a token that was not minted just now; whether there was such."""
        if held.token is None or not isinstance(held.credential, OAuthGrant):
            return False
        if held.kept > self._loop_time():
            return False
        held.drop(held.token)
        return True

    def _access(self, account: Account, held: Held, token: Token) -> Access | None:
        if held.learnt:
            account = replace(account, extra={**held.learnt, **account.extra})
        return self._catalog.access(account, token)


def _lacks(provider: Provider, account: Account, held: Held) -> list[str]:
    return [key for key in provider.needs if not account.extra.get(key) and not held.learnt.get(key)]


def _without_secrets(failure: Failure, held: Held) -> Failure:
    return scrubbed(failure, *(secret.reveal() for secret in secrets_of(held.credential)))


def _outcome(task: asyncio.Task[Failure | None]) -> str | None:
    if not task.done() or task.cancelled():
        return "no answer in time"
    failure = task.result()
    return failure.message if failure is not None else None
