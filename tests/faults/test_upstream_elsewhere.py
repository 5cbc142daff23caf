"""U13, U14, P8: nobody but the configuration says where a request goes, and what one account is told stays there."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import in_front_of, message, serving_accounts
from tests.faults.answers import NO_MODELS, Turns, is_told, is_whole, one, two
from tests.faults.dialled import dialled
from tests.faults.speech import answer, streamed
from tests.faults.speech import message as said
from tests.faults.upstream import Play, Upstream, answering, by_path, saying, upstream

SESSION = "session=canary-of-the-cookie"


def messages(said: bytes) -> Play:
    return by_path({"/v1/messages": saying(said)}, saying(NO_MODELS))


def redirect(status: int, location: str) -> bytes:
    fields = f"location: {location}\r\nrefresh: 0; url={location}\r\ncontent-length: 0"
    return f"HTTP/1.1 {status} Elsewhere\r\n{fields}\r\n\r\n".encode()


# redirects


@pytest.mark.usefixtures("unbroken")
async def test_a_redirect_is_not_followed_whatever_kind_it_is_and_wherever_it_leads(tmp_path: Path) -> None:
    """U13."""
    turns = Turns(otherwise=answer(said()))
    async with upstream(answering(answer(said()))) as elsewhere, two(tmp_path / "two", turns) as (proxy, a0, a1):
        places = (
            elsewhere.url(),
            f"http://key@localhost:{elsewhere.port}/v1/messages",
            f"//127.0.0.1:{elsewhere.port}/v1/messages",
            "/v1/elsewhere",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "file:///etc/passwd",
        )
        ways = [redirect(status, place) for status in (300, 301, 302, 303, 305, 307, 308) for place in places]
        with dialled() as hosts:
            for number, way in enumerate(ways, start=1):
                turns.answers.append(way)
                reply = await proxy.ask()
                assert is_whole(reply, streams=False) and reply.headers["x-proxy-attempts"] == "2", way
                assert len(a0.asked()) == len(a1.asked()) == number
                assert "location" not in reply.headers
        assert a0.asked("/v1/elsewhere") == a1.asked("/v1/elsewhere") == []
        async with one(tmp_path / "one", turns) as (alone, _):
            for way in ways:
                turns.answers.append(way)
                reply = await alone.ask()
                assert is_told(reply, 502) and not {"location", "refresh"} & set(reply.headers), way
        assert elsewhere.connections == 0, "nobody there has seen a key"
        assert hosts <= {"127.0.0.1"}


# cookies


async def test_a_cookie_of_one_account_is_sent_for_nobody(tmp_path: Path) -> None:
    """U14: both accounts at one host, and the one that got it again."""
    with_cookie = answer(said(), "application/json", f"set-cookie: {SESSION}; Path=/")
    async with upstream(by_path({"/v1/messages": saying(with_cookie)})) as there:
        accounts = [
            ("anthropic", f"key-of-a{n}-sk-fake", {"label": f"a{n}", "base_url": there.url(""), "tier": 1})
            for n in range(2)
        ]
        async with serving_accounts(tmp_path, accounts) as proxy:
            seen = set()
            for number in range(12):
                reply = await proxy.ask(session=f"conversation {number}")
                assert is_whole(reply, streams=False)
                assert "set-cookie" not in reply.headers
                seen.add(reply.headers["x-proxy-account"])
            assert len(seen) == 2, "both were used"
        assert b"cookie" not in b"".join(there.heard).lower()
        keys = {each.lower().partition(b"x-api-key: ")[2].partition(b"\r\n")[0] for each in there.asked()}
        assert keys == {b"key-of-a0-sk-fake", b"key-of-a1-sk-fake"}


# the request


def towards(place: str) -> dict[str, dict[str, Any]]:
    """Requests that would have us go there, if anything in a request could."""
    url = f"http://{place}/v1/messages"
    picture = {"type": "image", "source": {"type": "url", "url": f"http://{place}/a.png"}}
    return {
        "image": {"messages": [{"role": "user", "content": [picture]}]},
        "document": {
            "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": url}}]}]
        },
        "fields": {"api_base": url, "base_url": url, "proxy": url, "host": place, "metadata": {"api_base": url}},
        "servers": {"mcp_servers": [{"type": "url", "url": url, "name": "x"}]},
        "headers": {
            "headers": {
                "x-forwarded-host": place,
                "x-forwarded-for": place,
                "forwarded": f"host={place}",
                "x-original-url": url,
                "x-api-base": url,
                "anthropic-base-url": url,
                "x-stainless-base-url": url,
                "proxy-authorization": "Basic a2V5",
            }
        },
    }


MODELS = (
    "http://{place}/v1",
    "custom/http://{place}/v1",
    "anthropic/../../{place}",
    "anthropic/@{place}",
    "@{place}/claude-sonnet-5",
    "claude-sonnet-5@{place}",
    "anthropic/claude-sonnet-5?x=@{place}",
    "//{place}/sonnet",
)


async def test_nothing_in_a_request_chooses_a_host(tmp_path: Path) -> None:
    """P8."""
    async with upstream(answering(answer(said()))) as elsewhere, upstream(messages(answer(said()))) as a0:
        async with in_front_of(tmp_path, a0) as proxy:
            with dialled() as hosts:
                for place in (f"localhost:{elsewhere.port}", "169.254.169.254"):
                    for about, fields in towards(place).items():
                        reply = await proxy.ask(**fields)
                        assert is_whole(reply, streams=False), about
                    for model in MODELS:
                        reply = await proxy.ask(model=model.format(place=place))
                        assert reply.status_code in (200, 400, 404), model
            assert {each.split(b"\r\n")[0] for each in a0.asked()} == {b"POST /v1/messages HTTP/1.1"}
            assert {heard_host(each) for each in a0.asked()} == {f"127.0.0.1:{a0.port}"}
        assert elsewhere.connections == 0
        assert hosts <= {"127.0.0.1"}


def heard_host(request: bytes) -> str:
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
    assert len(hosts) == 1
    return hosts[0]


async def test_the_target_of_a_request_is_not_where_it_goes(tmp_path: Path) -> None:
    """P8: an absolute target, or one with a query, names no upstream."""
    async with upstream(answering(answer(said()))) as elsewhere, upstream(messages(answer(said()))) as a0:
        async with in_front_of(tmp_path, a0) as proxy:
            for query in (f"?base_url={elsewhere.url()}", f"?url=//127.0.0.1:{elsewhere.port}", "?beta=true&@a"):
                assert (await proxy.client.post(f"/v1/messages{query}", json=message())).status_code == 200
            targets = {each.split(b" ")[1] for each in a0.heard if each.startswith(b"POST")}
            assert targets == {b"/v1/messages", b"/v1/messages?beta=true"}
        assert elsewhere.connections == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254"])
async def test_a_name_that_is_resolved_to_a_metadata_address_is_not_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """P8: a name that was good when it was set may be pointed elsewhere later."""
    real = socket.getaddrinfo

    def pointed(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "upstream.example":
            return real(host, port, *more, **named)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, int(port or 0), 0, 0) if ":" in address else (address, int(port or 0))
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", pointed)
    accounts = [("anthropic", "key-of-a0-sk-fake", {"label": "a0", "base_url": "https://upstream.example"})]
    with dialled() as hosts:
        async with serving_accounts(tmp_path, accounts) as proxy:
            assert is_told(await proxy.ask(), 502)
    assert address not in hosts


async def test_of_two_upstreams_each_sees_only_its_own_key(tmp_path: Path) -> None:
    """P8, the twin: a secret goes to one place."""
    async with upstream(messages(redirect(307, "/"))) as a0, upstream(messages(streamed())) as a1:
        async with in_front_of(tmp_path, a0, a1) as proxy:
            assert is_whole(await proxy.ask(stream=True), streams=True)

    def has(there: Upstream, key: bytes) -> bool:
        return any(key in each for each in there.heard)

    assert (has(a0, b"key-of-a0-sk-fake"), has(a0, b"key-of-a1-sk-fake")) == (True, False)
    assert (has(a1, b"key-of-a1-sk-fake"), has(a1, b"key-of-a0-sk-fake")) == (True, False)
    assert json.loads(a1.asked()[0].partition(b"\r\n\r\n")[2])["stream"] is True
