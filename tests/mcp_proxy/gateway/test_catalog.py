"""What a provider's form makes of an account, made once."""

from __future__ import annotations

from dataclasses import replace

from accounts.model import Account, AccountId
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Listed
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.providers import all_providers

ACCOUNT = Account(AccountId("a"), "anthropic", "work")
LISTED = (Listed(ModelId("claude-new")),)


def test_an_accounts_offers_are_made_once_for_each_list_of_its_models() -> None:
    catalog = Catalog(all_providers(), {})
    first, again = catalog.seat(ACCOUNT, LISTED), catalog.seat(replace(ACCOUNT, tier=3), LISTED)
    assert first is not None and again is not None and again.tier == 3
    assert again.offers is first.offers, "two hundred accounts are seated with each list that is read"
    for account, listed in ((ACCOUNT, None), (ACCOUNT, (*LISTED, Listed(ModelId("other")))), (ACCOUNT, LISTED)):
        made = catalog.seat(account, listed)
        assert made is not None and (ModelId("claude-new") in made.offers) is (listed is not None)
    named = catalog.seat(replace(ACCOUNT, models=("only",)), LISTED)
    assert named is not None and list(named.offers) == ["only"]
    other = catalog.seat(replace(ACCOUNT, provider="zai"), LISTED)
    assert other is not None and other.provider == ProviderName("zai") and "claude-opus-5" not in other.offers


def test_what_was_made_of_accounts_that_are_gone_is_forgotten() -> None:
    catalog = Catalog(all_providers(), {})
    first = catalog.seat(ACCOUNT, LISTED)
    catalog.keep_only([])
    again = catalog.seat(ACCOUNT, LISTED)
    assert first is not None and again is not None and again.offers is not first.offers
