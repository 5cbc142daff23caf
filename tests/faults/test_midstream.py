"""U3, U11: whatever a stream holds, wherever and however it breaks off, the official SDK never holds a false message.

Before the first content it costs the client only time. Behind it, but before a block is whole, the connection ends
without its end, and a client asks again; once a block is whole an error is told. Whoever asks again once is served
while another account is healthy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import pytest

from mcp_proxy.core.http import UpstreamRequest
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects import native
from mcp_proxy.gateway import answer as answer_room
from mcp_proxy.routing.react import Lesson
from tests.e2e.harness import KEY, Proxy, in_front_of
from tests.faults.answers import asked_of, messages
from tests.faults.line import until
from tests.faults.secrets import MARK
from tests.faults.speech import EVENT_STREAM, LAST_CHUNK, chunk, event
from tests.faults.streams import KINDS, WAYS, Cut, blocks, cuts, fits, frames
from tests.faults.upstream import Play, Talk, Upstream, upstream

SILENCE = 0.1
"""Seconds after which the sick upstream's silence is one; the other one has all its time."""

BLOCK = {"content_block_start", "content_block_delta", "content_block_stop"}
WIRE = {"message_start", *BLOCK, "message_delta", "message_stop"}


def cut_of(talk: Talk) -> Cut:
    return Cut.read(asked_of(talk)["messages"][0]["content"])


BEHIND = sorted(set(WAYS) - {"error"})  # an upstream that says an error behind its last event means it


async def sick(talk: Talk) -> None:
    """Begins to answer, and breaks off as the request says."""
    cut = cut_of(talk)
    if cut.place or cut.way in ("error", "noise"):  # these stand in a body, and that has a head
        await talk.say(EVENT_STREAM + b"".join(map(chunk, cut.said("a"))))
    await WAYS[cut.way](talk)


async def healthy(talk: Talk) -> None:
    await talk.say(EVENT_STREAM + b"".join(map(chunk, frames(cut_of(talk).kind, "b"))) + LAST_CHUNK)
    talk.writer.close()


@dataclass
class Seen:
    """What the SDK made of one stream.

    events    those of the wire, as it read them; it leaves out pings
    blocks    those that ended, as they were then
    message   the accumulator's, as far as it got
    attempts  how many accounts were asked, as the proxy told
    trouble   what it raised; None: it ended well
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    message: dict[str, Any] = field(default_factory=dict)
    attempts: str = ""
    trouble: Exception | None = None


async def ask(client: anthropic.AsyncAnthropic, cut: Cut) -> Seen:
    told = [{"role": "user", "content": str(cut)}]
    return await heard(client, model="claude-sonnet-5", max_tokens=100, messages=told)


async def heard(client: anthropic.AsyncAnthropic, **asked: Any) -> Seen:
    """Ask for a stream, and read it as far as it goes."""
    seen = Seen()
    try:
        async with client.messages.stream(**asked) as stream:
            seen.attempts = stream.response.headers["x-proxy-attempts"]
            try:
                async for each in stream:
                    if each.type in WIRE:  # what the SDK makes of them besides is nobody's
                        take(seen, each.to_dict())
            finally:
                seen.message = stream.current_message_snapshot.to_dict()
    except Exception as trouble:
        seen.trouble = trouble
    return seen


def take(seen: Seen, told: dict[str, Any]) -> None:
    if told["type"] == "content_block_stop":
        seen.blocks.append(told.pop("content_block"))
    seen.events.append({"type": "message_stop"} if told["type"] == "message_stop" else told)


# What must hold


def ends(cut: Cut) -> str:
    """How a stream that is cut so must end."""
    said = b"".join(cut.said("a"))
    if b"content_block_start" not in said:
        return "whole"
    if cut.way == "error":
        return "overloaded_error"
    return "api_error" if b"content_block_stop" in said else "closed"


def ended(seen: Seen) -> str:
    """How it did end."""
    if seen.trouble is None:
        return "whole"
    if isinstance(seen.trouble, anthropic.APIStatusError):
        assert seen.trouble.status_code == 200 and isinstance(seen.trouble.body, dict)
        return str(seen.trouble.body["error"]["type"])
    return "closed" if type(seen.trouble).__name__ in ("RemoteProtocolError", "ReadError") else repr(seen.trouble)


def events(stream: list[bytes]) -> list[dict[str, Any]]:
    found = [json.loads(frame.partition(b"data: ")[2]) for frame in stream]
    return [each for each in found if each["type"] != "ping"]


def is_the_answer_of(seen: Seen, who: str, kind: str, stream: list[bytes]) -> bool:
    """Whether it is what this one said until then and nothing else, and the accumulator's message the same."""
    told, done = blocks(kind, who), len(seen.blocks)
    reason = next((each["delta"]["stop_reason"] for each in seen.events if each["type"] == "message_delta"), None)
    return (
        seen.events == events(stream)
        and seen.blocks == told[:done] == seen.message["content"][:done]
        and all(fits(*pair) for pair in zip(seen.message["content"][done:], told[done:], strict=False))
        and (seen.message["id"], seen.message["stop_reason"]) == (f"msg_{who}", reason)
    )


