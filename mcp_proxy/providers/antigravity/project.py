"""Whether an account can be used, and the project that each of its requests has to name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts.model import Verdict, Works
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import Transport
from mcp_proxy.core.provider import Access
from mcp_proxy.core.time import Instant
from mcp_proxy.providers._errors import clean
from mcp_proxy.providers.antigravity.calling import call

SHARED_PROJECT = "aicode-consumers"
"""The project of personal accounts, where Google names none after it has set one up (observed, 2026-08)."""

TRIES = 2
"""How often setting up is asked for in a row. It goes on at Google's: who can wait asks for another verdict."""

_IDE = {"ideType": "ANTIGRAVITY"}
_AWAY = frozenset({"UNSUPPORTED_LOCATION"})


async def verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether Google lets this account in, with its project and plan. Sets up a project where there is none."""
    document = await call(transport, access, "loadCodeAssist", {"metadata": _IDE}, now)
    if isinstance(document, Failure):
        return _refused(document, {})
    learnt = _plan(document)
    found = project_in(document) or access.known.get("project", "")
    if found:
        return Verdict(Works.YES, _advice(document, access), {"project": found, **learnt})
    if not any(isinstance(document.get(name), list | dict) for name in ("currentTier", "allowedTiers")):
        why = _ineligible(document) or "Google named neither a project nor a plan for this account"
        return Verdict(Works.UNREACHABLE, why, learnt)
    return await _set_up(transport, access, now, document, learnt)


async def _set_up(
    transport: Transport, access: Access, now: Instant, loaded: Mapping[str, Any], learnt: Mapping[str, str]
) -> Verdict:
    """Ask for a project; to ask again is to ask how far it is."""
    body = {"tierId": _tier(loaded), "metadata": {**_IDE, "pluginType": "GEMINI"}}
    for _ in range(TRIES):
        operation = await call(transport, access, "onboardUser", body, now)
        if isinstance(operation, Failure):
            return _refused(operation, learnt)
        if operation.get("done") is True:
            response = operation.get("response")
            found = project_in(response if isinstance(response, dict) else {})
            return _done(loaded, found, learnt)
    told = "Google is still setting this account up: try again in a minute"
    return Verdict(Works.UNREACHABLE, told, learnt, again=True)


def _done(loaded: Mapping[str, Any], found: str, learnt: Mapping[str, str]) -> Verdict:
    if found:
        return Verdict(Works.YES, learnt=({"project": found, **learnt}))
    if why := _ineligible(loaded):
        return Verdict(Works.UNREACHABLE, why, learnt)
    default = next((tier for tier in _tiers(loaded, "allowedTiers") if tier.get("isDefault") is True), {})
    if default.get("userDefinedCloudaicompanionProject") is True:
        return Verdict(Works.UNREACHABLE, _OWN_PROJECT, learnt)
    return Verdict(Works.YES, learnt={"project": SHARED_PROJECT, **learnt})


_OWN_PROJECT = "this account's plan needs a project of its own in Google Cloud, and Google names none"


def _refused(failure: Failure, learnt: Mapping[str, str]) -> Verdict:
    works = Works.REFUSED if failure.blame in (Blame.ACCOUNT, Blame.TOKEN) else Works.UNREACHABLE
    return Verdict(works, failure.message, learnt)


def project_in(document: Mapping[str, Any]) -> str:
    """The project that a document names, in one of the ways it is named; empty for none."""
    for name in ("cloudaicompanionProject", "projectId", "project"):
        told = document.get(name)
        told = told.get("id") if isinstance(told, dict) else told
        if isinstance(told, str) and told.strip() and len(told) <= 200 and told.isprintable():
            return told.strip()
    return ""


def _plan(document: Mapping[str, Any]) -> dict[str, str]:
    """The plan under Google's own name for it, and its size."""
    paid, current = _tier_at(document, "paidTier"), _tier_at(document, "currentTier")
    default = next((tier for tier in _tiers(document, "allowedTiers") if tier.get("isDefault") is True), {})
    name = next((text for tier in (paid, current) if (text := _text(tier.get("name")))), "")
    tier = next((text for each in (paid, current, default) if (text := _text(each.get("id")))), "").lower()
    return {key: value for key, value in (("plan", name), ("tier", _size(tier))) if value}


def _size(tier: str) -> str:
    if "ultra" in tier:
        return "ultra"
    if tier == "standard-tier" or "pro" in tier or "premium" in tier:
        return "pro"
    return "free" if "free" in tier else ""


def _tier(document: Mapping[str, Any]) -> str:
    """The plan under which a project is set up."""
    allowed = _tiers(document, "allowedTiers")
    default = next((tier for tier in allowed if tier.get("isDefault") is True), {})
    offered = (default, _tier_at(document, "currentTier"), *allowed)
    return next((text for tier in offered if (text := _text(tier.get("id")))), "free-tier")


def _ineligible(document: Mapping[str, Any]) -> str:
    """Why Google gives no project, where it says so."""
    for tier in _tiers(document, "ineligibleTiers"):
        code, reason = _text(tier.get("reasonCode")), _text(tier.get("reasonMessage"))
        if code in _AWAY:
            return (
                f"Google does not offer this plan where the account is at home ({reason or code}): it has to be at "
                "home elsewhere, or needs a project of its own in Google Cloud"
            )
        if code or reason:
            return f"Google gives this account no plan: {reason or code}"
    return ""


def _advice(document: Mapping[str, Any], access: Access) -> str:
    """What the operator has to know of an account that works."""
    if document.get("gcpManaged") is True and "//daily-" in access.base_url:
        return "this account belongs to an organisation: its address should be https://cloudcode-pa.googleapis.com"
    return ""


def _tiers(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    told = document.get(name)
    return [tier for tier in told if isinstance(tier, dict)] if isinstance(told, list) else []


def _tier_at(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    told = document.get(name)
    return told if isinstance(told, dict) else {}


def _text(value: Any) -> str:
    return clean(value)[:300] if isinstance(value, str) else ""
