"""The sign-in itself, against a Google on loopback: by the browser, by a paste, and what may go wrong with either."""

from __future__ import annotations

import asyncio
import socket

import pytest

from accounts.exits import Exit, Trouble
from accounts.model import OAuthClient, Secret
from accounts.sign_in import listener, tokens
from tests.accounts.sign_in.flow import LOOPBACKS, NOW, Flow, begun, closed, taken
from tests.accounts.sign_in.google import CLIENT, SCRIPT, Google


async def ended(flow: Flow) -> Trouble:
    with pytest.raises(Trouble) as caught:
        await flow.signed_in()
    assert "sk-fake" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    return caught.value


async def test_the_browser_brings_the_answer_and_the_grant_is_whole(google: Google) -> None:
    async with begun(google.recipe(port=0)) as flow:
        status, page = await flow.visits(flow.page)
        assert (status, "go back to the terminal" in page) == (200, True)
        found = await flow.signed_in()
        assert found.email == "someone@example.com"
        assert found.grant.client == CLIENT
        assert found.grant.refresh_token == Secret("sk-fake-refresh-1")
        assert found.grant.token is not None
        assert (found.grant.token.value, found.grant.token.expires_at) == (Secret("sk-fake-access-1"), NOW + 3599)
        assert closed(flow.port)
    (form,) = google.exchanges
    assert form["grant_type"] == ["authorization_code"]
    assert len(form["code_verifier"][0]) >= 43


async def test_every_sign_in_has_a_state_and_a_verifier_of_its_own(google: Google) -> None:
    async with begun(google.recipe(port=0)) as one, begun(google.recipe(port=0)) as other:
        for name in ("state", "code_challenge"):
            assert one.asked[name] != other.asked[name]
        assert len(one.state) == 32


@pytest.mark.parametrize("browser", [True, False])
@pytest.mark.parametrize("what", ["code", "encoded", "address"])
async def test_a_code_or_the_whole_address_may_be_pasted_instead(google: Google, what: str, browser: bool) -> None:
    async with begun(google.recipe(port=0 if browser else 51121), browser=browser) as flow:
        code = google.code_for(flow.page)
        pastes = {"code": code, "encoded": code.replace("/", "%2F"), "address": ""}
        await flow.person.pastes.put(pastes[what] or google.callback(flow.page))
        assert (await flow.signed_in()).email == "someone@example.com"
        assert flow.port == 51121 or browser
        assert closed(flow.port)
    assert len(google.exchanges) == 1


async def test_a_paste_that_cannot_be_used_is_told_and_the_next_one_counts(google: Google) -> None:
    async with begun(google.recipe(port=0), browser=False) as flow:
        for wrong in ("", "4/0Ashort", "http://localhost/?code=4/0A1234567890&state=another"):
            await flow.person.pastes.put(wrong)
        await flow.person.pastes.put(google.code_for(flow.page))
        await flow.signed_in()
        assert sum("cannot be used" in line for line in flow.person.told) == 2
    assert len(google.exchanges) == 1


async def test_the_end_of_the_input_ends_it_only_where_nobody_else_can_answer(google: Google) -> None:
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(None)
        assert (await ended(flow)).exit_code == Exit.USAGE
    async with begun(google.recipe(port=0)) as flow:
        await flow.person.pastes.put(None)
        await flow.visits(flow.page)
        await flow.signed_in()


