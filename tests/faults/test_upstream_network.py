"""U10, U15: the way to an upstream: names, ports, certificates, and hosts that swallow everything."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mcp_proxy.transport import client as transport
from tests.e2e.harness import Proxy, serving_accounts
from tests.faults.answers import is_told, is_whole, messages, well
from tests.faults.certificates import Authority
from tests.faults.line import until
from tests.faults.upstream import Talk, Upstream, silent, upstream

CONNECT_SECONDS = 0.4


@contextlib.contextmanager
def swallowing() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as held, contextlib.ExitStack() as stack:
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(held.getsockname())
        yield held.getsockname()[1]


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port that nobody listens at, and that nobody else can take."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.asynccontextmanager
async def at(home: Path, *urls: str) -> AsyncIterator[Proxy]:
    """The proxy in front of accounts at these addresses, asked in this order."""
    accounts = [
        ("anthropic", f"key-of-a{n}-sk-fake", {"label": f"a{n}", "base_url": url, "tier": n + 1})
        for n, url in enumerate(urls)
    ]
    async with serving_accounts(home, accounts) as proxy:
        yield proxy


async def fails_over(home: Path, bad: str, sound: Upstream, status: int, reason: str) -> None:
    """The next account serves; alone, it is told why not; and nobody is blamed for the network."""
    loop = asyncio.get_running_loop()
    async with at(home / "two", bad, sound.url("")) as proxy:
        begun, before = loop.time(), len(sound.asked())
        for streams in (True, False):
            assert is_whole(await proxy.ask(stream=streams), streams=streams)
        assert loop.time() - begun < 2 * CONNECT_SECONDS + 1.5
        assert len(sound.asked()) - before == 2
        a0 = proxy.gateway.pool.seats[0]
        assert (a0.account.invalid, a0.closed) == (None, {}) and a0.breaker.failures
    async with at(home / "one", bad) as proxy:
        begun = loop.time()
        reply = await proxy.ask(stream=True)
        assert is_told(reply, status), reply.text
        assert reply.json()["error"]["message"] == f"upstream: {reason}"
        assert loop.time() - begun < CONNECT_SECONDS + 1.5
        assert (await proxy.limits())["a0"]["error"] is None


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", CONNECT_SECONDS)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """One that the system trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.root))
    transport.tls.cache_clear()
    yield made
    transport.tls.cache_clear()


async def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    """U10."""
    async with upstream(messages(well)) as sound:
        await fails_over(tmp_path, "https://upstream.invalid", sound, 502, "name not resolved")


async def test_a_port_that_nobody_listens_at(tmp_path: Path) -> None:
    """U10."""
    async with upstream(messages(well)) as sound:
        with nobody() as port:
            await fails_over(tmp_path, f"http://127.0.0.1:{port}", sound, 502, "connection refused")


async def test_a_host_that_swallows_everything(tmp_path: Path) -> None:
    """U10."""
    async with upstream(messages(well)) as sound:
        with swallowing() as port:
            await fails_over(tmp_path, f"http://127.0.0.1:{port}", sound, 504, "no connection in time")


async def test_a_host_that_says_nothing_of_its_certificate(tmp_path: Path) -> None:
    """U10: it takes the connection and never begins TLS."""
    async with upstream(messages(well)) as sound, upstream(silent) as mute:
        await fails_over(tmp_path, f"https://localhost:{mute.port}", sound, 504, "no connection in time")
        await until(lambda: mute.open == 0, 1.0)


async def test_a_host_that_speaks_no_tls(tmp_path: Path) -> None:
    """U10."""

    async def plain(talk: Talk) -> None:
        await talk.say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with upstream(messages(well)) as sound, upstream(plain) as other:
        await fails_over(tmp_path, f"https://localhost:{other.port}", sound, 502, "TLS failed")


BAD_CERTIFICATES = {
    "of another host": ("other.example", datetime.timedelta(days=1), True),
    "that has expired": ("localhost", datetime.timedelta(days=-1), True),
    "that nobody we know signed": ("localhost", datetime.timedelta(days=1), False),
}


@pytest.mark.parametrize("about", BAD_CERTIFICATES)
async def test_a_certificate(tmp_path: Path, authority: Authority, about: str) -> None:
    """U10."""
    host, left, trusted = BAD_CERTIFICATES[about]
    context = authority.server(host, left=left, trusted=trusted)
    async with upstream(messages(well)) as sound, upstream(messages(well), context) as bad:
        await fails_over(tmp_path, f"https://localhost:{bad.port}", sound, 502, "TLS failed")
        assert bad.heard == [], "not a byte of a request was said to it"


async def test_a_good_certificate_is_good_and_only_http_1_is_spoken_behind_it(
    tmp_path: Path, authority: Authority
) -> None:
    """U10, the twin; U15: HTTP/2 is offered, and not taken up."""
    agreed = set[str | None]()

    async def part(talk: Talk) -> None:
        secured = talk.writer.get_extra_info("ssl_object")
        assert isinstance(secured, ssl.SSLObject)
        agreed.add(secured.selected_alpn_protocol())
        await well(talk)

    async with upstream(messages(part), authority.server("localhost")) as a0:
        async with at(tmp_path, f"https://localhost:{a0.port}") as proxy:
            for streams in (True, False):
                assert is_whole(await proxy.ask(stream=streams), streams=streams)
    assert agreed <= {None, "http/1.1"} and agreed
    assert all(each.split(b"\r\n")[0].endswith(b" HTTP/1.1") for each in a0.heard)


async def test_tls_that_breaks_behind_a_request_is_a_cut_and_the_next_account_there_is_asked(
    tmp_path: Path, authority: Authority
) -> None:
    """U10: the address was reached, and the request may have had its effect."""

    async def part(talk: Talk) -> None:
        if len(talk.upstream.asked()) > 1:
            await well(talk)
        else:
            os.write(talk.writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"no record" * 4)
            await talk.left()

    async with upstream(messages(part), authority.server("localhost")) as there:
        async with at(tmp_path, *[f"https://localhost:{there.port}"] * 2) as proxy:
            reply = await proxy.ask()
            assert is_whole(reply, streams=False) and reply.headers["x-proxy-attempts"] == "2"


async def test_where_an_address_cannot_be_reached_its_other_accounts_are_not_tried(tmp_path: Path) -> None:
    """U10."""
    async with upstream(messages(well)) as sound:
        with swallowing() as port:
            bad = f"http://127.0.0.1:{port}"
            async with at(tmp_path, bad, bad, bad, sound.url("")) as proxy:
                reply = await proxy.ask()
                assert is_whole(reply, streams=False) and reply.headers["x-proxy-attempts"] == "2"


@pytest.mark.slow
async def test_the_real_connect_deadline_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U10, with the real number."""
    monkeypatch.undo()
    assert transport.CONNECT_SECONDS <= 10
    loop = asyncio.get_running_loop()
    with swallowing() as port:
        async with at(tmp_path, f"http://127.0.0.1:{port}") as proxy:
            begun = loop.time()
            assert is_told(await proxy.ask(), 504)
            assert loop.time() - begun < transport.CONNECT_SECONDS + 2
