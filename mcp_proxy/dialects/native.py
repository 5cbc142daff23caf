"""Requests to upstreams that speak Anthropic Messages themselves, and what passes each way beside the body."""

from __future__ import annotations

from collections.abc import Callable

from accounts.model import Auth
from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Headers, UpstreamRequest
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, BuildRequest, Offer
from mcp_proxy.dialects.anthropic_ask import bad_request
from mcp_proxy.dialects.cleaning.clean import cleaned, without_betas
from mcp_proxy.dialects.cleaning.rules import ANY_TASTE, ELSEWHERE, Rules, Taste
from mcp_proxy.dialects.gemini.profile import SEALS

VERSION = "2023-06-01"
"""What `anthropic-version` says where the caller does not (docs: "Versions")."""

_TO_ALL = frozenset({"accept", "content-type", "user-agent", "anthropic-version", "anthropic-beta"})
_TO_ANTHROPIC = ("anthropic-", "x-stainless-", "x-claude-code-")
_BACK = frozenset({"content-type", "retry-after", "x-should-retry"})

ANTHROPIC = Rules(signed=True, seals=SEALS, own_names=True)
"""Anthropic itself: nothing stays here that it would accept."""


def passing_headers(ask: Ask, to_anthropic: bool, betas: tuple[str, ...] = ELSEWHERE.betas) -> Headers:
    """What of the client's headers goes upstream, with what every upstream must be told; no credential.

    betas  how the names of those begin that only Anthropic is sent
    """
    passing: list[tuple[str, str]] = []
    for name, value in ask.headers:
        if not (value.isascii() and value.isprintable()):
            continue  # the way to the upstream would write it anew, in another encoding
        if name in _TO_ALL or (to_anthropic and (name == "x-app" or name.startswith(_TO_ANTHROPIC))):
            passing.append((name, value))
    if not to_anthropic:
        passing = [*without_betas(tuple(passing), betas)]
    present = {name for name, _ in passing}
    if "content-type" not in present:
        passing.append(("content-type", "application/json"))
    if "anthropic-version" not in present:
        passing.append(("anthropic-version", VERSION))
    passing.append(("accept-encoding", "identity"))
    return tuple(passing)


def returning_headers(headers: Headers, besides: tuple[str, ...] = ()) -> Headers:
    """What of an upstream's response headers goes back to the client.

    besides  how the names of others begin that do so too
    """
    return tuple((name, value) for name, value in headers if name in _BACK or name.startswith(besides))


def credential(auth: Auth, key: str) -> tuple[str, str]:
    """The one header that carries a key."""
    return ("x-api-key", key) if auth == "x-api-key" else ("authorization", f"Bearer {key}")


def address(base_url: str, path: str) -> str:
    """A `/v1/…` path under a base address, which may or may not end in `/v1` already."""
    return base_url.rstrip("/").removesuffix("/v1") + path


def messages_url(base_url: str, endpoint: Endpoint, beta: bool) -> str:
    """The address of an endpoint under a base address."""
    return address(base_url, f"{endpoint}?beta=true" if beta else f"{endpoint}")


def _any_taste(model: ModelId) -> Taste:
    return ANY_TASTE


def native_request(
    *, to_anthropic: bool, rules: Rules | None = None, taste: Callable[[ModelId], Taste] = _any_taste
) -> BuildRequest:
    """The `request` of a provider that speaks Anthropic Messages: the client's bytes under another model name.

    rules  what it is not sent; None: what holds for Anthropic, or for everybody else
    taste  what each of its models takes
    """
    held = rules or (ANTHROPIC if to_anthropic else ELSEWHERE)
    betas = held.betas

    def request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest | Failure:
        """The client's request as this upstream takes it, with this account's key."""
        if ask.endpoint is Endpoint.IMAGES:
            return bad_request(f"model: {offer.model} makes no pictures")
        body, names = cleaned(ask, offer.model, held, taste(offer.model))
        headers = passing_headers(ask, to_anthropic, betas)
        return UpstreamRequest(
            method="POST",
            url=messages_url(access.base_url, ask.endpoint, ask.beta),
            headers=(*headers, credential(access.auth, access.token.value.reveal())),
            body=body,
            cleaned=names,
        )

    return request
