"""What every provider must keep, whatever its wire. `tests/contracts/test_providers.py` runs it on each."""

from __future__ import annotations

import json
import math
from typing import Any

from msgspec.structs import replace

from accounts.model import Auth, CallersSignIn, Secret, Token, Verdict, Works
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamRequest
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.core.provider import Access, Listed, Offer, Provider, Size
from mcp_proxy.core.quota import ACCOUNT, BILLING, Quota, model_bucket
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.gateway.answer import read_answer
from tests.fakes import FakeResponse, FakeTransport

NAMES = frozenset(
    [
        "anthropic",
        "claude-subscription",
        "antigravity",
        "zai",
        "zhipu",
        "kimi",
        "kimi-code",
        "deepseek",
        "minimax",
        "alibaba",
        "openrouter",
        "custom",
        "copilot",
        "openai",
    ]
)
"""The names people may write (contract, "Providers")."""

NOW = Instant(1_788_177_600.0)
KEY = "sk-fake-upstream-key"
CLIENTS_OWN = "sk-fake-client-secret"
PRIVATE = ("x-api-key", "authorization", "x-proxy-api-key", "cookie", "x-forwarded-for", "host", "connection", "te")

GARBAGE: tuple[Any, ...] = (
    b"",
    b"\xff\xfe",
    b"<html>",
    b"[" * 100_000,
    None,
    7,
    "x",
    [],
    {},
    {"data": None, "usage": 3, "limits": {}, "model_remains": [None, 4, {}], "success": True, "base_resp": []},
    {"data": {"limits": [None, 7, {"type": "TOKENS_LIMIT", "unit": [], "percentage": "x", "nextResetTime": -1}]}},
    {"data": {"limits": [{"type": "TOKENS_LIMIT", "unit": 3, "percentage": -5, "nextResetTime": 1e300}]}},
    {"usage": {"limit": "0", "remaining": "x", "resetTime": 1}, "limits": [3, {"window": {"duration": "300"}}]},
    {"model_remains": [{"model_name": "MiniMax-M*", "current_interval_total_count": True, "end_time": "x"}]},
    {"data": [None, {"id": 3}, {"id": ""}, {"id": "m\n"}, {"id": "m"}], "has_more": True, "last_id": "m"},
)


def access(provider: Provider, auth: Auth | None = None) -> Access:
    base_url = provider.base_url or "https://own.example/prefix"
    known = {name: f"known-{name}" for name in provider.needs}
    return Access(base_url, auth or provider.auth, Token(Secret(KEY)), known=known)


def native(provider: Provider) -> bool:
    """Whether it speaks Anthropic's wire itself, so that its requests are the client's own."""
    return asked(provider, asking(), access(provider)).translate is None


def offers(provider: Provider) -> tuple[Offer, ...]:
    return (*provider.serves.offers, provider.serves.offer(ModelId("an-unlisted-model")))


def asking(endpoint: Endpoint = Endpoint.MESSAGES, *, beta: bool = True) -> Ask:
    headers = [(name, CLIENTS_OWN) for name in PRIVATE]
    headers += [("accept-encoding", "gzip"), ("content-length", "9"), ("anthropic-beta", "a-1,dangerous-tool-use-2")]
    body = (
        b'{"model":"claude-opus-5-5","messages":[{"role":"user","content":"Hi"}],'
        b'"safeguards":[{"x":"/home/someone"}],"stream":true}'
    )
    ask = read_ask(endpoint, body, tuple(headers), beta)
    assert isinstance(ask, Ask)
    return ask


def the_form_is_consistent(provider: Provider) -> None:
    assert provider.name in NAMES
    assert provider.title and provider.title.isprintable()
    assert provider.base_url is None or provider.base_url.startswith("https://")
    assert provider.base_url is None or not provider.base_url.endswith("/")
    listed = [offer.model for offer in provider.serves.offers]
    assert len(set(listed)) == len(listed)
    assert set(provider.serves.sizes) <= set(Size)
    assert set(provider.serves.sizes.values()) <= set(listed)
    assert len(provider.serves.sizes) in (0, len(Size))
    assert provider.serves.any == (provider.base_url is None)
    for offer in offers(provider):
        assert offer.buckets[:3] == (ACCOUNT, BILLING, model_bucket(offer.model))
        assert len(set(offer.buckets)) == len(offer.buckets)
        assert offer.context_window is None or offer.context_window > 1000
    for offer in provider.serves.offers:
        assert provider.serves.offer(offer.model).draws_on == offer.draws_on


