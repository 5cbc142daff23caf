from __future__ import annotations

from typing import Any

import pytest

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.provider import Listed, Offer, Size
from mcp_proxy.dialects.gemini.profile import Family
from mcp_proxy.providers.antigravity import PROVIDER
from mcp_proxy.providers.antigravity.families import CLAUDE, GEMINI
from mcp_proxy.providers.antigravity.models import discover, known_of, read_models
from tests.fakes import answering
from tests.mcp_proxy.providers.antigravity.kit import ACCESS, NOW, sample

MODELS = sample("models.json")


def offers(document: Any) -> dict[str, Offer]:
    """What an account may be asked for, and as what it is asked."""
    listed = read_models(document)
    assert all(entry.offer is not None for entry in listed)
    return {entry.model: entry.offer for entry in listed if entry.offer is not None}


async def test_the_list_is_asked_for_the_accounts_project() -> None:
    transport = answering(MODELS)
    found = await discover(transport, ACCESS, NOW)
    assert isinstance(found, tuple) and found == read_models(MODELS)
    (request,) = transport.asked
    assert request.url == f"{ACCESS.base_url}/v1internal:fetchAvailableModels"
    assert request.body == b'{"project":"cogent-sample-4mnnp"}'


def test_what_may_be_asked_for_comes_in_the_lists_order_and_nothing_hidden() -> None:
    assert list(offers(MODELS))[:6] == [
        "gemini-3.8-flash-high",
        "gemini-pro-agent",
        "claude-opus-4-6-thinking",
        "claude-sonnet-4-6",
        "gpt-oss-120b-medium",
        "gemini-3.1-flash-image",
    ]
    hidden = {"chat_20706", "tab_flash_lite_preview", "gemini-2.5-pro", "gemini-3.1-flash-lite", "gemini-0"}
    assert not hidden & set(offers(MODELS))


def test_an_offer_says_all_that_the_list_says() -> None:
    flash, opus = offers(MODELS)["gemini-3.8-flash-high"], offers(MODELS)["claude-opus-4-6-thinking"]
    assert (flash.display_name, flash.context_window) == ("Gemini 3.8 Flash (High)", 1_048_576)
    assert (flash.draws_on, opus.draws_on) == (GEMINI, CLAUDE)
    assert offers(MODELS)["gpt-oss-120b-medium"].draws_on == CLAUDE
    known = known_of(flash)
    assert known.profile.family is Family.GEMINI and known.profile.budgets[0] == 32
    assert known.profile.takes == {"image/png", "application/pdf"}
    assert known.searcher == "gemini-3.2-flash-lite"
    assert opus.context_window == 250_000


def test_a_name_that_was_given_up_stands_for_its_successor() -> None:
    assert offers(MODELS)["gemini-3.1-pro-high"].model == "gemini-pro-agent"


def test_pictures_are_made_by_the_models_that_are_named_for_it() -> None:
    assert [name for name, offer in offers(MODELS).items() if offer.pictures] == ["gemini-3.1-flash-image"]


@pytest.mark.parametrize(
    ("models", "small", "middle", "large"),
    [
        (list(MODELS["models"]), "gemini-3.8-flash-high", "claude-sonnet-4-6", "claude-opus-4-6-thinking"),
        (["claude-sonnet-5"], "claude-sonnet-5", "claude-sonnet-5", "claude-sonnet-5"),
        (["gemini-4-pro", "gemini-4-flash"], "gemini-4-flash", "gemini-4-pro", "gemini-4-pro"),
        (["claude-opus-5", "claude-sonnet-5", "gemini-4-flash"], "gemini-4-flash", "claude-sonnet-5", "claude-opus-5"),
    ],
)
def test_every_size_is_served_whatever_the_models_are_called_this_month(
    models: list[str], small: str, middle: str, large: str
) -> None:
    document = {**MODELS, "models": {name: MODELS["models"].get(name, {}) for name in models}}
    found, sizes = offers(document), PROVIDER.serves.sizes
    assert found[sizes[Size.HAIKU]].model == small
    assert found[sizes[Size.SONNET]].model == middle
    assert found[sizes[Size.OPUS]].model == found[sizes[Size.FABLE]].model == large


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"models": []},
        {"models": {"": {}, "a\n": {}, "b": None, "c" * 300: {}}},
        {"models": {}, "imageGenerationModelIds": ["gemini-image"], "deprecatedModelIds": {"a": {"newModelId": "b"}}},
    ],
)
def test_a_list_of_nothing_lists_nothing(document: Any) -> None:
    assert read_models(document) == ()


@pytest.mark.parametrize("key", ["webSearchModelIds", "tieredModelIds", "deprecatedModelIds", "tabModelIds"])
@pytest.mark.parametrize("value", [None, 7, "x", [None, 7], {"x": 7}, {"flash": "x"}])
def test_what_stands_beside_the_models_may_be_anything(key: str, value: Any) -> None:
    assert all(isinstance(entry, Listed) for entry in read_models({**MODELS, key: value}))


async def test_a_list_that_does_not_come_says_why() -> None:
    failure = await discover(answering(b"<html>", status=502), ACCESS, NOW)
    assert isinstance(failure, Failure) and failure.limit is None


def test_every_model_we_know_has_its_profile() -> None:
    for offer in PROVIDER.serves.offers:
        assert known_of(offer).profile.family in Family and offer.display_name and offer.context_window
    assert known_of(Offer(ModelId("claude-sonnet-4-6"))).profile.family is Family.CLAUDE
