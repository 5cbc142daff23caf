from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from accounts.model import OAuthClient, OAuthGrant, Secret
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import NetworkTrouble, Trouble
from mcp_proxy.core.provider import Minted, Minting
from mcp_proxy.core.time import Instant
from mcp_proxy.providers._oauth import read_minted, refreshing
from tests.fakes import FakeTransport, answering

NOW = Instant(1_788_170_000.0)
URL = "https://auth.example/token"
CLIENT = OAuthClient("client-of-a-test", Secret("sk-fake-client-secret"))
GRANT = OAuthGrant(Secret("sk-fake-refresh/1"))
GOOD = {"access_token": "sk-fake-access", "expires_in": 3599, "token_type": "Bearer"}


async def minted(transport: FakeTransport, client: OAuthClient | None = CLIENT, **urls: str) -> Minted | Failure:
    return await refreshing(URL)(transport, Minting(GRANT, client, urls), NOW)


def read(status: int, body: Any, *headers: tuple[str, str]) -> Minted | Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_minted(Refusal(status, headers, raw), NOW)


async def test_the_form_is_that_of_the_standard() -> None:
    transport = answering(GOOD)
    result = await minted(transport)
    assert isinstance(result, Minted)
    assert (result.token.value, result.token.expires_at) == (Secret("sk-fake-access"), NOW + 3599)
    assert result.refresh_token is None
    (request,) = transport.asked
    assert (request.method, request.url) == ("POST", URL)
    assert dict(parse_qsl(request.body.decode())) == {
        "grant_type": "refresh_token",
        "refresh_token": "sk-fake-refresh/1",
        "client_id": "client-of-a-test",
        "client_secret": "sk-fake-client-secret",
    }


async def test_the_address_can_be_set() -> None:
    transport = answering(GOOD)
    await minted(transport, token_url="http://127.0.0.1:1/token")
    assert transport.asked[0].url == "http://127.0.0.1:1/token"


async def test_a_client_without_a_secret_sends_none() -> None:
    transport = answering(GOOD)
    await minted(transport, OAuthClient("public"))
    assert b"client_secret" not in transport.asked[0].body


async def test_without_a_client_nobody_is_asked() -> None:
    transport = answering(GOOD)
    result = await minted(transport, None)
    assert isinstance(result, Failure) and result.blame is Blame.CONFIG
    assert transport.asked == []


def test_a_new_refresh_token_replaces_the_old() -> None:
    result = read(200, GOOD | {"refresh_token": "sk-fake-refresh/2"})
    assert isinstance(result, Minted) and result.refresh_token == Secret("sk-fake-refresh/2")


@pytest.mark.parametrize(
    ("said", "lives"),
    [
        ("3599", 3599.0),
        (1.5, 1.5),
        (None, None),
        (0, None),
        (-5, None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("1e999", None),
        (True, None),
        (10**30, None),
        ([3599], None),
    ],
)
def test_how_long_a_token_lives(said: object, lives: float | None) -> None:
    result = read(200, GOOD | {"expires_in": said})
    assert isinstance(result, Minted)
    assert result.token.expires_at == (None if lives is None else NOW + lives)


def test_an_answer_that_does_not_say_how_long() -> None:
    result = read(200, {"access_token": "sk-fake-access"})
    assert isinstance(result, Minted) and result.token.expires_at is None


@pytest.mark.parametrize(
    ("status", "body", "blame"),
    [
        (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}, Blame.ACCOUNT),
        (400, {"error": "invalid_grant", "error_description": "Bad Request"}, Blame.ACCOUNT),
        (401, {"error": "INVALID_GRANT"}, Blame.ACCOUNT),
        (400, b"Token revoked", Blame.ACCOUNT),
        (401, {"error": {"message": "The credentials are invalid"}}, Blame.ACCOUNT),
        (401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}, Blame.CONFIG),
        (401, {"error": "unauthorized_client"}, Blame.CONFIG),
        (400, {"error": "invalid_client", "error_description": "the credentials are invalid"}, Blame.CONFIG),
        (400, {"error": "invalid_request"}, Blame.PROVIDER),
        (403, b"<html>no</html>", Blame.PROVIDER),
        (429, {"error": "invalid_grant"}, Blame.PROVIDER),
        (500, {"error": "invalid_grant"}, Blame.PROVIDER),
        (503, b"", Blame.PROVIDER),
        (302, b"", Blame.PROVIDER),
        (200, b"<html>sign in</html>", Blame.PROVIDER),
        (200, [], Blame.PROVIDER),
        (200, {"access_token": ""}, Blame.PROVIDER),
        (200, {"access_token": 5}, Blame.PROVIDER),
        (200, {"access_token": "two\r\nlines"}, Blame.PROVIDER),
        (200, b'{"access_token": "cut', Blame.PROVIDER),
    ],
)
def test_whose_fault_a_refusal_is(status: int, body: Any, blame: Blame) -> None:
    result = read(status, body)
    assert isinstance(result, Failure) and result.blame is blame


def test_when_to_come_back_is_kept() -> None:
    result = read(429, {}, ("retry-after", "7"))
    assert isinstance(result, Failure) and (result.status, result.retry_at) == (429, NOW + 7)


async def test_trouble_on_the_way_is_nobodys_fault() -> None:
    result = await minted(FakeTransport([NetworkTrouble(Trouble.REFUSED, sent=False)]))
    assert isinstance(result, Failure) and result.blame is Blame.NETWORK and not result.reached
