"""Every answer of the corpus: never passed on as a success, the next account is asked, and nothing of it is logged.

U4, U6, U9 by the corpus; what one file alone would not show is in the modules beside this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from accounts.model import Secret, Token, Works
from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.http import NetworkTrouble
from mcp_proxy.core.ids import AccountId, ProviderName
from mcp_proxy.core.provider import Access
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import counting
from mcp_proxy.providers import all_providers
from mcp_proxy.providers._asking import discover_models, models_question, verify_by, verify_by_message
from mcp_proxy.transport.pool import Clients
from tests.e2e.harness import in_front_of
from tests.e2e.harness import message as ask
from tests.faults.answers import CANARY, NO_MODELS, STREAM, Turns, is_told, is_whole, kept, large, one, sound, two
from tests.faults.secrets import MARK
from tests.faults.speech import answer, refusal
from tests.faults.upstream import Talk, Upstream, by_path, saying, upstream

WAYS = {"whole": False, "streamed": True}


def bad(way: str) -> dict[str, bytes]:
    return {**kept("any", way), **large()}


@pytest.fixture
def talkative(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """At the most talkative level, ours and that of every library; at the end it must not have said the canary."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):  # the test's own client
        caplog.set_level(logging.WARNING, name)
    yield
    out, err = capfd.readouterr()
    assert "request" in out + err, "something was written at all"
    assert CANARY not in out + err + caplog.text


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_is_none_costs_the_client_only_time(tmp_path: Path, way: str) -> None:
    """U4, U6, U9."""
    streams, turns, wrong = WAYS[way], Turns(), {}
    turns.otherwise = sound(streams=streams)
    async with two(tmp_path, turns) as (proxy, a0, a1):
        assert is_whole(await proxy.ask(stream=streams), streams=streams), "without a fault: the whole answer"
        for name, said in bad(way).items():
            turns.answers.append(said)
            before = len(a0.asked()), len(a1.asked())
            reply = await proxy.ask(stream=streams)
            asked = len(a0.asked()) - before[0], len(a1.asked()) - before[1]
            if not (is_whole(reply, streams=streams) and asked == (1, 1)):
                wrong[name] = (reply.status_code, reply.content[:200], asked)
            if reply.headers.get("x-proxy-attempts") != "2":
                wrong.setdefault(name, reply.headers.get("x-proxy-attempts"))
        seats = proxy.gateway.pool.seats
        assert [(seat.account.invalid, dict(seat.closed)) for seat in seats] == [(None, {})] * 2, "nobody is blamed"
    assert wrong == {}


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("unbroken")
async def test_where_nobody_is_left_the_client_is_told_so(tmp_path: Path, way: str) -> None:
    """U4, U6, U9."""
    streams, turns, wrong = WAYS[way], Turns(), {}
    async with one(tmp_path, turns) as (proxy, a0):
        for name, said in bad(way).items():
            turns.otherwise = said
            before = len(a0.asked())
            reply = await proxy.ask(stream=streams)
            if not is_told(reply, 502, 504, 529) or len(a0.asked()) - before != 1:
                wrong[name] = (reply.status_code, reply.content[:200], len(a0.asked()) - before)
        turns.otherwise = sound(streams=streams)
        assert is_whole(await proxy.ask(stream=streams), streams=streams), "and once it is well, the whole answer"
    assert wrong == {}


@pytest.mark.usefixtures("talkative")
@pytest.mark.usefixtures("unbroken")
async def test_a_stream_that_breaks_off_looks_broken(tmp_path: Path) -> None:
    """U3, by the corpus."""
    said = b""

    async def breaking(talk: Talk) -> None:
        begun = said.index(DELTA_BEGINS)
        await talk.say(said[:begun])
        await asyncio.sleep(0.02)  # so that the answer has begun when it breaks
        await talk.say(said[begun:])
        talk.writer.close()

    async with upstream(by_path({"/v1/messages": breaking}, saying(NO_MODELS))) as a0, in_front_of(tmp_path, a0) as to:
        for number, name in enumerate(sorted(kept("cut")), start=1):
            said, came, complete = kept("cut")[name], b"", True
            try:
                async with asyncio.timeout(1), to.client.stream("POST", "/v1/messages", json=ask(stream=True)) as reply:
                    assert reply.status_code == 200, name
                    async for piece in reply.aiter_raw():
                        came += piece
            except httpx.RemoteProtocolError:
                complete = False
            assert how_it_looks_whole(came, complete=complete) == "", (name, came[-200:])
            assert len(a0.asked()) == number, f"{name}: nobody is asked again once the client has begun to read"
        said = sound(streams=True)
        assert is_whole(await to.ask(stream=True), streams=True)


COUNT = b'{"input_tokens": 7}'