def a_request_carries_one_credential_and_no_other(provider: Provider) -> None:
    expected = {"x-api-key": ("x-api-key", KEY), "bearer": ("authorization", f"Bearer {KEY}")}
    auths: tuple[Auth, ...] = ("x-api-key", "bearer")
    for auth in auths:
        for endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
            request = asked(provider, asking(endpoint), access(provider, auth))
            carried = [pair for pair in request.headers if pair[0] in ("x-api-key", "authorization")]
            assert carried == [expected[auth]]
            assert CLIENTS_OWN not in repr(request.headers)
            no_private_headers(request)


def no_private_headers(request: UpstreamRequest) -> None:
    names = [name for name, _ in request.headers]
    assert all(name == name.lower() for name in names)
    assert [value for name, value in request.headers if name == "accept-encoding"] == ["identity"]
    assert not {"cookie", "host", "content-length", "connection", "te", "x-forwarded-for"} & set(names)


def a_foreign_request_tells_nothing_of_the_client(provider: Provider) -> None:
    """Of the client's request it holds what was translated, and of the account one credential."""
    request = asked(provider, asking(), access(provider))
    carried = [pair for pair in request.headers if pair[0] in ("x-api-key", "authorization")]
    assert carried == [("authorization", f"Bearer {KEY}")]
    assert CLIENTS_OWN not in repr(request.headers) and KEY not in request.url and KEY.encode() not in request.body
    no_private_headers(request)
    assert not [name for name, _ in request.headers if name.startswith(("anthropic-", "x-stainless-", "x-app"))]
    assert request.method == "POST" and request.url.startswith(f"{access(provider).base_url}/")
    assert b"/home/someone" not in request.body and b"Hi" in request.body
    assert all(f"known-{name}".encode() in request.body for name in provider.needs)
    assert asked(provider, asking(), access(provider)).body == request.body
    refused = provider.request(replace(asking(), body=b"[]"), Offer(ModelId("up-model")), access(provider))
    assert isinstance(refused, Failure) and (refused.blame, refused.status) == (Blame.REQUEST, 400)


async def a_foreign_answer_is_an_answer_or_none(provider: Provider) -> None:
    """Whatever comes with status 200: never half a message, and every response is closed but an answer's."""
    for stream in (True, False):
        ask = replace(asking(), stream=stream)
        translate = asked(provider, ask, access(provider)).translate
        assert translate is not None
        for document in GARBAGE:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            for pieces in ((body,), (b"data: " + body + b"\n\n",), (body, NetworkTrouble(Trouble.CUT, sent=True))):
                response = FakeResponse(200, (("content-length", "9"), ("x-trace", "t")), pieces)
                translated = translate(response)
                assert ("x-trace", "t") in translated.headers
                assert "content-length" not in dict(translated.headers)
                await translated.aclose()
                assert response.closed
                try:
                    result = await read_answer(translate(response), ask, provider, offers(provider)[0], NOW)
                except NetworkTrouble:
                    continue
                assert isinstance(result, Failure) and result.blame is not Blame.ACCOUNT


def asked(provider: Provider, ask: Ask, access: Access) -> UpstreamRequest:
    request = provider.request(ask, Offer(ModelId("up-model")), access)
    assert isinstance(request, UpstreamRequest)
    return request


def a_request_goes_under_the_base_url(provider: Provider) -> None:
    for beta in (False, True):
        for endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
            request = asked(provider, asking(endpoint, beta=beta), access(provider))
            assert request.method == "POST"
            assert request.url == f"{access(provider).base_url}{endpoint}" + ("?beta=true" if beta else "")
            assert json.loads(request.body)["model"] == "up-model"


def safeguards_reach_anthropic_alone(provider: Provider) -> None:
    request = asked(provider, asking(), access(provider))
    here = provider.name in ("anthropic", "claude-subscription")
    assert ("safeguards" in json.loads(request.body)) is here
    assert any("dangerous-tool-use" in value for _, value in request.headers) is here
    assert dict(request.headers)["anthropic-version"]


