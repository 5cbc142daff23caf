"""Which models there are: what we know of them, and what an account's own list says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Transport
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.provider import Access, Listed, Offer, Serves, Size
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.gemini.profile import Family, Profile, profile_of
from mcp_proxy.providers._asking import MAX_MODELS
from mcp_proxy.providers.antigravity.calling import call, project
from mcp_proxy.providers.antigravity.families import pool

SEARCHER = ModelId("gemini-3.1-flash-lite")
"""The model that searches the web, where an account's list names none (observed, 2026-08)."""

_MODELS: tuple[tuple[str, str, int], ...] = (
    # Observed, 2026-08 to 2026-10. Only what an account lists itself is believed once its list was read.
    ("claude-sonnet-4-6", "Claude Sonnet 4.6 (Thinking)", 200_000),
    ("claude-opus-4-6-thinking", "Claude Opus 4.6 (Thinking)", 200_000),
    ("gemini-pro-agent", "Gemini 3.1 Pro (High)", 1_048_576),
    ("gemini-3.1-pro-low", "Gemini 3.1 Pro (Low)", 1_048_576),
    ("gemini-3-flash-agent", "Gemini 3.5 Flash (High)", 1_048_576),
    ("gemini-3.5-flash-low", "Gemini 3.5 Flash (Medium)", 1_048_576),
    ("gemini-3.5-flash-extra-low", "Gemini 3.5 Flash (Low)", 1_048_576),
    ("gemini-3.1-flash-lite", "Gemini 3.1 Flash Lite", 1_048_576),
    ("gemini-3.1-flash-image", "Gemini 3.1 Flash Image", 1_048_576),
    ("gpt-oss-120b-medium", "GPT-OSS 120B (Medium)", 114_000),
)
_SMALL, _MIDDLE, _LARGE = (
    ModelId("gemini-3.5-flash-extra-low"),
    ModelId("claude-sonnet-4-6"),
    ModelId("claude-opus-4-6-thinking"),
)
_SIZES = {Size.FABLE: _LARGE, Size.OPUS: _LARGE, Size.SONNET: _MIDDLE, Size.HAIKU: _SMALL}
_HIDDEN = frozenset({"gemini-2.5-flash-thinking", "gemini-2.5-pro"})
"""Listed, and refused when asked."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model beside its name.

    searcher  the model that searches the web in its place
    """

    profile: Profile
    searcher: ModelId = SEARCHER


def known_of(offer: Offer) -> Known:
    """What an offer carries; by its name alone where it carries nothing."""
    return offer.profile if isinstance(offer.profile, Known) else Known(profile_of(offer.model))


def offer(model: ModelId, entry: Mapping[str, Any] | None = None, searcher: ModelId = SEARCHER) -> Offer:
    """A model as an offer; `entry` is what the account's list says of it."""
    told = entry if entry is not None else {}
    profile = profile_of(model, entry)
    title, window = _USUAL.get(model, (None, None))
    return Offer(
        model,
        pool(profile),
        display_name=_title(told.get("displayName")) or title,
        context_window=_size(told.get("maxTokens")) or window,
        profile=Known(profile, searcher),
        pictures=profile.family is Family.GEMINI and model.endswith("-image"),
    )


def _plain_offer(model: ModelId) -> Offer:
    return offer(model)


_USUAL = {ModelId(name): (title, window) for name, title, window in _MODELS}


async def available(transport: Transport, access: Access, now: Instant) -> dict[str, Any] | Failure:
    """The list of models as the account has it, each with what is left of its quota."""
    return await call(transport, access, "fetchAvailableModels", project(access), now)


async def discover(transport: Transport, access: Access, now: Instant) -> tuple[Listed, ...] | Failure:
    """The models an account may be asked for, in its own order."""
    document = await available(transport, access, now)
    return document if isinstance(document, Failure) else read_models(document)


def read_models(document: Mapping[str, Any]) -> tuple[Listed, ...]:
    """The models of a list, then names that stand for one of them."""
    searcher = next(iter(_names(document, "webSearchModelIds")), SEARCHER)
    found = {model: offer(model, entry, searcher) for model, entry in published(document)}
    for model in _names(document, "imageGenerationModelIds") if found else ():
        found[model] = replace(found.get(model) or offer(model, None, searcher), pictures=True)
    listed = {model: Listed(model, made.display_name, made) for model, made in found.items()}
    for old, new in (*_replaced(document), *_in_place(document, found)):
        if old not in listed and new in found:
            listed[old] = Listed(old, found[new].display_name, found[new])
    return tuple(listed.values())[:MAX_MODELS]


def published(document: Mapping[str, Any]) -> Iterator[tuple[ModelId, Mapping[str, Any]]]:
    """The models of a list that may be asked for, with what it says of each."""
    models = document.get("models")
    completing = frozenset(_names(document, "tabModelIds"))
    for name, entry in models.items() if isinstance(models, dict) else ():
        if not _is_name(name) or not isinstance(entry, dict) or name in completing or name in _HIDDEN:
            continue
        if entry.get("isInternal") is True or entry.get("disabled") is True or name.startswith(("tab_", "chat_")):
            continue
        yield ModelId(name), entry


def _replaced(document: Mapping[str, Any]) -> Iterator[tuple[ModelId, ModelId]]:
    """Names that were given up, and what they stand for now."""
    given_up = document.get("deprecatedModelIds")
    for old, told in given_up.items() if isinstance(given_up, dict) else ():
        new = told.get("newModelId") if isinstance(told, dict) else None
        if _is_name(old) and isinstance(new, str):
            yield ModelId(old), ModelId(new)


def _in_place(document: Mapping[str, Any], found: Mapping[ModelId, Offer]) -> Iterator[tuple[ModelId, ModelId]]:
    """What stands in for the models of Claude's size classes: names change monthly, and clients ask by size."""
    tiers = document.get("tieredModelIds")
    tiers = tiers if isinstance(tiers, dict) else {}
    small = [*_names(tiers, "flashLite"), *_names(tiers, "flash"), *(name for name in found if "flash" in name)]
    middle = [name for name in found if "sonnet" in name]
    large = [name for name in found if "opus" in name]
    strong = [*_names(tiers, "pro"), *(name for name in found if "pro" in name)]
    wanted = ((_SMALL, [*small, *middle]), (_MIDDLE, [*middle, *strong]), (_LARGE, [*large, *middle, *strong]))
    for usual, candidates in wanted:
        first = next((name for name in candidates if name in found and not found[name].pictures), None)
        if first is not None:
            yield usual, first


def _names(document: Mapping[str, Any], key: str) -> list[ModelId]:
    told = document.get(key)
    return [ModelId(name) for name in told if _is_name(name)] if isinstance(told, list) else []


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()


def _title(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 1000 else None


SERVES = Serves(offers=tuple(offer(model) for model in _USUAL), sizes=_SIZES, offer=_plain_offer)
