"""Callers with logins of their own: each has a seat of an account's, and knows nothing of the others'."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from accounts.model import Account, AccountId, CallersOwn, ClaudeCodeLogin, Secret, Token
from mcp_proxy.core.change import Change, QuotaRead, Used
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.messages import Ask, Endpoint, Span
from mcp_proxy.core.provider import Access
from mcp_proxy.core.quota import ACCOUNT, Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import pool as pools
from mcp_proxy.gateway.callers import given_back, own_access, own_target
from mcp_proxy.gateway.metrics import Counters, exposition
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.report import limits, status
from mcp_proxy.routing.budget import budget
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Policy, Reason, Serving, Target
from mcp_proxy.routing.react import Lesson
from mcp_proxy.state.memory import MemoryStore
from tests.fakes import FakeResponse, FakeTransport
from tests.mcp_proxy.gateway.kit import FakeLedger, House, entry, sayso
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MODEL, NOW, OFFER, at, facts, seat

POLICY = Policy()
PLAN, KEY = AccountId("plan"), AccountId("key")
LOGIN = Secret("sk-ant-oat01-sk-fake-login")


def pool(record: list[Change] | None = None) -> Pool:
    made = Pool(record.append) if record is not None else Pool()
    made.replace_all([seat("plan", caller=""), seat("key")])
    return made


def own(caller: str) -> AccountId:
    return AccountId(f"plan@{caller}")


def spent(account: AccountId, left: float = 0.0) -> QuotaRead:
    return QuotaRead(account, Quota(FIVE_HOURS, left, at(600), at(-1)))


def test_every_caller_has_a_seat_of_its_own_in_the_place_of_the_accounts() -> None:
    of = pool()
    assert [each.id for each in of.of("a")] == [own("a"), KEY]
    assert [each.id for each in of.of("")] == [PLAN, KEY] == [each.id for each in of.seats]
    of.apply([spent(own("a"))])
    assert of.of("a")[0].quotas and not of.of("b")[0].quotas and not of.seats[0].quotas
    of.begin(own("a"))
    assert [of.of(name)[0].in_flight for name in "ab"] == [1, 0]
    assert [each.stored for each in of.of("a")] == [PLAN, KEY]


def test_what_is_known_of_callers_survives_new_accounts_and_a_restart() -> None:
    record: list[Change] = []
    of, store = pool(record), MemoryStore()
    of.of("a")
    of.apply([spent(own("a")), Used(own("a"), at(0))])
    assert of.seats[0].last_used == at(0), "the account was used"
    assert record == [spent(own("a")), Used(PLAN, at(0))]
    of.replace_all([seat("plan", caller="", tier=7), seat("key")])
    assert (of.of("a")[0].tier, bool(of.of("a")[0].quotas)) == (7, True)
    store.save(record)
    after = pool()
    after.restore(store.load(NOW))
    assert after.of("a")[0].quotas == of.of("a")[0].quotas and after.seats[0].last_used == at(0)
    of.replace_all([seat("key")])
    assert of.callers == () and [each.id for each in of.of("a")] == [KEY]
    gone = pool()
    gone.restore([spent(AccountId("other@a")), spent(AccountId("key@a"))])
    assert gone.callers == ()


def test_callers_leave_when_there_are_too_many_but_for_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MAX_CALLERS", 3)
    of = pool()
    for name in "abc":
        of.of(name)
    of.learn(own("c"), Lesson(stumbled=True), NOW)
    assert of.of("c")[0].breaker.failures == 1
    of.begin(own("a"))
    of.of("b")
    of.learn(own("c"), Lesson(stumbled=True), NOW)
    of.of("d")
    assert [each.caller for each in of.callers] == ["a", "b", "d"], "c was not used for longest, a is in use"
    assert not of.of("c")[0].breaker.failures, "it left with all that was known of it"


def test_failures_of_a_callers_seat_are_known_when_accounts_change() -> None:
    of = pool()
    of.of("a")
    of.learn(own("a"), Lesson(stumbled=True), NOW)
    of.replace_all([seat("plan", caller=""), seat("key")])
    assert of.of("a")[0].breaker.failures == 1


def test_what_callers_use_counts_for_the_account_that_their_seats_are_made_of() -> None:
    of, window = pool(), budget("5h", 18_000.0, 1000, shared=False)
    of.replace_all([seat("plan", caller="", budgets=(window,))])
    of.of("a"), of.of("b")
    of.spend(own("a"), 400, NOW)
    of.spend(own("b"), 200, NOW)
    assert [each.quotas[window.bucket].left for each in (*of.seats, *of.callers)] == [0.4, 0.4, 0.4]


def test_callers_are_in_flight_as_the_account_that_their_seats_are_made_of() -> None:
    of = pool()
    for caller in "ab":
        of.of(caller)
        of.begin(own(caller))
    assert 'mcp_proxy_in_flight{account="zai/plan"} 2\n' in exposition(Counters(), of.seats, NOW, of.callers)


def test_a_target_names_the_callers_own_seats() -> None:
    target = Target("m", {PLAN: (Serving(OFFER),), KEY: (Serving(OFFER),)})
    assert set(own_target(target, pool().of("a")).serving) == {own("a"), KEY}
    assert own_target(target, pool().of("")) is target


def test_who_brings_no_login_or_is_elsewhere_is_refused_whatever_the_model() -> None:
    seats = (seat("plan", caller=""), seat("mine", local=True), seat("key"))
    found = decide(facts(*seats), seats, POLICY, NOW)
    assert {each.account: each.reason for each in found.refused} == {
        "plan": Reason.NO_LOGIN,
        "mine": Reason.NOT_LOCAL,
    }
    nobody = decide(dataclasses.replace(facts(*seats), target=Target("m", {})), seats, POLICY, NOW)
    assert [each.reason for each in nobody.refused] == [Reason.NO_LOGIN, Reason.NOT_LOCAL, Reason.NOT_SERVED]


def test_a_status_is_the_best_of_the_callers() -> None:
    of = pool()
    of.of("a"), of.of("b")
    of.apply([spent(own("a")), spent(own("b"), 0.5)])
    told = limits(of.seats, POLICY, NOW, of.callers)["accounts"][0]
    assert told["status"] == "ok" and [each["status"] for each in told["callers"]] == ["ok", "rate_limited"]
    assert told["callers"][1]["windows"] == [
        {"name": "5h", "remaining_fraction": 0.0, "resets_at": "2027-01-15T08:10:00Z"}
    ]
    assert "callers" not in limits(of.seats, POLICY, NOW, of.callers)["accounts"][1]
    assert status(of.seats[0], POLICY, NOW) == "unknown"


def ask(login: Secret | None) -> Ask:
    return Ask(Endpoint.MESSAGES, b"{}", "m", Span(0, 0), False, (), login=login)


def test_a_login_is_the_callers_own_seats_alone() -> None:
    house = House(FakeLedger([]), sayso())
    named = seat("plan", provider="sayso", caller="a")
    access = own_access(named, ask(LOGIN), house.catalog)
    assert isinstance(access, Access) and (access.token.value, access.callers) == (LOGIN, True)
    for other in (replace(named, caller=""), named):
        assert isinstance(own_access(other, ask(None), house.catalog), Failure)
    assert own_access(replace(named, caller=None), ask(LOGIN), house.catalog) is None
    refused = Failure(Blame.TOKEN, 401, "authentication_error", "x", body=b"{}")
    assert given_back(refused, named).blame is Blame.REQUEST
    assert given_back(refused, replace(named, caller=None)) is refused
    assert repr(LOGIN) in repr(access) and LOGIN.reveal() not in repr(ask(LOGIN))


async def test_an_account_without_a_credential_is_never_asked_in_the_background() -> None:
    account, _ = entry("plan")
    transport = FakeTransport([FakeResponse()])
    house = House(FakeLedger([(account, CallersOwn())]), sayso(), transport=transport)
    await house.roster.load()
    (made,) = house.pool.seats
    assert (made.caller, made.local, made.tier) == ("", False, 1)
    assert isinstance(await house.tokens.access(account), Failure)
    house.tokens._renew_early(account)
    assert house.tokens._held[account.id].work is None and transport.asked == []
    assert await house.tokens.renew_all([account]) == {}


async def test_a_login_that_lies_elsewhere_is_read_anew_each_time() -> None:
    account, _ = entry("mine")
    house = House(FakeLedger([(account, ClaudeCodeLogin("/x"))]), sayso())
    await house.roster.load()
    (made,) = house.pool.seats
    assert (made.caller, made.local, made.tier) == (None, True, 1000)
    reads: list[Token | str] = [
        Token(LOGIN, NOW + 1),
        Token(LOGIN, NOW + 1),
        Token(LOGIN, NOW),
        "there is no login",
        Token(Secret("sk-fake-newer")),
    ]
    house.tokens.login = lambda login: reads.pop(0)
    access = await house.tokens.access(account)
    assert isinstance(access, Access) and access.token.value == LOGIN and not access.callers
    for refused in (access.token, None, None):
        failure = await house.tokens.access(account, refused)
        assert isinstance(failure, Failure)
        assert (failure.blame, failure.limit) == (Blame.ACCOUNT, ACCOUNT)
        assert failure.retry_at is not None and NOW < failure.retry_at <= Instant(NOW + 300)
        assert "run `claude` once to renew your login" in failure.message
    newer = await house.tokens.access(account, access.token)
    assert isinstance(newer, Access) and newer.token.value == Secret("sk-fake-newer")
    assert house.tokens.token(account.id) is None, "nothing is kept"


def test_an_owners_tier_comes_before_the_last_resort() -> None:
    house = House(FakeLedger([]), sayso())
    mine = Account(AccountId("m"), "sayso", "m", tier=3)
    made = house.catalog.seat(mine, None, ClaudeCodeLogin())
    assert made is not None and made.tier == 3


def test_accounts_that_want_a_login_do_not_keep_others_from_serving() -> None:
    house = House(FakeLedger([]), sayso())
    other = seat("other", offers=())
    house.pool.replace_all([seat("plan", caller=""), seat("mine", local=True), replace(other, any=True)])
    for login, local, wanted in (
        (False, False, {"other"}),
        (True, False, {"plan", "other"}),
        (False, True, {"mine", "other"}),
        (True, True, {"plan", "mine", "other"}),
    ):
        found = house.catalog.resolve(MODEL, house.pool, POLICY, login=login, local=local)
        assert set(found.serving) == wanted
    house.pool.replace_all([seat("plan", caller="")])
    assert set(house.catalog.resolve(MODEL, house.pool, POLICY, login=False).serving) == {"plan"}
