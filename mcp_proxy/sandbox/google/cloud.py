"""What Cloud Code says of an account: its project, its plan, its models and what is left of its windows."""

from __future__ import annotations

import hashlib
import json

from mcp_proxy.sandbox.accounts import Window
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.account import POOLS, REMEMBERED, GoogleAccount, binding
from mcp_proxy.sandbox.google.models import catalog_lists
from mcp_proxy.sandbox.google.wrongs import Denied, error_info, nested
from mcp_proxy.sandbox.hosts import rfc3339
from mcp_proxy.sandbox.replies import Reply, document
from mcp_proxy.sandbox.wrongs import Wrong

PLANS = {"g1-pro-tier": "Google AI Pro", "g1-ultra-tier": "Google AI Ultra"}
GROUPS = {"gemini": "Gemini Models", "3p": "Claude and GPT models"}
NAMES = {"5h": "Five Hour Limit", "weekly": "Weekly Limit"}
NOWHERE = {
    "tierId": "free-tier",
    "reasonCode": "UNSUPPORTED_LOCATION",
    "reasonMessage": "Your current account is not eligible for Antigravity: it is not available in your location.",
}


def load(account: GoogleAccount, body: Json) -> Reply:
    """`loadCodeAssist`. Who does not say which program it is learns of no paid plan."""
    free = {"id": account.tier, "name": "Antigravity", "isDefault": not account.stranded, "description": "Simulated"}
    own = {
        "id": "standard-tier",
        "name": "Antigravity",
        "userDefinedCloudaicompanionProject": True,
        "usesGcpTos": True,
        "isDefault": account.stranded,
    }
    told: Json = {"currentTier": free, "allowedTiers": [_plain(free), _plain(own)], "gcpManaged": False}
    if account.stranded:
        told |= {"currentTier": own, "allowedTiers": [_plain(own)], "ineligibleTiers": [NOWHERE]}
    if account.project is not None:
        told["cloudaicompanionProject"] = {"id": account.project} if account.as_object else account.project
    if account.plan is not None and body.get("metadata", {}).get("ideType") in ("ANTIGRAVITY", "JETSKI"):
        credits = {"creditType": "GOOGLE_ONE_AI", "creditAmount": "1000", "minimumCreditAmountForUsage": "50"}
        name = PLANS.get(account.plan, account.plan)
        told["paidTier"] = {"id": account.plan, "name": name, "availableCredits": [credits]}
    return document(200, told)


def _plain(tier: Json) -> Json:
    return {name: value for name, value in tier.items() if value is not False}


def onboard(account: GoogleAccount, body: Json) -> Reply:
    """`onboardUser`: not done for a while, then with a project, or without one where the place is the wrong one."""
    if account.polled < account.polls:
        account.polled += 1
        return document(200, {"name": f"operations/{account.alias}", "done": False})
    if account.stranded:
        return document(200, {"name": f"operations/{account.alias}", "done": True, "response": {}})
    account.project = account.project or f"cogent-{account.alias}-4mnnp"
    project = {"id": account.project, "name": account.project, "projectNumber": "123456789012"}
    return document(200, {"done": True, "response": {"cloudaicompanionProject": project}})


def check_onboarding(body: Json) -> None:
    if "cloudaicompanionProject" in body:
        raise Denied("Request contains an invalid argument.", blame="a project for a tier that makes its own")
    if body.get("tierId") not in ("free-tier", "standard-tier", "legacy-tier"):
        raise Denied(f"Invalid tier: {body.get('tierId')}")


def check_project(account: GoogleAccount, body: Json, *, needed: bool) -> None:
    """Raises `Wrong` for a project that is not the account's."""
    project = body.get("project")
    if project == "":
        raise Denied("Internal error encountered.", 500, blame="project: is empty")
    if project is None and needed:
        raise Denied("Invalid project resource name projects/")
    if project is not None and project != account.project:
        message = (
            f"Permission 'cloudaicompanion.companions.generateChat' denied on resource "
            f"'//cloudaicompanion.googleapis.com/projects/{project}' (or it may not exist)."
        )
        raise Denied(message, 403, details=[error_info("IAM_PERMISSION_DENIED")])


def models(account: GoogleAccount) -> Reply:
    """`fetchAvailableModels`: an object by id. What is nought is left out, as proto-JSON does."""
    listed = account.google_models()
    shown = {}
    for model in listed:
        tightest = binding(account.pool(model.family.pool))
        shown[model.id] = {**model.entry(), "quotaInfo": left(tightest) if tightest else {"remainingFraction": 1}}
    return document(200, {"models": shown, **catalog_lists(listed)})


def left(window: Window) -> Json:
    told: Json = {"remainingFraction": round(window.left, 8)} if window.left else {}
    return told if window.resets_at is None else {**told, "resetTime": rfc3339(window.resets_at)}


def summary(account: GoogleAccount) -> Reply:
    """`retrieveUserQuotaSummary`."""
    groups = []
    for pool in POOLS:
        buckets = [
            {"bucketId": window.name, "displayName": NAMES.get(name, name), "window": name, **left(window)}
            for window in account.pool(pool)
            for name in (window.name.removeprefix(f"{pool}-"),)
        ]
        if buckets and pool not in account.unsummed:
            groups.append({"displayName": GROUPS[pool], "description": "Models within this group", "buckets": buckets})
    told = {"groups": groups}
    return document(200, told if account.wrapped is None else {account.wrapped: told})


def tokens_of(request: Json) -> int:
    """Tokens, roughly: four characters each."""
    return max(1, len(json.dumps(request, sort_keys=True)) // 4)


def cached(account: GoogleAccount, model: str, request: Json, now: float) -> tuple[int, int]:
    """Tokens of this prompt, and how many of them the conversation had sent before, to the same account."""
    running, size, ends = hashlib.sha256(model.encode()), 0, dict[bytes, int]()
    for piece in (request.get("systemInstruction"), request.get("tools"), *request.get("contents", ())):
        written = json.dumps(piece, sort_keys=True).encode()
        size += len(written)
        running.update(written)
        ends[running.digest()] = max(1, size // 4)
    total = max(1, size // 4)
    session = request.get("sessionId")
    if session is None:
        return total, 0
    until, known = account.sessions.get(session, (0.0, {}))
    known = known if now < until else {}
    account.sessions[session] = (now + REMEMBERED, {**known, **ends})
    return total, max((tokens for digest, tokens in ends.items() if digest in known), default=0)


def too_long(tokens: int, most: int, claude: bool) -> Wrong:
    if claude:
        return nested(f"prompt is too long: {tokens} tokens > {most} maximum")
    return Denied(f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({most}).")
