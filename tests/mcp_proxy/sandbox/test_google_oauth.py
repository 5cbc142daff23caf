from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.sandbox import Rules, Sandbox, faults, refusals
from mcp_proxy.sandbox.accounts import Place
from mcp_proxy.sandbox.google import refusals as google
from tests.e2e.harness import settings, store
from tests.faults.secrets import MARK
from tests.mcp_proxy.sandbox.asking import client
from tests.mcp_proxy.sandbox.google import (
    REDIRECT,
    call,
    error,
    exchanged,
    page,
    refreshed,
    token,
    told,
    visit,
)


async def userinfo(box: Sandbox, bearer: str, version: str = "v1") -> Any:
    async with client() as asking:
        named = {"authorization": f"Bearer {bearer}"}
        return await asking.get(f"{box.url('antigravity')}/oauth2/{version}/userinfo", headers=named)


async def test_a_sign_in_gives_tokens_that_work() -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity", email="someone@example.com")
        back = told(await visit(box))
        assert back["state"] == page(box)["state"] and "error" not in back
        given = (await exchanged(box, back["code"])).json()
        assert given["expires_in"] == 3599 and given["token_type"] == "Bearer"
        assert given["refresh_token"] == account.refreshes[-1] != account.key
        assert all(MARK in given[name] for name in ("access_token", "refresh_token")) and MARK in back["code"]
        for version in ("v1", "v2"):
            assert (await userinfo(box, given["access_token"], version)).json()["email"] == "someone@example.com"
        loaded = await call(box, given["access_token"], "loadCodeAssist", {"metadata": {"ideType": "ANTIGRAVITY"}})
        assert loaded.json()["cloudaicompanionProject"] == account.project
        again = (await token(box, grant_type="refresh_token", refresh_token=given["refresh_token"])).json()
        assert "refresh_token" not in again and again["access_token"] != given["access_token"]
        assert account.minted == 2 and account.refused == 0 and box.complaints == []


PAGES: list[tuple[dict[str, str | None], str]] = [
    *(({name: None}, f"parameter: {name}") for name in ("client_id", "redirect_uri", "response_type", "scope")),
    *(({name: None}, f"parameter: {name}") for name in ("access_type", "prompt", "state", "code_challenge")),
    ({"code_challenge_method": None}, "parameter: code_challenge_method"),
    ({"client_id": "somebody"}, "invalid_client"),
    ({"redirect_uri": "https://localhost:51121/oauth-callback"}, "redirect_uri_mismatch"),
    ({"redirect_uri": "http://example.com:51121/oauth-callback"}, "redirect_uri_mismatch"),
    ({"redirect_uri": "http://localhost/oauth-callback"}, "redirect_uri_mismatch"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"scope": "openid"}, "invalid_scope"),
    ({"scope": "https://www.googleapis.com/auth/cloud-platform"}, "invalid_scope"),
    ({"access_type": "online"}, "access_type"),
    ({"prompt": "none"}, "prompt"),
    ({"state": "short"}, "state"),
    ({"code_challenge_method": "plain"}, "code_challenge_method"),
    ({"code_challenge": "x"}, "code_challenge"),
    ({"nonsense": "1"}, "nonsense"),
]


@pytest.mark.parametrize(("change", "why"), PAGES, ids=lambda value: str(value)[:40])
async def test_a_page_that_is_asked_for_wrongly_is_not_shown(change: dict[str, str | None], why: str) -> None:
    async with Sandbox(["antigravity"]) as box:
        box.account("antigravity")
        answer = await visit(box, **change)
        assert answer.status_code in (400, 401) and why in answer.text
        assert len(box.complaints) == 1
        assert "code" in told(await visit(box)), "the twin is shown"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8080/callback", "http://[::1]:9/x", REDIRECT])
async def test_any_address_on_the_persons_own_machine_is_answered(uri: str) -> None:
    async with Sandbox(["antigravity"]) as box:
        box.account("antigravity")
        answer = await visit(box, redirect_uri=uri)
        assert answer.headers["location"].startswith(f"{uri}?")
        assert (await exchanged(box, told(answer)["code"], redirect_uri=uri)).status_code == 200