HEADS = {
    "another state": "GET {path}?state=another&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "no state": "GET {path}?code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "two states": "GET {path}?state={state}&state=x&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "no code": "GET {path}?state={state} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "two codes": "GET {path}?state={state}&code={code}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a fragment": "GET {path}#state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "another path": "GET /other?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a longer path": "GET {path}/?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a whole address": "GET http://{host}{path}?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a POST": "POST {path}?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nx=1",
    "a HEAD": "HEAD {path}?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a foreign host": "GET {path}?state={state}&code={code} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another port": "GET {path}?state={state}&code={code} HTTP/1.1\r\nHost: localhost:1\r\n\r\n",
    "no host": "GET {path}?state={state}&code={code} HTTP/1.1\r\n\r\n",
    "two hosts": "GET {path}?state={state}&code={code} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
    "HTTP/0.9": "GET {path}?state={state}&code={code}\r\n\r\n",
    "no HTTP": "\x16\x03\x01\x02\r\n\r\n",
    "an error of somebody else": "GET {path}?error=access_denied&state=x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "a script": f"GET {{path}}?error={SCRIPT}&state={SCRIPT} HTTP/1.1\r\nHost: {{host}}\r\n\r\n",
    "a megabyte of query": "GET {path}?state={state}&code={code}&x=" + "x" * (1 << 20) + " HTTP/1.1\r\n\r\n",
    "a megabyte of head": "GET {path}?state={state}&code={code} HTTP/1.1\r\nX: " + "x" * (1 << 20),
}


@pytest.mark.parametrize("what", HEADS)
async def test_what_is_not_the_answer_gets_a_plain_page_and_the_wait_goes_on(google: Google, what: str) -> None:
    async with begun(google.recipe(port=0)) as flow:
        code = google.code_for(flow.page)
        fields = {"path": "/oauth-callback", "state": flow.state, "code": code, "host": f"localhost:{flow.port}"}
        said = await flow.knocks(HEADS[what].format(**fields))
        assert said.startswith("HTTP/1.1 400 ")
        assert "content-security-policy: default-src 'none'" in said.lower()
        assert SCRIPT not in said and code not in said and flow.state not in said
        assert not flow.task.done() and google.exchanges == []
        assert (await flow.visits(flow.page))[0] == 200
        await flow.signed_in()
    assert len(google.exchanges) == 1


async def test_a_denied_consent_ends_it_without_an_exchange(google: Google) -> None:
    google.denies = True
    async with begun(google.recipe(port=0)) as flow:
        status, page = await flow.visits(flow.page)
        assert (status, "access_denied" in page) == (400, True)
        trouble = await ended(flow)
        assert (trouble.exit_code, "access_denied" in str(trouble)) == (Exit.SIGN_IN, True)
        assert closed(flow.port)
    assert google.exchanges == []


async def test_a_script_in_what_the_page_says_is_shown_as_text(google: Google) -> None:
    google.denies = True
    async with begun(google.recipe(port=0)) as flow:
        _, page = await flow.visits(google.callback(flow.page, error_description=SCRIPT))
        assert SCRIPT not in page and "&lt;script&gt;" in page
        await ended(flow)


async def test_a_pasted_refusal_ends_it_too(google: Google) -> None:
    google.denies = True
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(google.callback(flow.page))
        assert (await ended(flow)).exit_code == Exit.SIGN_IN
    assert google.exchanges == []


async def test_a_second_callback_finds_nobody_and_one_code_is_exchanged(google: Google) -> None:
    google.trouble["/token"] = "hang"
    async with begun(google.recipe(port=0)) as flow:
        address = google.callback(flow.page)
        assert (await flow.visits(address))[0] == 200
        while not google.exchanges and not closed(flow.port):
            await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="refused"):
            await flow.visits(address)
        await flow.person.pastes.put(google.code_for(flow.page))
        google.over.set()
        assert (await ended(flow)).exit_code == Exit.UNREACHABLE
    assert len(google.exchanges) == 1


async def test_two_callbacks_at_once_lead_to_one_exchange(google: Google) -> None:
    async with begun(google.recipe(port=0)) as flow:
        addresses = [google.callback(flow.page) for _ in range(8)]
        found = await asyncio.gather(*(flow.visits(one) for one in addresses), return_exceptions=True)
        assert sum(isinstance(one, tuple) and one[0] == 200 for one in found) == 1
        await flow.signed_in()
    assert len(google.exchanges) == 1


async def test_silent_and_slow_visitors_keep_nobody_out(google: Google) -> None:
    async with begun(google.recipe(port=0)) as flow:
        silent = [socket.create_connection(("127.0.0.1", flow.port)) for _ in range(100)]
        try:
            for one in silent[::2]:
                one.sendall(b"GET /oauth-callback?state=")
            assert (await flow.visits(flow.page))[0] == 200
            await flow.signed_in()
            assert closed(flow.port)
        finally:
            for one in silent:
                one.close()