@pytest.mark.usefixtures("talkative")
async def test_a_count_that_is_none_is_estimated_and_touches_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U4, U6, U9, for the question how many tokens a request has."""
    monkeypatch.setattr(counting, "UNSUPPORTED_SECONDS", 0.0)
    turns, wrong = Turns(), {}
    play = by_path({"/v1/messages/count_tokens": turns}, saying(NO_MODELS))
    async with upstream(play) as a0, in_front_of(tmp_path, a0) as proxy:

        async def count() -> httpx.Response:
            return await proxy.client.post("/v1/messages/count_tokens", json=ask("word " * 500))

        turns.otherwise = answer(COUNT)
        assert (await count()).json() == {"input_tokens": 7}, "without a fault: the upstream's own count"
        for name, said in {**kept("any", "streamed", "whole"), **large(), **COUNTS}.items():
            turns.otherwise = said
            reply = await count()
            if reply.status_code != 200 or not 200 < reply.json()["input_tokens"] < 2000:
                wrong[name] = (reply.status_code, reply.text)
        seat = proxy.gateway.pool.seats[0]
        assert (seat.account.invalid, seat.closed, seat.breaker.failures) == (None, {}, 0)
        turns.otherwise = answer(COUNT)
        assert (await count()).json() == {"input_tokens": 7}
        # what the client says is not logged by this endpoint, so that something is:
        await proxy.ask()
    assert wrong == {}


COUNTS = {
    f"a count of {said}": answer(b'{"input_tokens": %b}' % said.encode())
    for said in ("0", "-5", '"7"', "null", "7.5", "9e99", "[7]", "true")
}


def asked_at(there: Upstream) -> Access:
    return Access(there.url(""), "x-api-key", Token(Secret("key-of-a0-sk-fake")), {})


@pytest.mark.parametrize("way", ["models", "verify", "verify by a message"])
async def test_any_other_question_has_an_answer_or_none(way: str) -> None:
    """U4, U6, U9, for what is asked beside messages: no exception but the one that the port names, and no yes."""
    wrong: dict[str, object] = {}
    turns = Turns()
    async with upstream(by_path({}, turns)) as there:
        clients = Clients()
        transport, access, now = clients.get(AccountId("a0"), there.url("")), asked_at(there), Instant(1.8e9)
        try:
            for name, said in {**kept("any", "streamed", "whole"), **large()}.items():
                turns.otherwise = said
                if way == "models":
                    found: object = await discover_models(optional=False)(transport, access, now)
                    fine = isinstance(found, Failure)
                elif way == "verify":
                    found = await verify_by(models_question)(transport, access, now)
                    fine = found.works is Works.UNREACHABLE
                else:
                    found = await verify_by_message(transport, access, now)
                    fine = found.works is Works.UNREACHABLE
                if not fine and name not in JSON_OBJECTS:
                    wrong[name] = found
        finally:
            await clients.aclose()
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(all_providers()))
async def test_no_provider_takes_such_an_answer_for_a_word_on_its_account(name: str) -> None:
    """U4, U6, U9, for whatever any provider asks beside messages: a readable failure, and no key called dead."""
    provider, turns = all_providers()[ProviderName(name)], Turns()
    async with upstream(by_path({}, turns)) as there:
        clients, now = Clients(), Instant(1.8e9)
        urls = {f"{key}_url": there.url(f"/{key}") for key in ("quota", "models", "balance", "usage")}
        access = Access(there.url(""), provider.auth, Token(Secret("key-of-a0-sk-fake")), urls)
        transport = clients.get(AccountId("a0"), there.url(""))
        try:
            for about, said in {**kept("any", "streamed", "whole"), **large()}.items():
                turns.otherwise = said
                for flow in (provider.discover, provider.quotas):
                    with contextlib.suppress(NetworkTrouble):
                        found = await flow(transport, access, now) if flow else ()
                        assert not isinstance(found, Failure) or found.blame is not Blame.ACCOUNT, (about, found)
                assert (await provider.verify(transport, access, now)).works is not Works.REFUSED, about
        finally:
            await clients.aclose()


JSON_OBJECTS = {
    "any/gzip-declared-and-plain",
    "any/json-content-of-text",
    "any/json-empty-object",
    "any/json-not-found",
    "any/json-of-another-api",
    "any/json-of-another-type",
    "any/json-without-content",
    "any/status-206",
    "any/unknown-coding",
    "any/unknown-transfer-coding",
    "streamed/a-whole-message",
    "streamed/a-whole-message-called-a-stream",
}
"""Documents that are whole, and name no error: whether they answer such a question is not for their form to tell."""


def how_it_looks_whole(came: bytes, *, complete: bool) -> str:
    """What of a stream that broke off would let a client take it for whole; empty where nothing would.

    complete  whether its framing said that it was over
    """
    if b"message_stop" in came:
        return "it has its last event"
    told, _, last = came.rpartition(b"event: error\ndata: ")
    if complete and not told:
        return "it ends as if it were over, and no error says otherwise"
    if told and (not complete or json.loads(last)["type"] != "error"):
        return "an error event is not the proper end"
    if not STREAM.startswith(told or came):
        return "what came is not what was sent"
    if not (told or came).endswith(b"\n\n"):
        return "a frame is cut"
    return ""


def test_the_corpus_is_there() -> None:
    assert {folder: len(kept(folder)) >= least for folder, least in LEAST.items()} == dict.fromkeys(LEAST, True)


LEAST = {"any": 65, "streamed": 20, "whole": 2, "cut": 13}
"""It only grows."""

DELTA_BEGINS = b"event: content_block_delta"


async def test_a_count_that_is_refused_quotes_no_credential(tmp_path: Path) -> None:
    """P7, U9."""
    key = f"key-of-a0-{MARK}"
    said = refusal(400, "invalid_request_error", f"what is {key} to me")
    play = by_path({"/v1/messages/count_tokens": saying(said)}, saying(NO_MODELS))
    async with upstream(play) as a0, in_front_of(tmp_path, a0) as proxy:
        reply = await proxy.client.post("/v1/messages/count_tokens", json=ask())
        assert reply.status_code == 400 and "what is" in reply.text
        assert key not in reply.text
