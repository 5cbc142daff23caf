"""H1 to H8: what no honest client sends, and that it costs the others nothing and the upstream never sees it.

`corpus/requests/` holds requests as bytes; `OUTCOMES` says what becomes of each. Whatever comes in, what the upstream
receives is one request, framed by one length, with the fields it is meant to have and the client's body as it was.

H2's accepted sizes and deadlines, H3's and H6's shapes of error are also in `tests/mcp_proxy/server/test_answers.py`;
H1's and H4's tables of heads without a gateway behind them in `tests/mcp_proxy/server/test_guard.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mcp_proxy.server import guard
from tests.e2e.harness import KEY, Proxy, in_front_of, message, serving_accounts
from tests.e2e.test_process import served
from tests.faults import speech
from tests.faults.line import Line, Reply, until
from tests.faults.upstream import Talk, Upstream, by_path, saying, upstream

CORPUS = Path(__file__).parent / "corpus" / "requests"
BODY = b'{"model":"claude-sonnet-5","max_tokens":100,"messages":[{"role":"user","content":"hello"}]}'
"""The body of every request of the corpus."""


class Outcome(NamedTuple):
    """What becomes of the bytes.

    statuses  of the answers, in order; none where the connection only ends
    kept      whether the connection is good for another request afterwards
    heard     how many requests the upstream hears
    """

    statuses: tuple[int, ...]
    kept: bool
    heard: int


OUTCOMES: dict[Outcome, str] = {
    Outcome((400,), kept=False, heard=0): """
        length-and-chunks chunks-and-length two-lengths two-equal-lengths a-list-of-lengths negative-length
        length-with-a-sign length-in-hex length-beyond-64-bits empty-length chunked-twice chunked-in-a-list
        identity gzip-then-chunked xchunked vertical-tab-before-chunked space-before-the-colon
        space-before-the-colon-of-a-length bare-line-feeds one-bare-line-feed bare-carriage-return obs-fold
        nul-in-a-name nul-in-a-value no-name no-colon space-in-a-name space-before-the-first-field
        space-before-the-request space-in-the-target tab-for-a-space method-in-lower-case unknown-method
        http-1.2 http-2-preface tls-hello no-host two-hosts chunk-size-no-number chunk-size-negative
        chunk-size-with-0x chunk-size-beyond-64-bits chunk-longer-than-it-says chunk-size-behind-a-space
        second-chunk-size-no-number chunk-ended-by-a-line-feed chunk-extension-with-a-line-feed
        trailer-with-a-length trailer-that-is-no-field connect target-not-ascii path-backslashes""",
    Outcome((404,), kept=True, heard=0): """
        asterisk post-to-an-asterisk path-two-slashes-first path-dots-escaped path-dots path-dot
        path-slash-escaped path-nul path-parameter path-dot-last path-letter-escaped path-space-escaped
        path-lines-escaped path-slashes-within path-slashes-last path-query-escaped path-thrice-v1
        path-not-utf-8 path-host-in-it""",
    Outcome((200,), kept=True, heard=1): """
        plain chunked chunked-upper-case chunked-behind-a-tab chunk-extension expect-something-else
        blank-lines-before-the-request trailer-with-our-fields absolute-form upgrade-to-h2c-with-a-body
        fragment-in-the-target query-with-escaped-lines path-in-upper-case path-v1-twice""",
    Outcome((200,), kept=True, heard=0): """
        get-with-a-body get-with-a-request-as-its-body get-with-a-chunked-request-as-its-body
        upgrade-to-websocket""",
    Outcome((200,), kept=False, heard=1): """
        close-and-more http-1.0 http-1.0-keep-alive""",
    Outcome((), kept=False, heard=0): """
        http-0.9 body-without-a-length""",
    Outcome((403,), kept=True, heard=0): """
        absolute-form-elsewhere absolute-form-with-a-user""",
    Outcome((200, 200, 200), kept=True, heard=3): """
        pipelined""",
    Outcome((403,), kept=False, heard=0): """
        http-1.0-without-host""",
    Outcome((100, 200), kept=True, heard=1): """
        expect-continue""",
    Outcome((405,), kept=True, heard=0): """
        get-where-post-belongs-with-a-body""",
    Outcome((401,), kept=True, heard=0): """
        wrong-key-with-a-request-as-its-body""",
    Outcome((405,), kept=False, heard=0): """
        connect-to-a-path""",
    Outcome((200, 400), kept=False, heard=1): """
        upgrade-of-a-pipelined-request""",
}

GOES_UPSTREAM = {"host", "content-type", "anthropic-version", "accept-encoding", "x-api-key", "content-length"}
"""The fields of a request upstream where the client's own has none that pass."""
PASSES = {"accept", "user-agent", "anthropic-beta", "x-app"}
"""Those of the client's that these tests send and that pass."""