async def test_a_visitor_that_never_ends_its_head_is_sent_away(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.sign_in.listener.HEAD_SECONDS", 0.1)
    async with begun(google.recipe(port=0)) as flow:
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                if await flow.knocks("GET /oauth-callback?state=") == "":
                    raise ConnectionResetError  # an end and a reset are the same to us
        assert not flow.task.done()


async def test_it_listens_on_both_loopback_addresses_and_on_no_other(google: Google) -> None:
    async with begun(google.recipe(port=0)) as flow:
        for host in LOOPBACKS:
            assert "400" in await flow.knocks("GET / HTTP/1.1\r\n\r\n", host)
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", flow.port)) != 0


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_a_port_that_is_taken_on_either_address_is_left_for_another(google: Google, host: str) -> None:
    with taken(host) as port:
        async with begun(google.recipe(port=port)) as flow:
            assert flow.port != port
            assert (await flow.visits(flow.page))[0] == 200
            await flow.signed_in()
    with taken() as free:
        pass
    async with begun(google.recipe(port=free)) as flow:
        assert flow.port == free
        assert flow.asked["redirect_uri"] == f"http://localhost:{free}/oauth-callback"


async def test_two_sign_ins_at_once_each_get_their_own_answer(google: Google) -> None:
    """A5."""
    with taken() as free:
        pass
    async with begun(google.recipe(port=free)) as one, begun(google.recipe(port=free)) as other:
        assert one.port == free != other.port
        crossed = google.callback(one.page).replace(f":{one.port}", f":{other.port}")
        assert (await one.visits(crossed))[0] == 400
        assert [(await each.visits(each.page))[0] for each in (other, one)] == [200, 200]
        found = [await each.signed_in() for each in (one, other)]
        assert found[0].grant.refresh_token != found[1].grant.refresh_token
    assert len(google.exchanges) == 2


async def test_nobody_is_waited_for_for_ever(google: Google) -> None:
    async with begun(google.recipe(port=0), patience=0.1) as flow:
        trouble = await ended(flow)
        assert (trouble.exit_code, "nobody signed in" in str(trouble)) == (Exit.SIGN_IN, True)
        assert closed(flow.port)


async def test_called_off_it_leaves_nothing_open(google: Google) -> None:
    async with begun(google.recipe(port=0)) as flow:
        with socket.create_connection(("127.0.0.1", flow.port)):
            flow.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flow.signed_in()
            assert closed(flow.port)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ((500, b'{"error":"internal"}'), Exit.UNREACHABLE),
        ((503, b"<html>busy</html>"), Exit.UNREACHABLE),
        ((429, b"{}"), Exit.UNREACHABLE),
        ((200, b"<html>hello</html>"), Exit.UNREACHABLE),
        ((200, b"[1]"), Exit.UNREACHABLE),
        ((200, b"{}"), Exit.UNREACHABLE),
        ((200, b'{"access_token": 7, "refresh_token": "x"}'), Exit.UNREACHABLE),
        ((200, b'{"access_token": "x", "refresh_token": "y", "expires_in": [1]}'), Exit.UNREACHABLE),
        ((200, b'{"access_token":"x","a":"' + b"x" * (1 << 20) + b'"}'), Exit.UNREACHABLE),
        ((200, b"[" * 100_000), Exit.UNREACHABLE),
        ((200, b"\x1f\x8b\x08", ("content_encoding", "gzip")), Exit.UNREACHABLE),
        ((302, b"", ("location", "/elsewhere")), Exit.UNREACHABLE),
        ((400, b'{"error":"invalid_grant","error_description":"Bad Request"}'), Exit.SIGN_IN),
        ((400, b'{"error":["x"],"error_description":{}}'), Exit.SIGN_IN),
        ((401, b'{"error":"invalid_client"}'), Exit.USAGE),
        ((401, b'{"error":"unauthorized_client"}'), Exit.USAGE),
        ("cut", Exit.UNREACHABLE),
        ("hang", Exit.UNREACHABLE),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_whatever_the_token_endpoint_does_is_told_and_asked_once(
    google: Google, monkeypatch: pytest.MonkeyPatch, trouble: object, code: Exit
) -> None:
    if trouble == "hang":
        monkeypatch.setattr(tokens, "SECONDS", 1.0)
    google.trouble["/token"] = trouble
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(google.code_for(flow.page))
        said = await ended(flow)
        assert said.exit_code == code
        assert ("GOOGLE_CLIENT_ID" in str(said)) == (code is Exit.USAGE)
    assert len(google.exchanges) == 1


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ((401, b"{}"), Exit.SIGN_IN),
        ((500, b"{}"), Exit.UNREACHABLE),
        ((200, b"<html>"), Exit.UNREACHABLE),
        ((200, b"[]"), Exit.SIGN_IN),
        ((200, b'{"id": "1"}'), Exit.SIGN_IN),
        ((200, b'{"email": ["x@y"]}'), Exit.SIGN_IN),
        ("cut", Exit.UNREACHABLE),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_account_that_nobody_names_is_not_signed_in(google: Google, trouble: object, code: Exit) -> None:
    google.trouble["/userinfo"] = trouble
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(google.code_for(flow.page))
        assert (await ended(flow)).exit_code == code


async def test_without_a_refresh_token_it_fails_and_says_what_to_do(google: Google) -> None:
    google.answers = {"refresh_token": None}
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(google.code_for(flow.page))
        trouble = await ended(flow)
        assert trouble.exit_code == Exit.SIGN_IN
        assert "Remove this program's access" in str(trouble)


async def test_a_replayed_code_is_refused_and_not_shown(google: Google) -> None:
    async with begun(google.recipe(port=0), browser=False) as flow:
        code = google.code_for(flow.page)
        await flow.person.pastes.put(code)
        await flow.signed_in()
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(code)
        trouble = await ended(flow)
        assert trouble.exit_code == Exit.SIGN_IN
        assert "invalid_grant" in str(trouble) and code not in str(trouble)


async def test_a_code_of_another_sign_in_is_no_good_here(google: Google) -> None:
    """A bare code carries no state: its verifier binds it."""
    async with begun(google.recipe(port=0), browser=False) as one, begun(google.recipe(port=0), browser=False) as other:
        await other.person.pastes.put(google.code_for(one.page))
        assert (await ended(other)).exit_code == Exit.SIGN_IN


async def test_a_client_that_google_does_not_know_is_a_setting_to_put_right(google: Google) -> None:
    client = OAuthClient("another.example", Secret("sk-fake-another"))
    async with begun(google.recipe(port=0), browser=False, client=client) as flow:
        await flow.person.pastes.put(google.code_for(flow.page))
        trouble = await ended(flow)
        assert trouble.exit_code == Exit.USAGE
        assert "Nothing was stored" in str(trouble) and "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET" in str(trouble)


async def test_variables_of_the_shell_lead_nobody_elsewhere(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with begun(google.recipe(port=0), browser=False) as flow:
        await flow.person.pastes.put(google.code_for(flow.page))
        await flow.signed_in()


@pytest.mark.parametrize(
    ("lasts", "until"),
    [
        (3599, NOW + 3599),
        ("3599", NOW + 3599),
        (0, NOW),
        (-5, NOW),
        (1.5, NOW + 1.5),
        (None, None),
        ("soon", None),
        (True, None),
        ([], None),
        (float("inf"), None),
        (10**400, None),
    ],
)
def test_a_tokens_end_is_counted_from_now(lasts: object, until: float | None) -> None:
    assert tokens.expiry(lasts, NOW) == until


def test_two_who_reach_for_one_port_at_the_same_moment_do_not_both_get_it() -> None:
    with taken() as free:
        pass
    one, other = listener._sockets(free), listener._sockets(free)
    try:
        assert one[0].getsockname()[1] == free != other[0].getsockname()[1]
    finally:
        for made in (*one, *other):
            made.close()
