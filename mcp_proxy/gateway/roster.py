"""The accounts in use: read from the vault, followed as it changes, and told when a credential is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from accounts.model import Account, Credential, same_credential
from mcp_proxy.core.ids import AccountId, ProviderName
from mcp_proxy.core.provider import Listed
from mcp_proxy.gateway.catalog import Catalog, Options
from mcp_proxy.gateway.jobs import FIRST_PAUSE, LONGEST_PAUSE, Jobs
from mcp_proxy.gateway.ledger import Ledger
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.routing.budget import Budget

log = structlog.get_logger("mcp_proxy.accounts")

LOOK_SECONDS = 0.5
MAX_REASON = 1000
"""Characters; an address at which a person has to verify an account fits."""


class Roster:
    """Follows the ledger, and makes seats of what it holds.

    fixed    accounts that come with the configuration
    changed  called after each change, with the ids now in use
    """

    def __init__(
        self,
        ledger: Ledger,
        fixed: Sequence[tuple[Account, Credential]],
        catalog: Catalog,
        pool: Pool,
        tokens: Tokens,
        jobs: Jobs,
        changed: Callable[[Sequence[AccountId]], None],
    ) -> None:
        self._ledger, self._fixed, self._catalog = ledger, tuple(fixed), catalog
        self._pool, self._tokens, self._jobs, self._changed = pool, tokens, jobs, changed
        self._stamp: object = None
        self._held: Sequence[tuple[Account, Credential]] = ()
        self._listed: Mapping[AccountId, tuple[Listed, ...]] = {}
        self._refusals: dict[AccountId, tuple[Credential, str]] = {}
        self._idle: list[str] = []
        self._failing = False
        self.open = False

    async def load(self) -> bool:
        """Read the ledger and take its accounts over; whether anything but tokens was new.

        Raises what the ledger raises; then all stays as it was.
        """
        stamp = await asyncio.to_thread(self._ledger.stamp)
        if stamp is None and self._stamp is not None:
            raise FileNotFoundError("the account store is gone")  # not the same as one that is empty
        held, before = tuple(await asyncio.to_thread(self._ledger.read)), self._held
        self._stamp, self._held = stamp, held
        if self.open and _same_credentials(before, held) and self._all_seated():
            self._tokens.replace_all(self._credentials())
            return False
        self.open = True
        self._seat_all()
        return True

    async def follow(self) -> None:
        """Take over what other processes write, for ever. An unreadable store is named once; we serve on."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self._ledger.stamp) != self._stamp and await self.load():
                    log.info("accounts reloaded", accounts=len(self._pool.seats))
                self._failing = False
            except Exception as exc:  # whatever the store's trouble is, the accounts in memory still serve
                if not self._failing:
                    log.error("account store unreadable, serving from memory", error=str(exc))
                self._failing = True

    def refit(
        self,
        fixed: Sequence[tuple[Account, Credential]],
        options: Mapping[ProviderName, Options],
        budgets: Mapping[str, tuple[Budget, ...]],
    ) -> set[AccountId]:
        """Take over what the configuration says now; the accounts that are asked elsewhere, or with another key.

        What those listed as their models is forgotten.
        """
        before = self._reached()
        self._fixed = tuple(fixed)
        self._catalog.refit(options, budgets)
        after = self._reached()
        moved = {account for account, way in after.items() if before.get(account) != way}
        self._listed = {account: listed for account, listed in self._listed.items() if account not in moved}
        if self.open:
            self._seat_all()
        return moved

    def _reached(self) -> dict[AccountId, object]:
        """Where and with what each account is asked."""
        return {
            account.id: (self._catalog.base_url(account), account.auth, credential)
            for account, credential in (*self._held, *self._fixed)
        }

    def discovered(self, account: AccountId, listed: tuple[Listed, ...]) -> None:
        """An account's own list of models was read."""
        if self._listed.get(account) != listed:
            self._listed = {**self._listed, account: listed}
            self._seat_all()

    def refused(self, account: AccountId, credential: Credential, why: str) -> None:
        """A credential is refused: out of use at once, and marked so in the store.

        It may be an old one that its owner has replaced meanwhile: that says nothing of the new.
        """
        why = why[:MAX_REASON]
        if not same_credential(self._tokens.credential(account), credential):
            return
        marked, _ = self._refusals.get(account, (None, ""))
        if marked is not None and same_credential(marked, credential):
            return  # each request that was under way is refused
        log.warning("credential refused", account=account, error=why)
        self._refusals[account] = (credential, why)
        self._pool.mark_invalid(account, why)
        if any(held.id == account for held, _ in self._held):
            self._jobs.start("mark invalid", self._mark(account, credential, why))

    async def _mark(self, account: AccountId, credential: Credential, why: str) -> None:
        """Put the mark into the store; until that works it is in memory, named once, and tried again and again."""
        pause, mark = FIRST_PAUSE, (credential, why)
        while self._refusals.get(account) == mark:
            try:
                async with self._tokens.writing:
                    await asyncio.to_thread(self._ledger.mark_invalid, account, credential, why)
            except Exception as exc:
                if pause == FIRST_PAUSE:
                    log.error("invalid mark not saved", account=account, error=str(exc))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._refusals.pop(account, None)  # from here on the store knows, and may be told otherwise

    def _seat_all(self) -> None:
        accounts = self._accounts()
        credentials = self._credentials()
        seats = [
            self._catalog.seat(account, self._listed.get(account.id), credentials.get(account.id))
            for account in accounts
        ]
        for account, seat in zip(accounts, seats, strict=True):
            if seat is None:
                log.warning("unknown provider, account left out", account=account.id, provider=account.provider)
        self._pool.replace_all(seat for seat in seats if seat is not None)
        self._tokens.replace_all(credentials)
        self._catalog.keep_only(account.id for account in accounts)
        self._tell_idle_budgets(accounts)
        self._changed([account.id for account in accounts])

    def _tell_idle_budgets(self, accounts: Sequence[Account]) -> None:
        """Name once what guards nobody: whoever mistypes a label believes that a budget holds."""
        idle = self._catalog.idle_budgets(accounts)
        if idle and idle != self._idle:
            log.warning("a budget is set for no account that is there", accounts=idle)
        self._idle = idle

    def _accounts(self) -> list[Account]:
        return [self._with_refusal(*entry) for entry in (*self._held, *self._fixed)]

    def _all_seated(self) -> bool:
        """Whether the seats say of each account what the ledger says."""
        known = [account for account in self._accounts() if self._catalog.provider(account) is not None]
        return known == [seat.account for seat in self._pool.seats]

    def _credentials(self) -> dict[AccountId, Credential]:
        return {account.id: credential for account, credential in (*self._held, *self._fixed)}

    def _with_refusal(self, account: Account, credential: Credential) -> Account:
        """The account with the mark that is not in the store, or not yet."""
        refused, why = self._refusals.get(account.id, (None, ""))
        return (
            replace(account, invalid=why) if refused is not None and same_credential(refused, credential) else account
        )


def _same_credentials(before: Sequence[tuple[Account, Credential]], now: Sequence[tuple[Account, Credential]]) -> bool:
    """Whether nothing was minted but tokens: then the seats need not be made anew."""
    return len(before) == len(now) and all(
        old.id == new.id and same_credential(one, other) for (old, one), (new, other) in zip(before, now, strict=True)
    )