@contextlib.asynccontextmanager
async def proxy_and_upstream(home: Path, **how: Any) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """The real proxy in front of an upstream that answers every message, counts, and lacks all else."""
    parts = {
        "/v1/messages": saying(speech.answer(speech.message())),
        "/v1/messages/count_tokens": saying(speech.answer({"input_tokens": 12})),
    }
    async with upstream(by_path(parts)) as up:
        async with in_front_of(home, up, **how) as proxy:
            yield proxy, up


def well_framed(request: bytes, up: Upstream, *, passes: frozenset[str] = frozenset()) -> bytes:
    """The body of a request as the upstream heard it, once all the rest of it is as it should be."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first in ("POST /v1/messages HTTP/1.1", "POST /v1/messages?beta=true HTTP/1.1"), first
    fields = [tuple(line.split(": ", 1)) for line in lines]
    names = [name.lower() for name, _ in fields]
    assert set(names) - GOES_UPSTREAM <= passes, names
    assert set(names) >= GOES_UPSTREAM and all(names.count(name) == 1 for name in ("host", "content-length"))
    named = {name.lower(): value for name, value in fields}
    assert (named["host"], named["x-api-key"]) == (f"127.0.0.1:{up.port}", "key-of-a0-sk-fake")
    assert int(named["content-length"]) == len(body)
    assert not any(mark in head.replace(b"\r\n", b"") for mark in (b"\r", b"\n", b"\0"))
    return body


def is_error(reply: Reply, *statuses: int) -> str:
    """That an answer is an error in Anthropic's shape; its message."""
    assert reply.status in statuses, (reply.status, reply.body)
    assert reply.complete and reply.headers["content-type"] == "application/json"
    document = json.loads(reply.body)
    assert document["type"] == "error" and document["request_id"] == reply.headers["request-id"]
    assert document["error"]["type"] and document["error"]["message"]
    return str(document["error"]["message"])


def post(body: bytes, *fields: bytes, path: bytes = b"/v1/messages") -> bytes:
    """A request with the key."""
    lines = (b"POST %b HTTP/1.1" % path, b"host: localhost", b"x-api-key: " + KEY.encode(), *fields)
    return b"\r\n".join(lines) + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body


LIVE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


async def is_good_for_more(line: Line) -> None:
    """The connection serves another request, and there is nothing in between."""
    await line.send(LIVE)
    reply = await line.reply()
    assert (reply.status, json.loads(reply.body)) == (200, {"status": "ok"})
    assert await line.rest() == b""


def test_every_request_of_the_corpus_has_an_outcome() -> None:
    named = [name for names in OUTCOMES.values() for name in names.split()]
    assert sorted(named) == sorted(path.stem for path in CORPUS.iterdir())


async def what_becomes_of(data: bytes, outcome: Outcome, proxy: Proxy, up: Upstream) -> None:
    before = len(up.asked())
    line = await Line(proxy.port).open()
    try:
        await line.send(data)
        for status in outcome.statuses:
            reply = await line.reply(head=status == 100)
            if status >= 400:
                is_error(reply, status)
            assert reply.status == status, (reply.status, reply.body)
        if outcome.kept:
            await is_good_for_more(line)
        else:
            assert await line.rest() == b""
        heard = up.asked()[before:]
        assert len(heard) == outcome.heard
        for request in heard:
            # what is behind the last chunk is no part of a request's head
            assert well_framed(request, up) == BODY
    finally:
        line.close()


