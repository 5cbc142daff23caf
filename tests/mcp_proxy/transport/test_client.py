"""The HTTP client against upstreams that send and receive bare bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamRequest, UpstreamResponse, read_all
from mcp_proxy.transport import client as transport
from mcp_proxy.transport import http1
from mcp_proxy.transport.client import Client, tls
from mcp_proxy.transport.pool import Clients
from tests.faults.line import open_sockets, until
from tests.faults.upstream import CHUNKED, OK, Talk, Upstream, answering, upstream

TLS = tls()


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """A client that must leave no socket and no task behind."""
    tasks, sockets = set(asyncio.all_tasks()), open_sockets()
    made = Client(TLS)
    try:
        yield made
    finally:
        await made.aclose()
    await until(lambda: set(asyncio.all_tasks()) <= tasks)
    await until(lambda: open_sockets() <= sockets)


async def whole(made: Client, request: UpstreamRequest) -> tuple[int, bytes]:
    response = await made.send(request)
    return response.status, await read_all(response, 1 << 20)


async def trouble(made: Client, request: UpstreamRequest) -> tuple[Trouble, bool]:
    with pytest.raises(NetworkTrouble) as caught:
        await whole(made, request)
    assert caught.value.__cause__ is None, "a cause may quote what was sent"
    return caught.value.trouble, caught.value.sent


async def test_headers_arrive_in_their_order_and_nothing_is_added() -> None:
    headers = (
        ("x-api-key", "sk-fake-secret"), ("content-type", "application/json"), ("anthropic-beta", "a"),
        ("anthropic-beta", "b"), ("accept-encoding", "identity"), ("x-odd", "caf\xc3\xa9"),
        ("anthropic-version", "2023-06-01"),
    )  # fmt: skip
    async with upstream(answering(OK)) as there, client() as made:
        assert await whole(made, there.request("/v1/messages?beta=true", headers, b'{"a": 1}')) == (200, b"ok")
    head, _, body = there.heard[0].partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first == "POST /v1/messages?beta=true HTTP/1.1"
    assert body == b'{"a": 1}'
    framing = [line for line in lines if line.lower().startswith(("host:", "content-length:"))]
    assert {line.lower() for line in framing} == {f"host: 127.0.0.1:{there.port}", "content-length: 8"}
    rest = [line.partition(": ")[::2] for line in lines if line not in framing]
    assert rest == list(headers)


async def test_a_get_without_headers_is_just_that() -> None:
    async with upstream(answering(OK)) as there, client() as made:
        await whole(made, UpstreamRequest("GET", there.url("/quota"), ()))
    assert there.heard == [f"GET /quota HTTP/1.1\r\nhost: 127.0.0.1:{there.port}\r\n\r\n".encode()]


@pytest.mark.parametrize("path", ["/a%2Fb", "/a%20b?x=%26y", "/v1/models/..%2fx", "/a+b?q=1+2"])
async def test_an_address_goes_out_as_it_was_written(path: str) -> None:
    async with upstream(answering(OK)) as there, client() as made:
        await whole(made, there.request(path))
    assert there.heard[0].split(b" ")[1].lower() == path.encode().lower()


async def test_an_answer_comes_as_it_is() -> None:
    packed = b"\x1f\x8b not really gzip"
    head = b"HTTP/1.1 429 Too Many\r\nRetry-After: 5\r\nX-A: 1\r\nx-a: 2\r\ncontent-encoding: gzip\r\n"
    head += b"content-length: %d\r\n\r\n"
    async with upstream(answering(head % len(packed) + packed)) as there, client() as made:
        response = await made.send(there.request())
        assert response.status == 429
        assert response.headers[:4] == (("retry-after", "5"), ("x-a", "1"), ("x-a", "2"), ("content-encoding", "gzip"))
        assert await read_all(response, 100) == packed


async def test_chunks_come_when_they_come_and_never_empty() -> None:
    more = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED + b"3\r\none\r\n")
        await more.wait()
        await talk.say(b"3\r\ntwo\r\n0\r\n\r\n")

    async with upstream(play) as there, client() as made:
        response = await made.send(there.request())
        chunks = response.chunks()
        async with asyncio.timeout(2):
            assert await anext(chunks) == b"one"
            more.set()
            assert [chunk async for chunk in chunks] == [b"two"]
        await response.aclose()


async def test_a_cookie_is_not_kept() -> None:
    answer = OK.replace(b"content-length", b"set-cookie: a=b; Path=/\r\ncontent-length")
    async with upstream(answering(answer)) as there, client() as made:
        for _ in range(2):
            await whole(made, there.request())
    assert b"cookie" not in there.heard[1].lower()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_an_answer_like_any_other(status: int) -> None:
    async with upstream(answering(OK)) as elsewhere:
        answer = b"HTTP/1.1 %d Elsewhere\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n"
        async with upstream(answering(answer % (status, elsewhere.url().encode()))) as there, client() as made:
            assert await whole(made, there.request()) == (status, b"")
        assert elsewhere.connections == 0


async def test_the_environment_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with upstream(answering(OK)) as there, client() as made:
        assert (await whole(made, there.request()))[0] == 200


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with upstream(answering(OK)) as there, client() as made:
        for _ in range(3):
            await whole(made, there.request())
        assert there.connections == 1


def playing(data: bytes, *, reset: bool = False, hang: bool = False) -> Any:
    """Hears a request, says this, and is gone (or silent)."""

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(data)
        if hang:
            await talk.left()
        elif reset:
            talk.reset()

    return play


TROUBLES: list[tuple[str, Any, Trouble]] = [
    ("gone without a byte", playing(b""), Trouble.CUT),
    ("reset without a byte", playing(b"", reset=True), Trouble.CUT),
    ("half a head", playing(b"HTTP/1.1 200 OK\r\ncontent-ty"), Trouble.CUT),
    ("short of what it promised", playing(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"), Trouble.CUT),
    ("no last chunk", playing(CHUNKED + b"3\r\none\r\n"), Trouble.CUT),
    ("in the middle of a chunk", playing(CHUNKED + b"30\r\none"), Trouble.CUT),
    ("reset in the middle", playing(CHUNKED + b"3\r\none\r\n", reset=True), Trouble.CUT),
    ("silent before the head", playing(b"", hang=True), Trouble.READ_TIMEOUT),
    ("silent in the head", playing(b"HTTP/1.1 200 OK\r\n", hang=True), Trouble.READ_TIMEOUT),
    ("silent in the body", playing(CHUNKED + b"3\r\none\r\n", hang=True), Trouble.READ_TIMEOUT),
    ("not HTTP", playing(b"\x16\x03\x01\x00\xa5 hello\r\n\r\n"), Trouble.BAD_ANSWER),
    ("no header line", playing(b"HTTP/1.1 200 OK\r\nnot a field\r\n\r\n"), Trouble.BAD_ANSWER),
    ("a header of 64 kB", playing(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 65_536 + b"\r\n\r\n"), Trouble.BAD_ANSWER),
    ("a header of 1 MB", playing(b"HTTP/1.1 200 OK\r\nx: " + b"a" * (1 << 20) + b"\r\n\r\n"), Trouble.BAD_ANSWER),
    ("5000 headers", playing(b"HTTP/1.1 200 OK\r\n" + b"x-y: z\r\n" * 5000 + b"\r\n"), Trouble.BAD_ANSWER),
    (
        "two lengths",
        playing(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        Trouble.BAD_ANSWER,
    ),
    ("chunks that are none", playing(CHUNKED + b"zz\r\nno\r\n"), Trouble.BAD_ANSWER),
]


@pytest.mark.parametrize(("about", "play", "expected"), TROUBLES, ids=[row[0] for row in TROUBLES])
async def test_what_goes_wrong_is_named(about: str, play: Any, expected: Trouble) -> None:
    async with upstream(play) as there, client() as made:
        assert await trouble(made, there.request(read_timeout=0.1)) == (expected, True)
        assert there.connections == 1, "what may have had an effect is not sent twice"
        await until(lambda: there.open == 0)


async def test_a_name_that_does_not_exist_was_surely_not_reached() -> None:
    async with client() as made:
        request = UpstreamRequest("POST", "http://upstream.invalid/v1/messages", (), b"{}")
        assert await trouble(made, request) == (Trouble.DNS, False)


async def test_a_port_nobody_listens_at_was_surely_not_reached() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with client() as made:
            assert await trouble(made, Upstream(held.getsockname()[1]).request()) == (Trouble.REFUSED, False)


async def test_a_connection_that_does_not_come_about_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.1)
    with socket.socket() as held, socket.socket() as first, socket.socket() as second:
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        for waiting in (first, second):  # the queue is full: more are left without an answer
            waiting.setblocking(False)
            waiting.connect_ex(held.getsockname())
        async with client() as made:
            found = await trouble(made, Upstream(held.getsockname()[1]).request())
    assert found == (Trouble.CONNECT_TIMEOUT, False)


async def test_plain_text_where_tls_was_expected_was_not_reached() -> None:
    async def play(talk: Talk) -> None:
        await talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with upstream(play) as there, client() as made:
        request = UpstreamRequest("POST", there.url().replace("http:", "https:"), (), b"{}")
        assert await trouble(made, request) == (Trouble.TLS, False)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("not an address", ()),
        ("ftp://127.0.0.1/", ()),
        ("http://", ()),
        ("http://127.0.0.1:99999/", ()),
        ("http://127.0.0.1:9/", (("x-\xe9", "a"),)),
        ("http://127.0.0.1:9/", (("x-a", "\u20ac"),)),
        ("http://127.0.0.1:9/", (("x-a", "b\r\nx-evil: c"),)),
        ("http://127.0.0.1:9/", (("x a", "b"),)),
    ],
)
async def test_what_cannot_be_sent_never_raises_anything_else(url: str, headers: Any) -> None:
    async with client() as made:
        with pytest.raises(NetworkTrouble):
            await made.send(UpstreamRequest("POST", url, headers, b"{}"))


async def test_a_header_never_becomes_two() -> None:
    async with upstream(answering(OK)) as there, client() as made:
        for value in ("b\r\nx-evil: c", "b\nx-evil: c", "b\rx-evil: c", "b\0c"):
            try:
                await whole(made, there.request(headers=(("x-a", value),)))
            except NetworkTrouble:
                pass
    assert not any(line.startswith(b"x-evil") for heard in there.heard for line in heard.splitlines())


class Stale:
    """Answers the first request of its first connection, keeps it, and closes it over the second request."""

    def __init__(self, *later: Any, slow: float = 0.0) -> None:
        self.later, self.slow = later, slow

    async def __call__(self, talk: Talk) -> None:
        if talk.number == 1:
            await talk.hear()
            await talk.say(OK)
            await talk.hear()
            await asyncio.sleep(self.slow)
            return
        await self.later[talk.number - 2](talk)


async def test_a_kept_connection_that_was_closed_is_replaced_once_and_nobody_notices() -> None:
    async with upstream(Stale(answering(OK))) as there, client() as made:
        assert await whole(made, there.request(body=b"one")) == (200, b"ok")
        assert await whole(made, there.request(body=b"two")) == (200, b"ok")
        assert [heard.rpartition(b"\r\n")[2] for heard in there.heard] == [b"one", b"two", b"two"]
        assert there.connections == 2


async def test_it_is_replaced_only_once() -> None:
    async with upstream(Stale(playing(b""), answering(OK))) as there, client() as made:
        await whole(made, there.request())
        assert await trouble(made, there.request()) == (Trouble.CUT, True)
        assert there.connections == 2


async def test_the_one_that_replaced_it_is_kept() -> None:
    async with upstream(Stale(answering(OK), answering(OK))) as there, client() as made:
        for _ in range(4):
            assert (await whole(made, there.request()))[0] == 200
        assert there.connections == 2


async def test_an_upstream_that_dies_at_work_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "STALE_SECONDS", 0.05)
    async with upstream(Stale(answering(OK), slow=0.15)) as there, client() as made:
        await whole(made, there.request())
        assert await trouble(made, there.request()) == (Trouble.CUT, True)
        assert there.connections == 1


async def test_one_that_has_begun_to_answer_is_not_asked_again() -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        await talk.hear()
        await talk.say(CHUNKED + b"3\r\none\r\n")

    async with upstream(play) as there, client() as made:
        await whole(made, there.request())
        assert await trouble(made, there.request()) == (Trouble.CUT, True)
        assert there.connections == 1


@pytest.mark.parametrize("said", [b"", CHUNKED, CHUNKED + b"3\r\none\r\n"], ids=["no head", "a head", "mid-stream"])
async def test_a_request_that_is_cancelled_closes_its_upstream_at_once(said: bytes) -> None:
    async with upstream(playing(said, hang=True)) as there, client() as made:
        task = asyncio.get_running_loop().create_task(whole(made, there.request()))
        await until(lambda: there.heard)
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await until(lambda: there.open == 0, 1.0)


async def test_many_are_cancelled_at_random_moments_and_nothing_is_left() -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        await asyncio.sleep(0.002)
        await talk.say(CHUNKED)
        for _ in range(5):
            await asyncio.sleep(0.002)
            await talk.say(b"3\r\none\r\n")
        await talk.say(b"0\r\n\r\n")
        await talk.left()

    async with upstream(play) as there, client() as made:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(whole(made, there.request())) for _ in range(100)]
        for number, task in enumerate(tasks):
            loop.call_later(number / 4000, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await whole(made, there.request()) == (200, b"one" * 5)
        await made.aclose()
        await until(lambda: there.open == 0)


async def test_one_cancelled_among_many_disturbs_nobody() -> None:
    go = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED + b"3\r\none\r\n")
        await go.wait()
        await talk.say(b"3\r\ntwo\r\n0\r\n\r\n")

    async with upstream(play) as there, client() as made:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(whole(made, there.request())) for _ in range(20)]
        await until(lambda: len(there.heard) == 20)
        tasks[7].cancel()
        await asyncio.sleep(0.01)
        go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for answer in answers if answer == (200, b"onetwo")] == [(200, b"onetwo")] * 19


async def test_closing_before_the_end_closes_the_connection_and_closing_twice_is_nothing() -> None:
    async with upstream(playing(CHUNKED + b"3\r\none\r\n", hang=True)) as there, client() as made:
        response: UpstreamResponse = await made.send(there.request())
        assert await anext(response.chunks()) == b"one"
        await response.aclose()
        await response.aclose()
        await until(lambda: there.open == 0, 1.0)


async def test_a_client_may_be_closed_twice_and_unused() -> None:
    made = Client(TLS)
    await made.aclose()
    await made.aclose()


async def test_each_account_and_host_has_a_client_of_its_own_and_a_retired_one_still_streams() -> None:
    async with upstream(answering(OK)) as there:
        clients: Any = Clients(TLS)
        first = clients.get("a", there.url())
        assert clients.get("a", there.url("/other")) is first
        assert clients.get("b", there.url()) is not first
        assert clients.get("a", "http://127.0.0.1:1") is not first
        response = await first.send(there.request())
        clients.keep_only(["b"])
        assert await read_all(response, 10) == b"ok"
        assert clients.get("a", there.url()) is not first
        await until(lambda: there.open == 0 and not first.busy)
        await clients.aclose()
        await clients.aclose()
        await until(lambda: there.open == 0)
