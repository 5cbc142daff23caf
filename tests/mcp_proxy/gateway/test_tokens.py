from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from accounts.model import (
    Account,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
    Verdict,
    Works,
)
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import Transport
from mcp_proxy.core.ids import AccountId, ProviderName
from mcp_proxy.core.provider import Access, Minted, Minting
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import minting
from mcp_proxy.gateway.catalog import Options
from tests.mcp_proxy.gateway.kit import CLIENT, SIGN_IN, FakeLedger, House, entry, grant, sayso, signed_in, until
from tests.mcp_proxy.routing.seats import NOW

A, B = AccountId("a"), AccountId("b")
TROUBLE = Failure(Blame.PROVIDER, 503, "api_error", "not now")
DEAD = Failure(Blame.ACCOUNT, 401, "authentication_error", "the sign-in is no longer good")


@dataclass
class Issuer:
    """A token endpoint in a function: says these in turn, the last for ever; a number is how long its token lives."""

    says: list[object] = field(default_factory=lambda: [3600.0])
    asked: list[Minting] = field(default_factory=list)
    gate: asyncio.Event | None = None
    at_once: int = 0
    most_at_once: int = 0

    async def mint(self, transport: Transport, minting: Minting, now: Instant) -> Minted | Failure:
        self.asked.append(minting)
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await (self.gate.wait() if self.gate is not None else asyncio.sleep(0.01))
        finally:
            self.at_once -= 1
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Failure | Minted):
            return said
        lives = said if isinstance(said, float) else None
        return Minted(Token(Secret(f"sk-fake-minted-{len(self.asked)}"), None if lives is None else now + lives))


Open = Callable[..., Awaitable["Room"]]


@dataclass
class Room:
    """A house with an issuer."""

    house: House
    issuer: Issuer

    @property
    def ledger(self) -> FakeLedger:
        return self.house.ledger

    def account(self, name: str = "a") -> Account:
        seat = self.house.pool.seat(AccountId(name))
        assert seat is not None
        return seat.account

    async def access(self, name: str = "a", refused: Token | None = None) -> Access | Failure:
        return await self.house.tokens.access(self.account(name), refused)

    async def token(self, name: str = "a", refused: Token | None = None) -> str:
        access = await self.access(name, refused)
        assert isinstance(access, Access), access
        return access.token.value.reveal()

    async def failure(self, name: str = "a", refused: Token | None = None) -> Failure:
        failure = await self.access(name, refused)
        assert isinstance(failure, Failure)
        return failure

    async def window_over(self, name: str = "a") -> None:
        """As if the time had passed in which a failure is remembered, and a new token kept."""
        known = self.house.tokens._held[AccountId(name)]
        known.setback = replace(known.setback, until=-math.inf) if known.setback else None
        known.kept = -math.inf
        wrong = self.house.tokens._wrong_clients
        wrong.update({key: replace(setback, until=-math.inf) for key, setback in wrong.items()})


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    monkeypatch.setattr(minting, "FIRST_PAUSE", 0.01)
    made: list[House] = []

    async def make(
        *entries: object, issuer: Issuer | None = None, options: Options | None = None, **how: object
    ) -> Room:
        issuer = issuer or Issuer()
        form = sayso(**{"sign_in": SIGN_IN, "mint": issuer.mint, **how})
        ledger = FakeLedger(list(entries) or [signed_in("a")])  # type: ignore[arg-type]
        house = House(ledger, form, options={ProviderName("sayso"): options or Options()})
        made.append(house)
        await house.roster.load()
        return Room(house, issuer)

    yield make
    for house in made:
        await house.tokens.settle()
        await house.jobs.stop()


async def test_a_key_is_its_own_token_and_waits_for_nothing(opened: Open) -> None:
    room = await opened(entry("a"))
    coroutine = room.access()
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)  # not once suspended
    assert ended.value.value.token == Token(Secret("sk-fake-key-of-a"))


async def test_a_token_with_more_than_five_minutes_left_is_used_at_once(opened: Open) -> None:
    room = await opened(signed_in("a", left=301.0))
    with pytest.raises(StopIteration) as ended:
        room.access().send(None)
    assert ended.value.value.token.value == Secret("sk-fake-stored-token-of-a")
    assert room.issuer.asked == []


async def test_one_with_less_is_renewed_first(opened: Open) -> None:
    room = await opened(signed_in("a", left=299.0))
    assert await room.token() == "sk-fake-minted-1"


