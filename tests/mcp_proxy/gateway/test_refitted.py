"""Other settings under a running gateway: which accounts there are, where they are asked, and who serves a name."""

from __future__ import annotations

from accounts.model import Account, ApiKey, Credential, Secret
from mcp_proxy.core.ids import AccountId, ModelId, ProviderName
from mcp_proxy.core.journal import By
from mcp_proxy.core.prices import Price
from mcp_proxy.core.provider import Listed
from mcp_proxy.gateway.catalog import Options
from mcp_proxy.routing.facts import Policy
from tests.fakes import FakeTransport
from tests.mcp_proxy.gateway.kit import FakeLedger, House, entry, listing, sayso
from tests.mcp_proxy.gateway.test_exchange import answered, room
from tests.mcp_proxy.gateway.test_quotas import asker
from tests.mcp_proxy.routing.seats import MODEL

SAYSO = ProviderName("sayso")
A, CONFIG = AccountId("a"), AccountId("config")


def with_key(account: tuple[Account, Credential], key: str) -> tuple[Account, Credential]:
    return account[0], ApiKey(Secret(key))


async def house() -> House:
    made = House(FakeLedger([entry("a"), entry("b", base_url="http://b.say.so")]), sayso(), fixed=[entry("config")])
    await made.roster.load()
    return made


async def test_the_accounts_of_the_configuration_are_replaced_and_the_stored_ones_stay() -> None:
    made = await house()
    assert made.roster.refit([entry("other")], {}, {}) == {"other"}
    assert made.names == ["a", "b", "other"] and made.used[-1] == ["a", "b", "other"]
    assert made.tokens.credential(CONFIG) is None and made.tokens.credential(AccountId("other")) is not None


async def test_what_is_known_of_an_account_that_stays_is_kept() -> None:
    made = await house()
    made.pool.begin(CONFIG)
    made.pool.begin(A)
    assert made.roster.refit([entry("config")], {SAYSO: Options(tier=3, sticky=False)}, {}) == set()
    assert [(seat.in_flight, seat.tier, seat.sticky) for seat in made.pool.seats] == [
        (1, 3, False),
        (0, 3, False),
        (1, 3, False),
    ]


async def test_an_account_that_is_asked_elsewhere_or_with_another_key_lists_its_models_anew() -> None:
    made = await house()
    for name in ("a", "b", "config"):
        made.roster.discovered(AccountId(name), (Listed(ModelId(f"of-{name}")),))

    def listed() -> list[str]:
        return [model for seat in made.pool.seats for model in seat.offers if model != MODEL]

    assert made.roster.refit([with_key(entry("config"), "sk-fake-new")], {}, {}) == {"config"}
    assert listed() == ["of-a", "of-b"]
    moved = made.roster.refit([with_key(entry("config"), "sk-fake-new")], {SAYSO: Options("http://new.say.so")}, {})
    assert moved == {"a", "config"}, "b has an address of its own"
    assert listed() == ["of-b"]


async def test_before_the_store_was_read_nobody_is_seated() -> None:
    made = House(FakeLedger([entry("a")]), sayso())
    made.roster.refit([entry("config")], {}, {})
    assert made.names == [] and not made.roster.open
    await made.roster.load()
    assert made.names == ["a", "config"]


async def test_a_refused_key_that_is_replaced_in_the_configuration_is_good_again() -> None:
    made = await house()
    made.roster.refused(CONFIG, entry("config")[1], "revoked")
    made.roster.refit([entry("config")], {}, {})
    assert [seat.account.invalid for seat in made.pool.seats] == [None, None, "revoked"]
    made.roster.refit([with_key(entry("config"), "sk-fake-new")], {}, {})
    assert [seat.account.invalid for seat in made.pool.seats] == [None, None, None]


async def test_who_moved_is_asked_for_models_and_quotas_anew() -> None:
    made = await asker("a", "b", discover=listing("x"))
    await made.run(3)
    assert made.times("models") == [0, 0]
    made.readings.ask_anew([A, AccountId("unknown")])
    await made.run(3)
    assert made.times("models") == [0, 0, 3]


async def test_a_name_is_made_out_by_the_policy_at_hand_whoever_asked_before() -> None:
    """A request under way still has the policy it began with."""
    made = await house()
    old, new = Policy(aliases={"x": MODEL}), Policy(aliases={"y": MODEL})
    for _ in range(2):
        assert [bool(made.catalog.resolve(name, made.pool, old).serving) for name in ("x", "y")] == [True, False]
        assert [bool(made.catalog.resolve(name, made.pool, new).serving) for name in ("x", "y")] == [False, True]
    assert made.catalog.resolve("y", made.pool, new) is made.catalog.resolve("y", made.pool, new)


async def test_another_policy_other_prices_and_another_retention_hold_from_then_on() -> None:
    async with room(FakeTransport([answered()])) as made:
        gateway, policy = made.gateway, Policy(aliases={"x": MODEL})
        assert not gateway.serves("x")
        gateway.reconfigure(policy=policy, options={}, fixed=(), prices={"x": Price(1, 2)}, retention_days=3)
        assert gateway.serves("x") and made.exchange().around.policy is policy
        assert (await gateway.usage(1, By.MODEL, None))["cost"]["overridden"] == ["x"]
        assert gateway.recorder._retention_days == 3
