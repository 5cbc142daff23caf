"""The accounts in use follow the ledger, whatever happens to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from accounts.model import Credential
from mcp_proxy.core.ids import AccountId, ModelId
from mcp_proxy.core.provider import Listed
from mcp_proxy.gateway import roster
from mcp_proxy.routing.budget import budget
from tests.mcp_proxy.gateway.kit import FakeLedger, House, entry, sayso, until
from tests.mcp_proxy.routing.seats import MODEL

A = AccountId("a")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LOOK_SECONDS", 0.002)


@asynccontextmanager
async def following(house: House) -> AsyncIterator[House]:
    await house.roster.load()
    house.jobs.run_forever("accounts", house.roster.follow)
    yield house
    await house.jobs.stop()


def house(*names: str, **how: object) -> House:
    return House(FakeLedger([entry(name) for name in names]), sayso(), **how)  # type: ignore[arg-type]


async def test_accounts_become_seats_and_credentials_tokens() -> None:
    made = house("a", "b", fixed=[entry("config")])
    assert made.roster.open is False
    await made.roster.load()
    assert made.names == ["a", "b", "config"]
    token = made.tokens.token(A)
    assert token is not None and token.value.reveal() == "sk-fake-key-of-a"
    assert made.used == [["a", "b", "config"]]
    assert made.roster.open


async def test_a_store_that_cannot_be_read_at_the_start_says_so_and_nothing_is_open() -> None:
    made = house("a")
    made.ledger.trouble = OSError("damaged")
    with pytest.raises(OSError, match="damaged"):
        await made.roster.load()
    assert (made.roster.open, made.names) == (False, [])


async def test_what_another_process_writes_is_taken_over() -> None:
    async with following(house("a", "b")) as made:
        made.ledger.write(entry("b"), entry("c"))
        await until(lambda: made.names == ["b", "c"])
        assert made.tokens.token(A) is None
        assert made.used[-1] == ["b", "c"]


async def test_an_unreadable_store_is_named_once_and_we_serve_on_until_it_is_readable_again() -> None:
    with capture_logs() as said:
        async with following(house("a")) as made:
            made.ledger.trouble = ValueError("no key fits")
            made.ledger.write(entry("a"), entry("b"))
            await until(lambda: made.ledger.reads > 5)
            assert made.names == ["a"] and made.tokens.token(A) is not None
            made.ledger.trouble = None
            await until(lambda: made.names == ["a", "b"])
            await until(lambda: made.ledger.reads > 6)
    errors = [line for line in said if line["log_level"] == "error"]
    assert [(line["event"], line["error"]) for line in errors] == [
        ("account store unreadable, serving from memory", "no key fits")
    ]


async def test_nothing_is_read_while_nothing_changes() -> None:
    async with following(house("a")) as made:
        await until(lambda: made.ledger.looks > 5)
        assert made.ledger.reads == 1


async def test_a_refused_credential_is_out_at_once_and_marked_in_the_store() -> None:
    async with following(house("a", "b")) as made:
        made.roster.refused(A, key("a"), "invalid key " + "x" * 1000)
        held = made.pool.seat(A)
        assert held is not None and held.account.invalid is not None and len(held.account.invalid) == roster.MAX_REASON
        await until(lambda: made.ledger.marked)
        assert made.ledger.marked == [("a", held.account.invalid)]


async def test_a_mark_that_cannot_be_saved_holds_in_memory() -> None:
    with capture_logs() as said:
        async with following(house("a")) as made:
            made.ledger.trouble = OSError("read-only")
            made.roster.refused(A, key("a"), "revoked")
            await until(lambda: any(line["event"] == "invalid mark not saved" for line in said))
            held = made.pool.seat(A)
            assert held is not None and held.account.invalid == "revoked"


async def test_a_refusal_of_a_key_that_was_replaced_meanwhile_says_nothing_of_the_new_one() -> None:
    async with following(house("a")) as made:
        made.roster.refused(A, key("before"), "revoked")
        held = made.pool.seat(A)
        assert held is not None and held.account.invalid is None
        assert made.ledger.marked == []


async def test_a_mark_that_is_not_saved_yet_is_not_forgotten() -> None:
    made = house("a")
    await made.roster.load()
    made.roster.refused(A, key("a"), "revoked")
    made.roster.discovered(A, ())  # everybody is seated anew
    held = made.pool.seat(A)
    assert held is not None and held.account.invalid == "revoked"
    await made.jobs.stop()


def key(name: str) -> Credential:
    return entry(name)[1]


async def test_an_account_of_the_configuration_is_marked_in_memory_alone() -> None:
    made = house(fixed=[entry("config")])
    await made.roster.load()
    made.roster.refused(AccountId("config"), key("config"), "revoked")
    made.roster.discovered(A, ())  # everybody is seated anew
    await made.jobs.stop()
    held = made.pool.seat(AccountId("config"))
    assert held is not None and held.account.invalid == "revoked"
    assert made.ledger.marked == []


async def test_a_provider_this_version_does_not_know_is_left_out_and_said() -> None:
    made = House(FakeLedger([entry("a"), entry("b", "from-the-future")]), sayso())
    with capture_logs() as said:
        await made.roster.load()
    assert made.names == ["a"]
    assert [(line["account"], line["provider"]) for line in said] == [("b", "from-the-future")]


async def test_a_budget_that_guards_no_account_is_said_once() -> None:
    made = house("a")
    ours = (budget("5h", 18_000.0, 100, shared=False),)
    with capture_logs() as said:
        await made.roster.load()
        made.roster.refit((), {}, {"a": ours, "zai/mistyped": ours})
        made.roster.refit((), {}, {"a": ours, "zai/mistyped": ours})
    assert [line["accounts"] for line in said if "budget" in line["event"]] == [["zai/mistyped"]]


async def test_what_an_account_lists_itself_is_served_and_stays_served() -> None:
    made = house("a")
    await made.roster.load()
    version = made.pool.version
    made.roster.discovered(A, (Listed(ModelId("new"), "New One"),))
    held = made.pool.seat(A)
    assert held is not None and list(held.offers) == [MODEL, "new"]
    assert held.offers[ModelId("new")].display_name == "New One"
    assert made.pool.version == version + 1
    made.roster.discovered(A, (Listed(ModelId("new"), "New One"),))
    assert made.pool.version == version + 1, "the same list is no change"
    await made.roster.load()
    held = made.pool.seat(A)
    assert held is not None and "new" in held.offers


async def test_a_mark_that_was_saved_is_the_stores_from_then_on() -> None:
    async with following(house("a")) as made:
        made.roster.refused(A, key("a"), "revoked")
        await until(lambda: made.ledger.marked)
        made.ledger.write(entry("a"))  # its owner found it to work after all, and cleared the mark

        def valid() -> bool:
            held = made.pool.seat(A)
            return held is not None and held.account.invalid is None

        await until(valid)