async def test_a_hundred_who_meet_an_expired_token_have_one_minted(opened: Open) -> None:
    room = await opened()
    assert set(await asyncio.gather(*(room.token() for _ in range(100)))) == {"sk-fake-minted-1"}
    assert len(room.issuer.asked) == 1


async def test_it_is_durable_before_anybody_has_it(opened: Open) -> None:
    room = await opened(issuer=Issuer([Minted(Token(Secret("sk-fake-new"), NOW + 3600), Secret("sk-fake-rotated"))]))
    saved: list[object] = []
    room.ledger.saving = lambda: saved.append(room.house.tokens.token(A))
    assert await room.token() == "sk-fake-new"
    assert saved == [grant("a").token], "used before it was saved"
    assert room.ledger.held("a") == OAuthGrant(
        Secret("sk-fake-rotated"), CLIENT, Token(Secret("sk-fake-new"), NOW + 3600)
    )


async def test_what_another_process_minted_is_used(opened: Open) -> None:
    room = await opened()
    account, _ = room.ledger.entries[0]
    room.ledger.entries = [(account, grant("a", left=3600.0))]  # not yet followed
    assert await room.token() == "sk-fake-stored-token-of-a"
    assert room.issuer.asked == []


async def test_another_process_that_renews_it_is_waited_for(opened: Open) -> None:
    room = await opened()
    account, _ = room.ledger.entries[0]
    room.ledger.alone_with.add("a")
    waiting = asyncio.ensure_future(room.token())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    room.ledger.entries = [(account, replace(grant("a", left=3600.0), refresh_token=Secret("sk-fake-rotated")))]
    room.ledger.alone_with.clear()
    assert await waiting == "sk-fake-stored-token-of-a"
    assert room.issuer.asked == []


async def test_one_at_a_time_is_asked_of_an_issuer(opened: Open) -> None:
    room = await opened(*(signed_in(name) for name in "abcd"))
    await asyncio.gather(*(room.token(name) for name in "abcd"))
    assert (len(room.issuer.asked), room.issuer.most_at_once) == (4, 1)


async def test_whoever_leaves_does_not_end_it(opened: Open) -> None:
    room = await opened(issuer=Issuer(gate=asyncio.Event()))
    leaving = asyncio.ensure_future(room.token())
    await until(lambda: room.issuer.asked)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert room.issuer.gate is not None
    room.issuer.gate.set()
    assert await room.token() == "sk-fake-minted-1"
    assert len(room.issuer.asked) == len(room.ledger.renewed) == 1


async def test_a_failure_is_remembered_and_the_account_stays_good(opened: Open) -> None:
    room = await opened(issuer=Issuer([TROUBLE]))
    for _ in range(5):
        assert (await room.failure()).blame is Blame.PROVIDER
    assert len(room.issuer.asked) == 1
    assert room.account().invalid is None and room.ledger.marked == []
    await room.window_over()
    await room.failure()
    assert len(room.issuer.asked) == 2


async def test_each_failure_in_a_row_is_remembered_longer(opened: Open) -> None:
    room = await opened(issuer=Issuer([TROUBLE]))
    windows = []
    for _ in range(4):
        await room.failure()
        setback = room.house.tokens._held[A].setback
        assert setback is not None
        windows.append(setback.until - asyncio.get_running_loop().time())
        await room.window_over()
    assert all(later > earlier * 1.2 for earlier, later in pairwise(windows)), windows


async def test_an_issuer_that_says_when_is_not_asked_before(opened: Open) -> None:
    room = await opened(issuer=Issuer([replace(TROUBLE, status=429, retry_at=Instant(NOW + 120))]))
    await room.failure()
    setback = room.house.tokens._held[A].setback
    assert setback is not None and 115 < setback.until - asyncio.get_running_loop().time() <= 120


async def test_after_success_the_next_failure_counts_as_the_first(opened: Open) -> None:
    room = await opened(issuer=Issuer([TROUBLE, 100.0, TROUBLE]))
    await room.failure()
    await room.window_over()
    await room.token()
    await room.window_over()
    room.house.clock.at += 200
    await room.failure()
    setback = room.house.tokens._held[A].setback
    assert setback is not None and setback.strikes == 1


async def test_a_dead_grant_retires_its_account_and_says_what_to_do(opened: Open) -> None:
    room = await opened(signed_in("a"), signed_in("b"), issuer=Issuer([DEAD, 3600.0]))
    failure = await room.failure("a")
    assert failure.blame is Blame.ACCOUNT
    assert "proxy accounts add --provider sayso" in failure.message
    assert room.account("a").invalid == failure.message
    await until(lambda: room.ledger.marked == [("a", failure.message)])
    assert await room.token("b") == "sk-fake-minted-2"