@dataclass
class Bench:
    """A proxy in front of a sick account `a`, which is asked first, and a healthy one `b`; and the SDK before it."""

    proxy: Proxy
    a: Upstream
    client: anthropic.AsyncAnthropic

    async def holds(self, cut: Cut) -> None:
        """Cut one stream so, look at what the client has of it, and ask again where it has no whole answer."""
        before = len(self.a.asked())
        seen = await ask(self.client, cut)
        assert ended(seen) == ends(cut), f"{cut}: {seen}"
        if ends(cut) != "whole":
            assert is_the_answer_of(seen, "a", cut.kind, cut.said("a")), f"{cut}: {seen}"
            assert seen.attempts == "1", f"{cut}: {seen}"
            seen = await ask(self.client, cut)
            assert seen.trouble is None and seen.attempts == "1", f"{cut}, asked again: {seen}"
        else:
            assert seen.attempts == "2", f"{cut}: {seen}"
        assert is_the_answer_of(seen, "b", cut.kind, frames(cut.kind, "b")), f"{cut}: {seen}"
        assert len(self.a.asked()) == before + 1, f"{cut}: asked again"
        self.forgive()

    async def is_whole(self, kind: str, way: str) -> None:
        """The sick one does this only behind its last event."""
        said = frames(kind, "a")
        seen = await ask(self.client, Cut(kind, len(said) + 1, way))
        assert seen.trouble is None and seen.attempts == "1", f"{kind}, {way}: {seen}"
        assert is_the_answer_of(seen, "a", kind, said), f"{kind}, {way}: {seen}"

    def forgive(self) -> None:
        """The sick account has answered, for all the proxy knows: the next request is for it again."""
        pool = self.proxy.gateway.pool
        seat = pool.seats[0]
        assert seat.breaker.failures
        pool.learn(seat.id, Lesson(stumbled=False, sick=False), seat.breaker.at)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(upstream(messages(sick)))
        b = await stack.enter_async_context(upstream(messages(healthy)))
        monkeypatch.setattr(native, "UpstreamRequest", impatient(a))
        proxy = await stack.enter_async_context(in_front_of(tmp_path, a, b))
        client = anthropic.AsyncAnthropic(base_url=proxy.url, api_key=KEY, max_retries=0)
        yield Bench(proxy, a, await stack.enter_async_context(client))


def impatient(with_whom: Upstream) -> Any:
    """Requests as they are made, but that this upstream may not be silent for long."""

    def request(**fields: Any) -> UpstreamRequest:
        silence = SILENCE if fields["url"].startswith(with_whom.url("")) else 60.0
        return UpstreamRequest(**fields, read_timeout=silence)

    return request


async def test_wherever_a_stream_breaks_off_nothing_false_is_seen_and_asking_again_helps(bench: Bench) -> None:
    """A sample, in which each kind breaks off in each way."""
    sample = [cut for kind in KINDS for cut in cuts(kind)][::31]
    assert {cut.kind for cut in sample} == set(KINDS) and {cut.way for cut in sample} == set(WAYS)
    for cut in sample:
        await bench.holds(cut)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
