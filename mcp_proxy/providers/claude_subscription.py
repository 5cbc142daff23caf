"""A Claude plan: asked with the login of whoever sends the request, never with one of ours.

Wire: as `anthropic_api`, with a bearer; its limits are windows, told by every response (observed, 2026-08 to 2026-11).
"""

from __future__ import annotations

import re
from dataclasses import replace

from accounts.model import CallersSignIn, Verdict
from mcp_proxy.core.failure import Failure
from mcp_proxy.core.http import Headers, Transport, UpstreamRequest, header
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.provider import Access, Offer, Provider, Serves
from mcp_proxy.core.quota import Quota
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.native import native_request
from mcp_proxy.providers import _unified, anthropic_api
from mcp_proxy.providers._asking import ask, get, verdict
from mcp_proxy.providers._errors import Case, reader

BETA = "oauth-2025-04-20"
"""Without it, a login is told that "OAuth authentication is currently not supported"."""

USAGE_PATH = "/api/oauth/usage"
NOTICE = (
    "Each request brings its caller's own login of Claude Code, which is passed on to Anthropic and kept nowhere;\n"
    "the proxy's key then comes as x-proxy-api-key. Anthropic's terms: a plan is for the person who bought it alone."
)
TERMS = (
    "Anthropic's terms: a plan is for Claude Code and its buyer alone. This reads the login that Claude Code keeps "
    "here, for requests from this machine alone, and never renews it."
)
_APART = re.compile(r"\bfable\b")
"""Models that a plan counts by themselves, besides with all others (observed: `7d_oi`)."""

_native = native_request(to_anthropic=True, taste=anthropic_api.taste)


def offer(model: ModelId, display_name: str | None = None, context_window: int | None = None) -> Offer:
    """Any model, with the plan's windows."""
    apart = (_unified.APART,) if _APART.search(model) else ()
    return Offer(model, (_unified.FIVE_HOURS, _unified.WEEK, *apart), display_name, context_window)


def _plain_offer(model: ModelId) -> Offer:
    return offer(model)


def request(ask: Ask, offer: Offer, access: Access) -> UpstreamRequest | Failure:
    """The client's request as it came, with its own login; with a login that was read here, marked as one."""
    made = _native(ask, offer, access)
    if access.callers or isinstance(made, Failure):
        return made
    return replace(made, headers=_marked(made.headers))


def _marked(headers: Headers) -> Headers:
    betas = header(headers, "anthropic-beta")
    if betas is None:
        return (*headers, ("anthropic-beta", BETA))
    if any(BETA in value for name, value in headers if name == "anthropic-beta"):
        return headers
    rest = tuple(pair for pair in headers if pair[0] != "anthropic-beta")
    said = [value for name, value in headers if name == "anthropic-beta"]
    return (*rest, ("anthropic-beta", ",".join([*said, BETA])))


def special(case: Case) -> Failure | None:
    """A login that has to be renewed, what is wrong with the request and not with the login, and windows."""
    if case.status == 401:
        return case.stale()
    if case.status == 403 and case.native:
        return case.request()  # "only authorized for use with Claude Code": no other account is asked to get round it
    if case.status != 429:
        return None
    return case.request() if anthropic_api.NOT_ENTITLED.match(case.message) else _unified.unified(case)


def read_headers(headers: Headers, offer: Offer, now: Instant) -> tuple[Quota, ...]:
    """What is left of the plan's windows."""
    return _unified.read_unified(headers, now)


async def verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    """Whether a login works: the plan's own page of what is left of it, which costs nothing."""
    question = get(access, access.at("usage_url", USAGE_PATH), headers=(("anthropic-beta", BETA),))
    return verdict(await ask(transport, question), now)


PROVIDER = Provider(
    name=ProviderName("claude-subscription"),
    title="Claude subscription",
    base_url="https://api.anthropic.com",
    auth="bearer",
    sign_in=CallersSignIn(notice=NOTICE, terms=TERMS),
    serves=Serves(
        offers=tuple(
            offer(known.model, known.display_name, known.context_window)
            for known in anthropic_api.PROVIDER.serves.offers
        ),
        sizes=anthropic_api.PROVIDER.serves.sizes,
        offer=_plain_offer,
    ),
    request=request,
    read_failure=reader(special),
    read_headers=read_headers,
    verify=verify,
    counts=True,
    passes_back=(_unified.PREFIX,),
)