async def test_a_wrong_client_is_nobodys_fault_and_asked_about_once_for_all(opened: Open) -> None:
    wrong = Failure(Blame.CONFIG, 500, "api_error", "the OAuth client is refused")
    room = await opened(signed_in("a"), signed_in("b"), issuer=Issuer([wrong]))
    for name in "abab":
        assert (await room.failure(name)).blame is Blame.CONFIG
    assert len(room.issuer.asked) == 1
    assert room.account("a").invalid is None and room.account("b").invalid is None


async def test_without_a_client_the_settings_that_hold_one_are_named(opened: Open) -> None:
    account, _ = entry("a")
    room = await opened((account, grant("a", client=None)))
    failure = await room.failure()
    assert failure.blame is Blame.CONFIG
    assert "SAYSO_CLIENT_ID and SAYSO_CLIENT_SECRET" in failure.message
    assert room.issuer.asked == []


@pytest.mark.parametrize(
    ("own", "configured", "used"),
    [
        (CLIENT, None, CLIENT),
        (CLIENT, OAuthClient("another", Secret("sk-fake-another")), CLIENT),
        (CLIENT, OAuthClient(CLIENT.id, Secret("sk-fake-newer")), OAuthClient(CLIENT.id, Secret("sk-fake-newer"))),
        (None, OAuthClient("another"), OAuthClient("another")),
    ],
)
async def test_a_grant_is_used_with_the_client_it_was_given_to(
    opened: Open, own: OAuthClient | None, configured: OAuthClient | None, used: OAuthClient
) -> None:
    account, _ = entry("a")
    room = await opened((account, grant("a", client=own)), options=Options(client=configured))
    await room.token()
    assert room.issuer.asked[0].client == used


async def test_a_token_that_still_lives_serves_while_it_cannot_be_renewed(opened: Open) -> None:
    room = await opened(signed_in("a", left=100.0), issuer=Issuer([TROUBLE]))
    assert await room.token() == "sk-fake-stored-token-of-a"
    room.house.clock.at += 101
    assert (await room.failure()).blame is Blame.PROVIDER
    assert len(room.issuer.asked) == 1


async def test_a_refused_token_is_dropped_and_one_minted(opened: Open) -> None:
    room = await opened(signed_in("a", left=3600.0))
    access = await room.access()
    assert isinstance(access, Access)
    tokens = await asyncio.gather(*(room.token(refused=access.token) for _ in range(10)))
    assert set(tokens) == {"sk-fake-minted-1"}
    assert len(room.issuer.asked) == 1


async def test_a_key_that_is_refused_cannot_be_renewed(opened: Open) -> None:
    room = await opened(entry("a"))
    failure = await room.failure(refused=Token(Secret("sk-fake-key-of-a")))
    assert (failure.blame, failure.status) == (Blame.ACCOUNT, 401)


@pytest.mark.parametrize("lives", [0.0, -5.0, 1.0, 240.0, None, math.inf])
async def test_whatever_a_new_token_says_of_its_life_nobody_mints_in_a_loop(opened: Open, lives: float | None) -> None:
    room = await opened(issuer=Issuer([lives]))
    for _ in range(5):
        assert await room.token() == "sk-fake-minted-1"
    assert len(room.issuer.asked) == 1


@pytest.mark.parametrize("step", [-7200.0, 3600.0, 1e9])
async def test_a_clock_that_jumps_costs_one_token_at_most(opened: Open, step: float) -> None:
    room = await opened(signed_in("a", left=3600.0))
    await room.token()
    room.house.clock.at += step
    for _ in range(5):
        await room.token()
    assert len(room.issuer.asked) <= 1


async def test_a_provider_that_breaks_is_asked_once_a_window(opened: Open) -> None:
    room = await opened(issuer=Issuer([ValueError("sk-fake-in-an-exception")]))
    for _ in range(3):
        assert (await room.failure()).blame is Blame.PROVIDER
    assert len(room.issuer.asked) == 1


async def test_an_issuer_that_hangs_is_given_up(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minting, "MINT_SECONDS", 0.05)
    room = await opened(issuer=Issuer(gate=asyncio.Event()))
    assert (await room.failure()).blame is Blame.NETWORK
    assert room.account().invalid is None