async def test_a_person_can_say_no_or_be_another() -> None:
    async with Sandbox(["antigravity"]) as box:
        one, other = box.account("antigravity", alias="one"), box.account("antigravity", alias="other")
        choice = await visit(box)
        assert choice.status_code == 200 and one.email in choice.text and other.email in choice.text
        assert "code" in told(await visit(box, **{"as": other.email}))
        assert told(await visit(box, **{"as": "nobody"}))["error"] == "access_denied"
        box.google().sign_in.person = one
        given = (await exchanged(box, told(await visit(box))["code"])).json()
        assert (await userinfo(box, given["access_token"])).json()["email"] == one.email
        box.google().sign_in.denies = True
        assert told(await visit(box)) == {"error": "access_denied", "state": page(box)["state"]}


EXCHANGES: list[tuple[dict[str, str | None], int, str]] = [
    ({"client_id": "somebody"}, 401, "invalid_client"),
    ({"client_secret": "wrong"}, 401, "invalid_client"),
    ({"client_secret": None}, 401, "invalid_client"),
    ({"code": "4/none"}, 400, "invalid_grant"),
    ({"code": None}, 400, "invalid_grant"),
    ({"redirect_uri": "http://localhost:51122/oauth-callback"}, 400, "redirect_uri_mismatch"),
    ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
    ({"code_verifier": None}, 400, "invalid_grant"),
    ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ({"grant_type": None}, 400, "invalid_request"),
    ({"nonsense": "1"}, 400, "invalid_request"),
]


@pytest.mark.parametrize(("change", "status", "kind"), EXCHANGES, ids=lambda value: str(value)[:40])
async def test_a_code_is_only_good_for_who_asked_for_it(change: dict[str, str | None], status: int, kind: str) -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity")
        code = told(await visit(box))["code"]
        answer = await exchanged(box, **{"code": code, **change})
        assert (answer.status_code, answer.json()["error"]) == (status, kind)
        assert account.minted == 0
        assert (await exchanged(box, code)).status_code == 200, "the twin is"