async def test_after_each_event_in_each_way_nothing_false_is_seen_and_asking_again_helps(
    bench: Bench, kind: str
) -> None:
    """All of it."""
    for cut in cuts(kind):
        await bench.holds(cut)
    for way in BEHIND:
        await bench.is_whole(kind, way)


async def test_a_stream_that_is_not_cut_is_whole(bench: Bench) -> None:
    """The twin: from its first byte to its last the first account's, whatever comes behind its end."""
    for kind, way in zip(KINDS, BEHIND, strict=True):
        await bench.is_whole(kind, way)


# An error event, and its client


def lingering(*kinds: str) -> Play:
    """Begins to answer, says an error event, the next kind of it each time, and has yet to end the body."""
    said = iter(kinds)

    async def part(talk: Talk) -> None:
        told = event("error", error={"type": next(said), "message": "no more"})
        await talk.say(EVENT_STREAM + b"".join(map(chunk, (*cut_of(talk).said("a"), told))))
        await talk.left()
        talk.writer.close()

    return messages(part)


async def test_an_error_event_counts_against_its_account_though_its_client_leaves_at_once(tmp_path: Path) -> None:
    """The SDK hangs up there, and whoever asks again at once must not be sent back, whatever the error is called."""
    kinds = ("overloaded_error", "api_error", "timeout_error", "authentication_error", "rate_limit_error")
    async with upstream(lingering(*kinds)) as a, upstream(messages(healthy)) as b, in_front_of(tmp_path, a, b) as proxy:
        async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key=KEY, max_retries=0) as client:
            for number, kind in enumerate(kinds):
                cut = Cut("parallel tools", 9 + number, "error")
                assert ended(await ask(client, cut)) == kind
                again = await ask(client, cut)
                assert again.trouble is None, f"{kind}: {again}"
                assert is_the_answer_of(again, "b", cut.kind, frames(cut.kind, "b"))
                assert len(a.asked()) == number + 1
                seat = proxy.gateway.pool.seats[0]
                assert bool(seat.closed) == (kind == "rate_limit_error") and seat.account.invalid is None
                proxy.gateway.pool.learn(seat.id, Lesson(stumbled=False, sick=False), Instant(0.0))


async def test_an_upstream_that_says_an_error_and_ends_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_room, "END_SECONDS", 0.1)
    async with upstream(lingering("overloaded_error")) as a, in_front_of(tmp_path, a) as proxy:
        reply = await proxy.ask(str(Cut("text", 6, "error")), stream=True)
        assert reply.content.endswith(b"\n\n") and reply.content.count(b"event: error") == 1
        await until(lambda: a.open == 0)


async def test_a_key_that_is_quoted_behind_the_end_reaches_nobody(tmp_path: Path) -> None:
    """P7, where nobody looks for an error any more."""
    key = f"key-of-a0-{MARK}"

    async def quoting(talk: Talk) -> None:
        await talk.say(EVENT_STREAM + b"".join(map(chunk, frames("text", "a"))))
        await asyncio.sleep(0.03)
        await talk.say(chunk(event("error", error={"type": "api_error", "message": f"not {key} again"})) + LAST_CHUNK)
        talk.writer.close()

    async with upstream(messages(quoting)) as a, in_front_of(tmp_path, a) as proxy:
        reply = await proxy.ask(stream=True)
        assert "not ... again" in reply.text and key not in reply.text


async def test_what_an_error_event_about_the_credential_quotes_is_remembered_nowhere(tmp_path: Path) -> None:
    """P7. What is remembered of a failure is told in the log, in /health and to who asks next."""
    key = f"key-of-a0-{MARK}"

    async def quoting(talk: Talk) -> None:
        await talk.say(EVENT_STREAM + b"".join(map(chunk, frames("text", "a")[:6])))
        wrong = {"type": "authentication_error", "message": f"not {key}, nor the prompt"}
        await talk.say(chunk(event("error", error=wrong)) + LAST_CHUNK)
        talk.writer.close()

    async with upstream(messages(quoting)) as a, in_front_of(tmp_path, a) as proxy:
        await proxy.ask(stream=True)
        (seat,) = proxy.gateway.pool.seats
        assert seat.breaker.failures == 1
        assert key not in seat.breaker.why and "prompt" not in seat.breaker.why, seat.breaker.why