async def test_no_secret_is_quoted(opened: Open) -> None:
    quoted = "no: sk-fake-refresh-of-a sk-fake-client-secret sk-fake-stored-token-of-a"
    room = await opened(issuer=Issuer([replace(TROUBLE, message=quoted)]))
    assert (await room.failure()).message == "no: ... ... ..."


async def test_what_cannot_be_saved_is_used_from_memory_and_saved_later(opened: Open) -> None:
    rotated = Minted(Token(Secret("sk-fake-new"), NOW + 3600), Secret("sk-fake-rotated"))
    room = await opened(issuer=Issuer([rotated]))
    room.ledger.trouble = OSError("disk full")
    assert await room.token() == "sk-fake-new"
    room.ledger.trouble = None
    await room.house.roster.load()  # with what the store still has
    assert await room.token() == "sk-fake-new"
    await until(lambda: room.ledger.held("a") == OAuthGrant(Secret("sk-fake-rotated"), CLIENT, rotated.token))
    assert len(room.issuer.asked) == 1


async def test_what_was_minted_twice_before_it_could_be_saved_is_saved_as_it_is_last(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minting, "FIRST_PAUSE", 30.0)
    says = [Minted(Token(Secret(f"sk-fake-{n}"), NOW + 100), Secret(f"sk-fake-refresh-{n}")) for n in (1, 2)]
    room = await opened(issuer=Issuer([*says]))
    room.ledger.trouble = OSError("disk full")
    await room.token()
    await room.window_over()
    room.ledger.trouble = None
    assert await room.token() == "sk-fake-2"
    assert [minting.grant.refresh_token for minting in room.issuer.asked][1] == Secret("sk-fake-refresh-1")
    assert room.ledger.held("a") == OAuthGrant(Secret("sk-fake-refresh-2"), CLIENT, says[1].token)


async def test_a_new_sign_in_is_not_overwritten(opened: Open) -> None:
    room = await opened(issuer=Issuer(gate=asyncio.Event()))
    minting_now = asyncio.ensure_future(room.access())
    await until(lambda: room.issuer.asked)
    account, _ = room.ledger.entries[0]
    room.ledger.write((account, grant("signed-in-anew", left=3600.0)))
    await room.house.roster.load()
    assert room.issuer.gate is not None
    room.issuer.gate.set()
    await minting_now
    assert room.ledger.held("a") == grant("signed-in-anew", left=3600.0)
    assert await room.token() == "sk-fake-stored-token-of-signed-in-anew"


async def test_a_newer_token_in_the_store_changes_nothing_else(opened: Open) -> None:
    room = await opened(signed_in("a", left=3600.0))
    version, seat = room.house.pool.version, room.house.pool.seat(A)
    account, _ = room.ledger.entries[0]
    newer = replace(grant("a"), token=Token(Secret("sk-fake-newer"), NOW + 3000))
    room.ledger.write((account, newer))
    assert not await room.house.roster.load()
    assert (room.house.pool.version, room.house.pool.seat(A)) == (version, seat)
    assert await room.token() == "sk-fake-newer"