def every_refusal_is_read(provider: Provider, refusal: Refusal, offer: Offer) -> Failure:
    failure = provider.read_failure(refusal, offer, NOW)
    assert failure.blame in Blame
    assert 400 <= failure.status < 600
    assert failure.message.strip() and len(failure.message) <= 2100
    failure.message.encode()
    if failure.limit is not None:
        assert failure.limit in offer.buckets
        assert failure.blame in (Blame.ACCOUNT, Blame.MODEL)
    if failure.retry_at is not None:
        assert math.isfinite(failure.retry_at) and NOW < failure.retry_at <= NOW + 32 * 86_400
    if failure.body is not None:
        assert failure.blame in (Blame.REQUEST, Blame.TOKEN) and json.loads(failure.body)["type"] == "error"
    assert {name for name, _ in failure.headers} <= {"content-type", "retry-after", "x-should-retry"}
    return failure


def a_key_in_an_error_is_not_repeated(provider: Provider) -> None:
    for secret in (
        "sk-fake0123456789abcdef",
        "Bearer fake.token-0123456789",
        "0123456789abcdef0123456789abcdef.FAKEFAKE",
    ):
        error = {"type": "authentication_error", "message": f"invalid key {secret}, sorry"}
        body = json.dumps({"type": "error", "error": error}).encode()
        failure = provider.read_failure(Refusal(401, (), body), offers(provider)[0], NOW)
        fresh = provider.mint is not None or isinstance(provider.sign_in, CallersSignIn)
        assert failure.blame is (Blame.TOKEN if fresh else Blame.ACCOUNT) and failure.limit is None
        assert "invalid key" in failure.message and secret not in failure.message


def headers_are_read_whatever_they_say(provider: Provider, value: str) -> None:
    families = [f"anthropic-ratelimit-{family}" for family in ("requests", "tokens", "input-tokens", "output-tokens")]
    for parts in ({"limit": value, "remaining": "1"}, {"limit": "10", "remaining": value, "reset": value}):
        headers = tuple((f"{family}-{part}", said) for family in families for part, said in parts.items())
        for offer in offers(provider):
            sane(provider.read_headers(headers, offer, NOW), offer)


def sane(quotas: tuple[Quota, ...], *drawing: Offer) -> None:
    known = {bucket for offer in drawing for bucket in offer.draws_on}
    for quota in quotas:
        assert quota.bucket in known
        assert quota.left is None or 0.0 <= quota.left <= 1.0
        assert quota.resets is None or math.isfinite(quota.resets)
        assert quota.read_at == NOW


async def questions_survive_any_answer(provider: Provider) -> None:
    for status in (200, 400, 401, 403, 404, 405, 429, 500, 529, 302):
        for document in GARBAGE:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            await _ask_everything(provider, FakeTransport([FakeResponse(status, (), (body,))]), status)
    for trouble in Trouble:
        cut = FakeResponse(200, (), (b"{", NetworkTrouble(trouble, sent=True)))
        for transport in (FakeTransport([NetworkTrouble(trouble, sent=False)]), FakeTransport([cut])):
            await _ask_everything(provider, transport, None)


async def _ask_everything(provider: Provider, transport: FakeTransport, status: int | None) -> None:
    verdict = await provider.verify(transport, access(provider), NOW)
    assert isinstance(verdict, Verdict)
    if status is None:
        assert verdict.works is Works.UNREACHABLE and verdict.detail
    if status == 401 or (status == 403 and provider.mint is None):  # with a minted token, 403 can be anybody's word
        assert verdict.works is Works.REFUSED and verdict.detail
    if provider.quotas is not None:
        read = await provider.quotas(transport, access(provider), NOW)
        if isinstance(read, Failure):
            assert read.limit is None and read.status != 200
            assert status is not None or read.blame is Blame.NETWORK
        else:
            sane(read, *offers(provider))
    if provider.discover is not None:
        found = await provider.discover(transport, access(provider), NOW)
        assert isinstance(found, Failure) or all(isinstance(each, Listed) and each.model for each in found)
    for request in transport.asked:
        host = access(provider).base_url.split("/")[2]
        assert request.url.startswith(f"https://{host}/")
        assert len([name for name, _ in request.headers if name in ("x-api-key", "authorization")]) == 1
        no_private_headers(request)
        assert KEY not in request.url