async def test_a_code_is_good_once_and_for_ten_minutes() -> None:
    now = 1000.0
    async with Sandbox(["antigravity"], clock=lambda: now) as box:
        box.account("antigravity")
        first, second = told(await visit(box))["code"], told(await visit(box))["code"]
        assert (await exchanged(box, first)).status_code == 200
        assert (await exchanged(box, first)).json()["error"] == "invalid_grant"
        now += 600
        assert (await exchanged(box, second)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_that_is_not_good_is_refused_in_the_words_google_has_for_it() -> None:
    async with Sandbox(["antigravity"]) as box:
        account, banned = box.account("antigravity"), box.account("antigravity")
        missing = await token(box, grant_type="refresh_token")
        assert missing.json()["error"] == "invalid_request"
        unknown = await refreshed(box, account, refresh_token="1//of-nobody")
        assert unknown.json() == {
            "error": "invalid_grant",
            "error_description": "Token has been expired or revoked.",
        }
        banned.banned = True
        assert (await refreshed(box, banned)).json()["error_description"] == "Bad Request"
        given = account.grant().refresh_token.reveal()
        access = (await refreshed(box, account)).json()["access_token"]
        account.revoke()
        assert (await token(box, grant_type="refresh_token", refresh_token=given)).status_code == 400
        assert (await userinfo(box, access)).status_code == 401, "nothing of the consent is left"
        assert (account.minted, account.refused, banned.refused) == (1, 1, 1)
        assert len(box.complaints) == 1, "the request that named no token; of the others nobody is to blame"


async def test_a_refresh_may_give_another_refresh_token_and_a_sign_in_none() -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity", rotates=True, withholds=True)
        old = account.grant().refresh_token.reveal()
        fresh = (await refreshed(box, account)).json()["refresh_token"]
        assert fresh == account.grant().refresh_token.reveal() != old
        assert (await token(box, grant_type="refresh_token", refresh_token=old)).json()["error"] == "invalid_grant"
        assert (await token(box, grant_type="refresh_token", refresh_token=fresh)).status_code == 200
        assert "refresh_token" not in (await exchanged(box, told(await visit(box))["code"])).json()


async def test_access_tokens_expire_by_the_clock_and_on_command() -> None:
    now = 1000.0
    async with Sandbox(["antigravity"], clock=lambda: now) as box:
        account = box.account("antigravity")
        first = (await refreshed(box, account)).json()["access_token"]
        now += 3599
        assert (await call(box, first, "fetchAvailableModels", {})).status_code == 200
        now += 1
        answer = await call(box, first, "fetchAvailableModels", {})
        assert error(answer)[:2] == (401, "UNAUTHENTICATED")
        second = (await refreshed(box, account)).json()["access_token"]
        account.expire()
        assert (await call(box, second, "fetchAvailableModels", {})).status_code == 401
        assert account.unauthorized == 2 and box.complaints == [], "that is nobody's bad manners"
        assert (await call(box, "nonsense", "fetchAvailableModels", {})).status_code == 401
        account.lifetime = 60
        assert (await refreshed(box, account)).json()["expires_in"] == 59


TROUBLE = [
    (google.token_trouble(), 500, "internal_failure"),
    (google.token_trouble(503), 503, "internal_failure"),
    (google.too_many_tokens(7), 429, "rate_limit_exceeded"),
    (google.invalid_grant(), 400, "invalid_grant"),
    (google.invalid_client(), 401, "invalid_client"),
]


@pytest.mark.parametrize(("fault", "status", "kind"), TROUBLE, ids=repr)
async def test_the_token_endpoint_fails_as_it_is_told_to_and_then_no_more(
    fault: faults.Fault, status: int, kind: str
) -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity")
        account.script(fault, on=Place.TOKEN)
        answer = await refreshed(box, account)
        assert (answer.status_code, answer.json()["error"]) == (status, kind)
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
        assert account.minted == 0 and (await refreshed(box, account)).status_code == 200


async def test_the_token_endpoint_answers_with_pages_and_nonsense_too() -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity")
        account.script(faults.html(503), faults.json_instead({"token": 1}), refusals.html_502(), on=Place.TOKEN)
        assert "<title>" in (await refreshed(box, account)).text
        assert (await refreshed(box, account)).json() == {"token": 1}
        assert (await refreshed(box, account)).status_code == 502


async def test_forms_are_forms() -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity")
        url = box.settings("antigravity")["MCP_PROXY_PROVIDERS__ANTIGRAVITY__TOKEN_URL"]
        async with client() as asking:
            assert (await asking.post(url, json={"a": "b"})).json()["error"] == "invalid_request"
            assert (await asking.get(url)).status_code == 405
            twice = await asking.post(url, data={"client_id": ["a", "b"]})
            assert "single value" in twice.json()["error_description"]
        assert (await token(box, {"authorization": "Basic x"}, grant_type="refresh_token")).status_code == 400
        assert (await refreshed(box, account)).status_code == 200


async def test_a_lenient_google_asks_for_no_more_than_the_standard() -> None:
    async with Sandbox(["antigravity"], rules=Rules.REAL) as box:
        box.account("antigravity")
        left_out = {"code_challenge": None, "code_challenge_method": None, "prompt": None, "state": None}
        back = told(await visit(box, **left_out))
        assert (await exchanged(box, back["code"], code_verifier=None)).status_code == 200


async def test_the_settings_name_every_address_and_the_client() -> None:
    async with Sandbox(["anthropic", "antigravity"]) as box:
        settings = box.settings("antigravity")
        assert all(value.startswith(box.url("antigravity")) for name, value in settings.items() if "URL" in name)
        grant = box.account("antigravity").grant(with_client=True)
        assert grant.client is not None and grant.client.id == settings["GOOGLE_CLIENT_ID"]
        assert box.settings("anthropic") == {}


async def test_the_proxy_keeps_a_grant_and_finds_the_sandbox(tmp_path: Path) -> None:
    async with Sandbox(["antigravity"]) as box:
        account = box.account("antigravity", alias="a")
        at = settings(tmp_path, "", **box.settings("antigravity"))
        assert at.providers["antigravity"].base_urls == (box.url("antigravity"),)
        store(at, [("antigravity", account.grant(), {"label": "a"})])
        (entry,) = open_vault(at).entries()
        assert entry.credential == account.grant() and entry.account.base_url is None


async def test_standing_alone_it_prints_the_settings_that_lead_to_it() -> None:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcp_proxy.sandbox", "--host", "antigravity", stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    lines = [(await running.stdout.readline()).decode().split() for _ in range(9)]
    assert lines[0][0] == "antigravity"
    settings = dict(line[0].split("=", 1) for line in lines[3:])
    form = {"client_id": settings["GOOGLE_CLIENT_ID"], "client_secret": settings["GOOGLE_CLIENT_SECRET"]}
    form |= {"grant_type": "refresh_token", "refresh_token": lines[2][0]}
    async with client() as asking:
        given = await asking.post(settings["MCP_PROXY_PROVIDERS__ANTIGRAVITY__TOKEN_URL"], data=form)
    assert given.status_code == 200 and given.json()["access_token"]
    running.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(running.wait(), 3) == 0