async def test_tokens_of_accounts_in_use_are_renewed_before_they_are_short(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_proxy.gateway.tokens.LOOK_SECONDS", 0.01)
    room = await opened(signed_in("a", left=500.0), signed_in("b", left=500.0), entry("c"))
    before = room.house.tokens.credential(A)
    room.house.jobs.run_forever("tokens", lambda: room.house.tokens.keep_fresh(lambda: [room.account("a")]))
    await until(lambda: room.house.tokens.credential(A) != before)  # used once it is saved, so a little later
    assert room.ledger.renewed and await room.token("a") == "sk-fake-minted-1"
    assert await room.token("b") == "sk-fake-stored-token-of-b"
    assert len(room.issuer.asked) == 1


async def test_all_are_renewed_that_can_be(opened: Open) -> None:
    room = await opened(signed_in("a", left=3600.0), signed_in("b"), entry("c"), issuer=Issuer([3600.0, TROUBLE]))
    accounts = [seat.account for seat in room.house.pool.seats]
    told = await room.house.tokens.renew_all(accounts)
    assert told == {"a": None, "b": "not now"}
    assert await room.house.tokens.renew_all(accounts) == told
    assert len(room.issuer.asked) == 2, "a minute old is new, and a failure is remembered"


def saying(*verdicts: Verdict) -> tuple[list[Access], Callable[..., object]]:
    said, asked = list(verdicts), list[Access]()

    async def verify(transport: Transport, access: Access, now: Instant) -> Verdict:
        asked.append(access)
        await asyncio.sleep(0.01)
        return said.pop(0) if len(said) > 1 else said[0]

    return asked, verify


async def test_what_must_be_known_is_asked_once_and_kept(opened: Open) -> None:
    asked, verify = saying(Verdict(Works.YES, learnt={"project": "p-1", "plan": "pro"}))
    room = await opened(verify=verify, needs=("project",))
    found = await asyncio.gather(*(room.access() for _ in range(10)))
    assert [access.known for access in found if isinstance(access, Access)] == [{"project": "p-1", "plan": "pro"}] * 10
    assert [access.token.value for access in asked] == [Secret("sk-fake-minted-1")]
    await until(lambda: room.ledger.entries[0][0].extra == {"project": "p-1", "plan": "pro"})
    await room.house.roster.load()
    await room.access()
    assert len(asked) == 1


async def test_what_was_learnt_and_not_saved_is_used_from_memory(opened: Open) -> None:
    asked, verify = saying(Verdict(Works.YES, learnt={"project": "p-1"}))
    room = await opened(signed_in("a", left=3600.0), verify=verify, needs=("project",))
    room.ledger.trouble = OSError("disk full")
    for _ in range(3):
        access = await room.access()
        assert isinstance(access, Access) and access.known == {"project": "p-1"}
    assert len(asked) == 1


async def test_an_account_that_is_known_is_not_asked_about(opened: Open) -> None:
    asked, verify = saying(Verdict(Works.YES))
    room = await opened(signed_in("a", left=3600.0, extra={"project": "p-1"}), verify=verify, needs=("project",))
    access = await room.access()
    assert isinstance(access, Access) and access.known == {"project": "p-1"}
    assert asked == []


async def test_what_was_learnt_of_an_account_in_use_is_learnt_anew_after_a_day(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_proxy.gateway.tokens.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("mcp_proxy.gateway.tokens.ANEW_SECONDS", 0.1)
    verdicts = (Verdict(Works.UNREACHABLE, "not now"), Verdict(Works.YES, learnt={"project": "p-2"}))
    asked, verify = saying(*verdicts)
    room = await opened(signed_in("a", left=3600.0, extra={"project": "p-1"}), verify=verify, needs=("project",))
    room.house.jobs.run_forever("tokens", lambda: room.house.tokens.keep_fresh(lambda: [room.account("a")]))
    await until(lambda: room.ledger.entries[0][0].extra == {"project": "p-2"})
    assert len(asked) >= 2 and room.account().invalid is None, "what could not be learnt changes nothing"


async def test_an_account_that_is_refused_is_out_of_use(opened: Open) -> None:
    _, verify = saying(Verdict(Works.REFUSED, "verify your account first"))
    room = await opened(verify=verify, needs=("project",))
    failure = await room.failure()
    assert (failure.blame, failure.status, failure.type) == (Blame.ACCOUNT, 403, "permission_error")
    assert failure.message.startswith("verify your account first")
    assert (room.account().invalid or "").startswith("verify your account first")


async def test_a_token_that_was_refused_is_no_word_against_its_account(opened: Open) -> None:
    asked, verify = saying(Verdict(Works.REFUSED, "expired"), Verdict(Works.YES, learnt={"project": "p-1"}))
    room = await opened(signed_in("a", left=3600.0), verify=verify, needs=("project",))
    access = await room.access()
    assert isinstance(access, Access) and access.known == {"project": "p-1"}
    assert [each.token.value.reveal() for each in asked] == ["sk-fake-stored-token-of-a", "sk-fake-minted-1"]
    assert room.account().invalid is None


@pytest.mark.parametrize("verdict", [Verdict(Works.UNREACHABLE, "no answer"), Verdict(Works.YES, learnt={"plan": "x"})])
async def test_one_of_which_nothing_is_said_is_asked_about_later(opened: Open, verdict: Verdict) -> None:
    asked, verify = saying(verdict, Verdict(Works.YES, learnt={"project": "p-1"}))
    room = await opened(verify=verify, needs=("project",))
    for _ in range(3):
        failure = await room.failure()
        assert (failure.blame, failure.status) == (Blame.PROVIDER, 503)
    assert len(asked) == 1 and room.account().invalid is None
    await room.window_over()
    assert isinstance(await room.access(), Access)


async def test_an_account_that_is_gone_has_no_access(opened: Open) -> None:
    room = await opened()
    account = room.account()
    room.ledger.write()
    await room.house.roster.load()
    failure = await room.house.tokens.access(account)
    assert isinstance(failure, Failure) and failure.blame is Blame.CONFIG
