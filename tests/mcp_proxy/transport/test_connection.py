"""Connections of our own: how bodies end, what is kept, what is closed, what is made to wait."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamRequest, read_all
from mcp_proxy.transport import connection as room
from mcp_proxy.transport.client import Client, tls
from mcp_proxy.transport.connection import PAUSE_BYTES, PIECE, Connection
from mcp_proxy.transport.http1 import Http1Transport
from tests.faults.certificates import Authority
from tests.faults.line import until
from tests.faults.upstream import CHUNKED, OK, Talk, answering, upstream
from tests.mcp_proxy.transport.test_client import client, trouble, whole

TLS = tls()
UNFRAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"


def once(*pieces: bytes) -> Any:
    """Hears one request, says this, and closes."""

    async def play(talk: Talk) -> None:
        await talk.hear()
        for piece in pieces:
            await talk.say(piece)
            await asyncio.sleep(0.01)

    return play


async def test_a_body_without_framing_ends_with_its_connection() -> None:
    async with upstream(once(UNFRAMED + b"one", b"two")) as there, client() as made:
        for _ in range(2):
            assert await whole(made, there.request()) == (200, b"onetwo")
        assert there.connections == 2


async def test_a_body_without_framing_that_is_reset_is_cut() -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(UNFRAMED + b"one")
        await asyncio.sleep(0.05)
        talk.reset()

    async with upstream(play) as there, client() as made:
        assert await trouble(made, there.request()) == (Trouble.CUT, True)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_keeps_its_connection(status: int) -> None:
    async with upstream(answering(b"HTTP/1.1 %d None\r\n\r\n" % status, OK)) as there, client() as made:
        assert await whole(made, there.request()) == (status, b"")
        assert await whole(made, there.request()) == (200, b"ok")
        assert there.connections == 1


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"])
async def test_what_comes_before_the_answer_is_passed_over(interim: bytes) -> None:
    async with upstream(once(interim, interim + OK)) as there, client() as made:
        response = await made.send(there.request())
        assert (response.status, response.headers) == (200, (("content-length", "2"),))
        assert await read_all(response, 10) == b"ok"


async def test_a_change_of_protocol_that_nobody_asked_for_is_no_answer() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"
    async with upstream(once(switching)) as there, client() as made:
        assert await trouble(made, there.request()) == (Trouble.BAD_ANSWER, True)


async def test_a_trailer_is_no_field_of_the_head() -> None:
    said = CHUNKED + b"2\r\nok\r\n0\r\nretry-after: 99\r\ncontent-encoding: gzip\r\n\r\n"
    async with upstream(answering(said)) as there, client() as made:
        for _ in range(2):
            response = await made.send(there.request())
            assert {name for name, _ in response.headers} == {"content-type", "transfer-encoding"}
            assert await read_all(response, 10) == b"ok"
        assert there.connections == 1


ENDLESS = {
    "a trailer": (b"0\r\nx: ", b"y"),
    "trailers": (b"0\r\n", b"x: y\r\n"),
    "an extension": (b"2;x=", b"y"),
    "a size": (b"", b"0"),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_framing_without_a_body_is_as_bounded_as_a_head(what: str) -> None:
    begun, more = ENDLESS[what]

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED + b"2\r\nok\r\n" + begun)
        for _ in range(1000):
            await talk.say(more * (65_536 // len(more)))

    async with upstream(play) as there, client() as made:
        assert await trouble(made, there.request()) == (Trouble.BAD_ANSWER, True)
        await until(lambda: there.open == 0)
        assert there.said < 20_000_000, "the rest was not taken"


@pytest.mark.parametrize("together", [True, False], ids=["in one packet", "later"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(together: bool) -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        evil = OK.replace(b"ok", b"no")
        await talk.say(OK + evil if together else OK)
        if not together:
            await asyncio.sleep(0.02)
            await talk.say(evil)
        await talk.left()

    async with upstream(play) as there, client() as made:
        assert await whole(made, there.request()) == (200, b"ok")
        await until(lambda: there.open == 0)
        assert await whole(made, there.request()) == (200, b"ok")
        assert there.connections == 2


@pytest.mark.parametrize("cut", [1, 9, len(OK) - 3])
async def test_the_beginning_of_an_answer_that_nobody_asked_for_is_not_put_before_the_next(cut: int) -> None:
    evil = OK.replace(b"ok", b"no")

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say((OK + evil[:cut]) if talk.number == 1 else OK)
        await talk.hear()
        await talk.say(evil[cut:])

    async with upstream(play) as there, client() as made:
        for _ in range(2):
            assert await whole(made, there.request()) == (200, b"ok")
        assert there.connections == 2


async def test_an_answer_before_the_request_was_taken_is_given_and_its_connection_closed() -> None:
    async def play(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await talk.left()

    async with upstream(play) as there, client() as made:
        assert await whole(made, there.request(body=b"x" * 8_000_000)) == (413, b"no")
        await until(lambda: there.open == 0)


async def test_an_answer_before_the_request_was_taken_lets_go_of_an_upstream_that_takes_no_more() -> None:
    over = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's own, and a socket's
        await talk.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await over.wait()

    async with upstream(play) as there, client() as made:
        assert await whole(made, there.request(body=b"x" * 30_000_000)) == (413, b"no")
        await until(lambda: not made.busy, 1.0)
        over.set()


async def test_an_end_that_is_expected_is_not_waited_for_as_long_as_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "END_SECONDS", 0.05)

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED + b"3\r\none\r\n")
        await talk.left()

    async with upstream(play) as there, client() as made, asyncio.timeout(2):
        response = await made.send(there.request(read_timeout=60.0))
        body = response.chunks()
        assert await anext(body) == b"one"
        response.expect_end()
        with pytest.raises(NetworkTrouble) as told:
            await anext(body)
        assert told.value.trouble is Trouble.READ_TIMEOUT


async def test_a_request_that_was_sent_is_let_go_while_its_answer_runs() -> None:
    over = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED + b"3\r\none\r\n")
        await over.wait()

    body = bytes(100_000)
    async with upstream(play) as there, client() as made:
        response = await made.send(there.request(body=body))
        assert await anext(response.chunks()) == b"one"
        assert sys.getrefcount(body) == 2, "ours, and the one that is counted with"
        await response.aclose()
        over.set()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_large_request_arrives_whole_at_an_upstream_that_takes_it_slowly(secure: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.root)
    body = b"".join(b"%08d" % number for number in range(500_000))
    heard = bytearray()

    async def play(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        while len(heard) < len(body):
            heard.extend(await talk.reader.read(100_000))
            await asyncio.sleep(0.002)
        await talk.say(OK)

    made = Client(context)
    async with upstream(play, authority.server("localhost") if secure else None) as there:
        url = f"https://localhost:{there.port}/" if secure else there.url()
        assert await whole(made, replace(there.request(body=body), url=url)) == (200, b"ok")
        await made.aclose()
    assert heard == body


async def test_who_leaves_in_the_moment_a_secure_connection_stands_takes_no_socket_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    made = Client(ssl.create_default_context(cafile=authority.root))
    stands = Connection.connection_made

    def leaving(connection: Connection, transport: asyncio.BaseTransport) -> None:
        stands(connection, transport)
        asking.cancel()

    async with upstream(answering(OK), authority.server("localhost")) as there:
        request = replace(there.request(), url=f"https://localhost:{there.port}/")
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "connection_made", leaving)
            asking = asyncio.ensure_future(made.send(request))
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert await whole(made, request) == (200, b"ok"), "its socket has the number of the one that was closed"
        await until(lambda: there.open == 1)
        await made.aclose()


class ByHand:
    """A loop whose clock is set by hand, and a transport that is full after each piece."""

    def __init__(self) -> None:
        self.now, self.sent, self.closed = 0.0, 0, False
        self.timers: dict[float, Callable[[], None]] = {}
        self.connection = Connection(cast("asyncio.AbstractEventLoop", self), lambda _: None, lambda _: None)
        self.connection.connection_made(cast("asyncio.BaseTransport", self))

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, then: Callable[[], None]) -> ByHand:
        self.timers = {self.now + seconds: then}
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.connection.pause_writing()

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for due, then in list(self.timers.items()):
            if due <= self.now:
                then()


def test_an_upstream_that_takes_a_request_slowly_is_not_taken_for_silent_until_it_takes_no_more() -> None:
    world = ByHand()
    world.connection.ask(b"", bytes(PIECE * 5), 10.0, bodiless=False)
    for taken in range(5):
        assert world.sent == PIECE * taken
        world.wait(9.0)
        world.connection.resume_writing()
    world.wait(9.0)
    assert not world.closed
    world.wait(1.0)
    assert world.closed, "all was taken, and nothing said"


def test_who_takes_no_more_of_a_request_is_taken_for_silent_and_its_rest_let_go() -> None:
    world, body = ByHand(), bytes(PIECE * 5)
    world.connection.ask(b"", body, 10.0, bodiless=False)
    world.connection.resume_writing()
    assert sys.getrefcount(body) > 2
    world.wait(10.0)
    assert world.closed
    assert sys.getrefcount(body) == 2
    world.connection.resume_writing()
    assert world.sent == PIECE


async def test_nothing_is_written_to_a_connection_that_was_found_reset(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()

    async def answered(request: UpstreamRequest) -> socket.socket:
        asking = asyncio.ensure_future(whole(made, request))
        there, _ = await loop.sock_accept(server)
        await loop.sock_recv(there, 65_536)
        await loop.sock_sendall(there, OK)
        assert await asking == (200, b"ok")
        return there

    async with client() as made:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            request = UpstreamRequest("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", ())
            with await answered(request) as first:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # nobody has read of it when the next request is written
            (await answered(replace(request, body=bytes(8_000_000)))).close()
    assert not caplog.records, "asyncio complains of each piece"


async def test_who_is_not_read_is_made_to_wait_and_is_not_taken_for_silent() -> None:
    size = 40 * 1024 * 1024

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65_536):
            await talk.say(b"x" * 65_536)
        await talk.hear()
        await talk.say(OK)

    async with upstream(play) as there, client() as made:
        response = await made.send(there.request(read_timeout=0.2))
        await asyncio.sleep(0.6)
        # the system's own buffers hold some megabytes of it
        assert there.said < 16 * 1024 * 1024 + PAUSE_BYTES
        assert len(await read_all(response, size)) == size
        assert await whole(made, there.request()) == (200, b"ok"), "and it is read again"
        assert there.connections == 1


async def test_what_was_idle_for_long_is_closed_and_not_used_again() -> None:
    kept = Http1Transport(TLS, keep_alive=0.1)
    async with upstream(answering(OK)) as there, httpx.AsyncClient(transport=kept) as using:
        assert (await using.get(there.url("/"))).text == "ok"
        assert (await using.get(there.url("/"))).text == "ok"
        assert there.connections == 1
        await until(lambda: there.open == 0)
        assert (await using.post(there.url("/"), json={"a": 1})).text == "ok"
        assert there.heard[-1].endswith(b'{"a":1}')
        assert there.connections == 2


async def test_a_head_that_is_asked_for_alone_has_no_body() -> None:
    async with upstream(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as there:
        async with httpx.AsyncClient(transport=Http1Transport(TLS)) as using:
            assert (await using.head(there.url("/"))).content == b""


async def test_of_a_names_addresses_the_one_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(answering(OK)) as there, client() as made:

        async def both(*_: object, **__: object) -> list[Any]:
            kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [
                (socket.AF_INET, *kind, ("127.0.0.3", there.port)),
                (socket.AF_INET, *kind, ("127.0.0.1", there.port)),
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        assert await whole(made, there.request()) == (200, b"ok")


async def test_a_stream_that_is_read_slowly_loses_nothing() -> None:
    bits = [b"%d;" % number for number in range(2000)]

    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CHUNKED)
        for bit in bits:
            await talk.say(b"%x\r\n%b\r\n" % (len(bit), bit))
        await talk.say(b"0\r\n\r\n")
        await talk.left()

    async with upstream(play) as there, client() as made:
        response = await made.send(there.request())
        came = []
        async for chunk in response.chunks():
            came.append(chunk)
            await asyncio.sleep(0.001)
        assert b"".join(came) == b"".join(bits)


async def test_two_at_once_have_a_connection_each() -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        await asyncio.sleep(0.05)
        await talk.say(OK)
        await talk.left()

    async with upstream(play) as there, client() as made:
        assert await asyncio.gather(*(whole(made, there.request()) for _ in range(5))) == [(200, b"ok")] * 5
        assert there.connections == 5


async def test_closing_the_client_ends_what_is_under_way() -> None:
    async def play(talk: Talk) -> None:
        await talk.hear()
        await talk.left()

    async with upstream(play) as there:
        made = Client(TLS)
        asking = asyncio.ensure_future(made.send(there.request()))
        await until(lambda: there.heard)
        await made.aclose()
        with pytest.raises(NetworkTrouble):
            await asking
        await until(lambda: there.open == 0)