async def test_what_becomes_of_requests_that_no_honest_client_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H4, H5, H6: every file of the corpus."""
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.5)
    wrong = []
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        for outcome, names in OUTCOMES.items():
            for name in names.split():
                try:
                    await what_becomes_of((CORPUS / f"{name}.http").read_bytes(), outcome, proxy, up)
                except (AssertionError, TimeoutError) as error:
                    wrong.append(f"{name}: {error!r}")
        assert (await proxy.ask()).status_code == 200
    assert not wrong, "\n".join(wrong)


async def test_a_broken_body_behind_a_request_that_runs_is_no_answer_to_that_one(tmp_path: Path) -> None:
    """H5."""
    answers = asyncio.Event()

    async def held(talk: Talk) -> None:
        await answers.wait()
        await talk.say(speech.answer(speech.message()))

    async with upstream(by_path({"/v1/messages": held})) as up, in_front_of(tmp_path, up) as proxy:
        line = await Line(proxy.port).open()
        await line.send(post(BODY))
        await until(lambda: len(up.asked()) == 1)
        await line.send((CORPUS / "chunk-size-no-number.http").read_bytes())
        assert await line.rest() == b""
        line.close()
        answers.set()
        assert (await proxy.ask()).status_code == 200


FRAMING = {
    "a trailer of a megabyte": b"0\r\nx: " + b"a" * (1 << 20),
    "a megabyte of trailers": b"0\r\n" + b"x: y\r\n" * (1 << 18),
    "a chunk extension of a megabyte": b"1;" + b"a" * (1 << 20),
    "a head of a megabyte behind a request": b"0\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * (1 << 20),
}


@pytest.mark.parametrize("framing", FRAMING.values(), ids=FRAMING.keys())
async def test_framing_without_a_body_is_as_bounded_as_a_head(tmp_path: Path, framing: bytes) -> None:
    """H2, H4."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        line = await Line(proxy.port).open()
        taken = 0
        await line.send(post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked"))
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(framing), 4096):
                await line.send(framing[start : start + 4096])
                taken += 4096
                await asyncio.sleep(0)
        came = await line.rest()
        assert taken < 1 << 20 and (came == b"" or came.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")))
        line.close()
        assert up.asked() == [] and (await proxy.ask()).status_code == 200


async def test_a_body_that_comes_behind_its_answer_is_dropped_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H5: neither its text nor its lateness harms the request behind it."""
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.2)
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        line = await Line(proxy.port).open()
        late = b"lines\r\nUpgrade: h2c\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\nand no line more"
        await line.send(post(late).replace(KEY.encode(), b"wrong")[: -len(late)])
        is_error(await line.reply(), 401)
        await line.send(late)
        await asyncio.sleep(0.3)  # longer than a head may take
        await line.send(post(BODY))
        assert (await line.reply()).status == 200
        await is_good_for_more(line)
        line.close()
        assert [well_framed(each, up) for each in up.asked()] == [BODY]


async def test_an_upgrade_cut_in_two_is_answered_and_ends_there(tmp_path: Path) -> None:
    """H5: no byte behind it is taken for a request."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        line = await Line(proxy.port).open()
        head, found, rest = post(BODY, b"connection: upgrade", b"upgrade: h2c").partition(b"\r\nupgr")
        assert found
        await line.send(head + found)
        await asyncio.sleep(0.05)
        await line.send(rest + post(BODY))
        is_error(await line.reply(), 400)
        assert await line.rest() == b""
        line.close()
        assert up.asked() == []


SLOW = 200


async def test_two_hundred_slow_heads_are_closed_in_time_and_cost_nobody_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: silent ones, a byte now and then, and half of a second request."""
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.6)
    loop = asyncio.get_running_loop()
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        lines = [await Line(proxy.port).open() for _ in range(SLOW)]
        for line in lines[::3]:
            await line.send(LIVE.replace(b"connection: close\r\n", b""))
            assert (await line.reply()).status == 200
            await line.send(b"POST /v1/mess")
        begun, ends = loop.time(), [loop.create_task(line.rest()) for line in lines]
        dripping = loop.create_task(drip(lines[1::3]))
        served_meanwhile = 0
        while not all(end.done() for end in ends):
            assert (await proxy.ask()).status_code == 200
            served_meanwhile += 1
        assert await asyncio.gather(*ends) == [b""] * SLOW
        assert loop.time() - begun < 2.5 and served_meanwhile >= 3
        await dripping
        assert len(up.asked()) == served_meanwhile
        for line in lines:
            line.close()


async def drip(lines: list[Line]) -> None:
    """A byte of a head on each line, again and again, until all are cut off."""
    for byte in b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 400:
        cut = 0
        for line in lines:
            try:
                await line.send(bytes([byte]))
            except OSError:
                cut += 1
        if cut == len(lines):
            return
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(30)
async def test_a_head_has_ten_seconds(tmp_path: Path) -> None:
    """H1, with the real number."""
    loop = asyncio.get_running_loop()
    async with proxy_and_upstream(tmp_path) as (proxy, _):
        line = await Line(proxy.port).open()
        await line.send(b"POST /v1/messages HTTP/1.1\r\n")
        begun = loop.time()
        assert await line.rest(15) == b"" and 9 < loop.time() - begun < 12
        line.close()


# H3: bodies

MODEL = b'"model":"claude-sonnet-5"'
REFUSED_BODIES = {
    "nothing": b"",
    "an array 100 000 deep": b"{" + MODEL + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects 100 000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open brackets": b"[" * 100_000,
    "NaN": b"{" + MODEL + b',"x":NaN}',
    "minus infinity": b"{" + MODEL + b',"x":[-Infinity]}',
    "no UTF-8": b"{" + MODEL + b',"x":"\xff"}',
    "an overlong encoding": b"{" + MODEL + b',"x":"\xc0\xaf"}',
    "a surrogate in UTF-8": b"{" + MODEL + b',"x":"\xed\xa0\x80"}',
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16 without a mark": BODY.decode().encode("utf-16-le"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "model twice": b"{" + MODEL + b"," + MODEL + b"}",
    "model twice, once escaped": b"{" + MODEL + b',"m\\u006fdel":"x"}',
    "stream twice": b"{" + MODEL + b',"stream":true,"stream":false}',
    "a lone surrogate as the model": b'{"model":"\\ud800"}',
    "a line break in the model": b'{"model":"a\\r\\nx-evil: 1"}',
    "a NUL in the model": b'{"model":"a\\u0000"}',
    "a model of 300 characters": b'{"model":"%b"}' % (b"a" * 300),
    "something behind it": BODY + b"{}",
    "a control character in a string": b"{" + MODEL + b',"x":"\x00"}',
    "gzip": gzip.compress(BODY),
}
PASSING_BODIES = {
    "plain": BODY,
    "an integer of 5000 digits": BODY[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "a number beyond every float": BODY[:-1] + b',"x":1e999999}',
    "lone surrogates": BODY[:-1] + b',"x":"\\ud83d","\\udc00":1}',
    "keys twice further in": BODY[:-1] + b',"x":{"model":"a","model":"b","stream":1,"stream":2}}',
    "other keys twice": BODY[:-1] + b',"max_tokens":1,"max_tokens":2}',
    "white space all over": b" \t\r\n" + BODY.replace(b",", b" ,\r\n\t").replace(b":", b" : ") + b"\n",
    "no ASCII": BODY[:-1] + ',"x":"\u2028\U0001f600é"}'.encode(),
    "what the session is read from, of other types": BODY[:-1] + b',"metadata":{"user_id":[[]]},"system":{"a":1}}',
    "messages of other types": b"{" + MODEL + b',"messages":{"role":"user"},"tools":3,"system":[1,{"text":4}]}',
}
CHARSETS = [b"utf-16", b"latin-1", b"no-such-charset", b'"', b"\xff"]


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens"])
async def test_a_body_is_json_in_utf_8_or_refused_and_goes_on_as_it_came(tmp_path: Path, path: bytes) -> None:
    """H3."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        for about, body in REFUSED_BODIES.items():
            line = await Line(proxy.port).open()
            await line.send(post(body, path=path))
            assert is_error(await line.reply(), 400), about
            await is_good_for_more(line)
            line.close()
        assert up.asked(path.decode()) == []
        for about, body in PASSING_BODIES.items():
            for charset in CHARSETS if body is BODY else [b"utf-8"]:
                line = await Line(proxy.port).open()
                await line.send(post(body, b"content-type: application/json; charset=" + charset, path=path))
                assert (await line.reply()).status == 200, (about, charset)
                await is_good_for_more(line)
                line.close()
                assert up.asked(path.decode())[-1].partition(b"\r\n\r\n")[2] == body, about


def mangled(body: bytes, at: int, cut: int, put: bytes) -> bytes:
    at %= len(body)
    return body[:at] + put + body[at + cut :]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "user_id", "ttl", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(["messages", "system", "metadata", "stream", "tools", "max_tokens", "model", "é"])
DOCUMENTS = st.builds(
    lambda fields, escaped: json.dumps({"model": "claude-sonnet-5", **fields}, ensure_ascii=escaped).encode(
        "utf-8", "surrogatepass"
    ),
    st.dictionaries(FIELDS, VALUES, max_size=5),
    st.booleans(),
)
BODIES = (
    st.binary(max_size=80)
    | DOCUMENTS
    | st.builds(mangled, st.just(BODY), st.integers(0, 999), st.integers(0, 9), st.binary(max_size=9))
)


class Behind:
    """The proxy and its upstream in a loop of their own, and a plain blocking client of it."""

    def __init__(self, home: Path) -> None:
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self.proxy, self.up = self._runner.run(self._stack.enter_async_context(proxy_and_upstream(home)))

    def exchange(self, data: bytes) -> tuple[Reply, bytes | None]:
        """The answer to these bytes, and the one request that the upstream heard meanwhile, if it did."""

        async def exchanged() -> Reply:
            line = await Line(self.proxy.port).open()
            try:
                await line.send(data)
                return await line.reply()
            finally:
                line.close()

        before = len(self.up.asked())
        reply = self._runner.run(exchanged())
        heard = self.up.asked()[before:]
        assert len(heard) <= 1
        return reply, heard[0] if heard else None

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    made = Behind(tmp_path)
    yield made
    made.close()


ONE_PROXY = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ONE_PROXY
@given(body=BODIES)
def test_no_body_is_a_fault_of_ours(behind: Behind, body: bytes) -> None:
    """H3, with bytes that nobody thought of."""
    reply, heard = behind.exchange(post(body))
    if heard is not None:  # whose stream is asked for, answers whole: a fault, but its own
        assert reply.status == (502 if json.loads(body).get("stream") else 200)
        sent = well_framed(heard, behind.up)
        if json.loads(body)["model"] == "claude-sonnet-5":
            assert sent == body
        else:  # a name of the same size class, which the upstream does not know
            assert {**json.loads(sent), "model": ""} == {**json.loads(body), "model": ""}
    else:
        is_error(reply, 400, 404)


# H7: what of a client's values could become a field of its own

FORWARDED = [b"anthropic-beta", b"user-agent", b"accept", b"x-app", b"anthropic-version", b"content-type"]


@ONE_PROXY
@given(name=st.sampled_from(FORWARDED), value=st.binary(min_size=1, max_size=30))
def test_no_value_becomes_a_field_of_its_own(behind: Behind, name: bytes, value: bytes) -> None:
    """H7: refused, or upstream as it came, or left out; nothing in between."""
    assume(b"\r\n" not in value)  # that is how a client writes a field of its own
    reply, heard = behind.exchange(post(BODY, name + b": " + value))
    if reply.status != 200:
        is_error(reply, 400)
        assert heard is None
        return
    assert heard is not None and well_framed(heard, behind.up, passes=frozenset(PASSES)) == BODY
    head = heard.partition(b"\r\n\r\n")[0]
    lines = [line.rstrip(b" \t") for line in head.split(b"\r\n") if line.startswith(name + b": ")]
    as_it_came = (name + b": " + value.strip(b" \t")).rstrip(b" \t")
    ours = [b"anthropic-version: 2023-06-01", b"content-type: application/json"]
    assert lines in ([], [as_it_came]) or lines[0] in ours


INJECTING = [b"a\r\nx-evil: 1", b"a\rx-evil: 1", b"a\nx-evil: 1", b"a\x00b", b"a\x7fb"]


@pytest.mark.parametrize("name", FORWARDED)
async def test_line_breaks_in_a_value_are_refused_or_stay_the_clients_own_field(tmp_path: Path, name: bytes) -> None:
    """H7."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        for value in INJECTING:
            line = await Line(proxy.port).open()
            await line.send(post(BODY, name + b": " + value))
            reply = await line.reply()
            line.close()
            if reply.status == 200:  # whole lines of its own: a field that does not pass
                assert value in (INJECTING[0], b"a\x7fb")
            else:
                is_error(reply, 400)
        for heard in up.asked():
            well_framed(heard, up, passes=frozenset(PASSES))


MODELS = [
    "модель",
    'a"b',
    "../../v1/evil",
    "x@evil.test",
    "%0d%0ax-evil: 1",
    "a/b?c=d#e",
    "\u2028",
    "a\u00a0b",
    "é" * 256,
]


async def test_a_model_is_a_name_and_never_a_part_of_an_address_or_a_field(tmp_path: Path) -> None:
    """H6, H7: an account that serves every name gets it in the body alone."""
    async with proxy_and_upstream(tmp_path, provider="custom") as (proxy, up):
        for model in MODELS:
            before = len(up.asked())
            answer = await proxy.ask(model=model)
            if not model.isprintable():
                assert answer.status_code == 400 and len(up.asked()) == before
                continue
            assert (answer.status_code, answer.json()["model"]) == (200, model), answer.text
            assert json.loads(well_framed(up.asked()[-1], up, passes=frozenset(PASSES)))["model"] == model
            assert answer.headers["x-proxy-model"].isprintable() and "x-evil" not in answer.headers
            shown = await proxy.client.get(f"/v1/models/{quote(model, safe='')}")
            assert shown.status_code in (200, 404)
            streamed = await proxy.ask(model=model, stream=True)
            assert streamed.status_code in (200, 502) and "x-evil" not in streamed.headers


async def test_what_an_upstream_says_is_no_field_of_ours_either(tmp_path: Path) -> None:
    """H7, from the other side."""
    said = speech.answer(speech.message(), "application/json", "request-id: a\tb\xe9", "retry-after: \x01 7")
    async with upstream(by_path({"/v1/messages": saying(said)})) as up, in_front_of(tmp_path, up) as proxy:
        answer = await proxy.ask()
        assert answer.status_code in (200, 502)
        assert all(value.isprintable() for value in answer.headers.values())


@pytest.mark.parametrize("label", ["a\r\nx-evil: 1", "é\u202e", "a\x1b[31m", "x" * 3000])
async def test_the_label_of_an_account_is_in_no_field_and_no_escape_in_the_table(tmp_path: Path, label: str) -> None:
    """H7."""
    async with upstream(by_path({"/v1/messages": saying(speech.answer(speech.message()))})) as up:
        account = ("anthropic", "key-of-a0-sk-fake", {"label": label, "base_url": up.url("")})
        async with serving_accounts(tmp_path, [account]) as proxy:
            answer = await proxy.ask()
            assert (answer.status_code, answer.headers["x-proxy-account"]) == (200, "anthropic/000000")
            assert "x-evil" not in answer.headers
            assert list(await proxy.limits()) == [label]
            table = (await proxy.client.get("/account-limits?format=table")).text
            assert all(char.isprintable() or char == "\n" for char in table) and "\nx-evil" not in table


# H8: what is said to us, about us, or on behalf of somebody else

NOT_FORWARDED = [
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-host", b"evil.test"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-uri", b"/livez"),
    (b"x-original-url", b"/livez"),
    (b"x-rewrite-url", b"/livez"),
    (b"x-http-method-override", b"GET"),
    (b"forwarded", b"for=127.0.0.1;host=evil.test"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"via", b"1.1 evil.test"),
    (b"cookie", b"session=1"),
    (b"authorization", b"Bearer sk-ant-oat-fake-of-a-caller"),
    (b"proxy-authorization", b"Basic eDp5"),
    (b"proxy-connection", b"keep-alive"),
    (b"connection", b"x-api-key, anthropic-version, keep-alive"),
    (b"keep-alive", b"timeout=1"),
    (b"te", b"trailers"),
    (b"trailer", b"x-evil"),
    (b"origin", b"http://localhost"),
    (b"referer", b"http://evil.test/"),
    (b"range", b"bytes=0-1"),
    (b"if-none-match", b"*"),
    (b"content-encoding", b"identity"),
    (b"content-md5", b"x"),
    (b"accept-encoding", b"gzip, br, zstd"),
    (b"host2", b"evil.test"),
    (b"api-key", b"x"),
    (b"x-goog-api-key", b"x"),
]


async def test_what_is_said_to_us_or_of_others_stays_here_and_changes_nothing(tmp_path: Path) -> None:
    """H8: the upstream hears the very bytes that it hears without."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        line = await Line(proxy.port).open()
        for fields in ([], *([field] for field in NOT_FORWARDED), NOT_FORWARDED):
            await line.send(post(BODY, *(name + b": " + value for name, value in fields)))
            assert (await line.reply()).status == 200, fields
        await is_good_for_more(line)
        line.close()
        plain, *others = up.asked()
        assert well_framed(plain, up) == BODY
        assert others == [plain] * (len(NOT_FORWARDED) + 1)


async def test_nothing_that_is_said_of_others_opens_the_door(tmp_path: Path) -> None:
    """H8: neither a path, nor a host, nor an address that a field claims."""
    async with proxy_and_upstream(tmp_path) as (proxy, up):
        for fields in ([], *([field] for field in NOT_FORWARDED), NOT_FORWARDED):
            line = await Line(proxy.port).open()
            claimed = [name + b": " + value for name, value in fields]
            await line.send(post(BODY, *claimed).replace(b"x-api-key: " + KEY.encode() + b"\r\n", b""))
            is_error(await line.reply(), 401)
            await line.send(post(BODY, *claimed).replace(b"host: localhost", b"host: evil.test"))
            is_error(await line.reply(), 403)
            line.close()
        assert up.asked() == []


# H2: in a process of its own, whose memory is its own

MEGABYTE = 1 << 20
ALLOWED = (32 + 10) * MEGABYTE


def peak(pid: int) -> int:
    """The most memory a process has had so far, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def pushed(port: int, head: bytes, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Send what one can, while another thread reads: how many bytes went, and what came."""
    came = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:

        def read() -> None:
            with contextlib.suppress(OSError):
                while data := line.recv(65536):
                    came.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        sent = 0
        with contextlib.suppress(OSError):
            line.sendall(head)
            for piece in pieces:
                line.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        reader.join()
    return sent, bytes(came)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_hundred_megabytes_are_refused_without_being_kept(tmp_path: Path) -> None:
    """H2, and H4: declared, in chunks, more than declared, and as a head."""
    head = post(b"").removesuffix(b"content-length: 0\r\n\r\n")
    megabyte = b"a" * MEGABYTE
    with served(tmp_path) as running:
        port, before = int(running.url.rpartition(":")[2]), peak(running.process.pid)
        for about, more, piece, statuses in (
            ("declared", b"content-length: %d\r\n\r\n" % (100 * MEGABYTE), megabyte, [b"413"]),
            ("in chunks", b"transfer-encoding: chunked\r\n\r\n", b"100000\r\n" + megabyte + b"\r\n", [b"413"]),
            ("more than declared", b"content-length: %d\r\n\r\n" % MEGABYTE, megabyte, [b"400"]),
            ("a head", b"x: ", megabyte, [b"431"]),
            ("a line", b"", b"GET /" + megabyte, [b"431", b"400"]),
        ):
            sent, came = pushed(port, head + more, iter([piece] * 100))
            assert sent < 100 * MEGABYTE, f"{about}: all of it was taken"
            assert not came or came[9:12] in statuses, (about, came)
            if came:
                assert b'"request_id":"req_' in came and b"connection: close" in came, about
        assert peak(running.process.pid) - before < ALLOWED
        assert running.client.post("/v1/messages", json=message()).status_code == 503, "nobody to serve it, but served"
        assert running.end()[0] == 0
