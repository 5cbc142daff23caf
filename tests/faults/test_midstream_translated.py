"""U3, U11, where the upstream speaks another language: a stream of Google's, broken off after each of its pieces.

What the official SDK is given is Anthropic's all the same: whole blocks or the beginning of one, and an end that says
what happened. Google closes no block; so one is whole here once another begins behind it, or the answer ends.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest

from mcp_proxy.routing.react import Lesson
from mcp_proxy.sandbox import Answer, Fault, GoogleAccount, Sandbox, Text, Thinking, ToolUse, say
from mcp_proxy.sandbox.faults import Scene, split
from mcp_proxy.sandbox.google.speech import data
from mcp_proxy.sandbox.google.wrongs import google_body
from mcp_proxy.sandbox.replies import Cut, Pause, Reply, Step, body_steps, ending, head, head_bytes, wrap
from tests.e2e.harness import KEY, Proxy, running
from tests.faults.streams import fits
from tests.faults.test_midstream import Seen, ended, heard

REQUESTS = importlib.import_module("mcp_proxy.providers.antigravity.request")  # its package has a function of that name
CLAUDE, GEMINI = "claude-sonnet-4-6", "gemini-3-flash"
TOOL: Any = {
    "name": "look_up",
    "description": "Looks a city up.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "who": {"type": "string"}}},
}
UNAVAILABLE = head_bytes(503, (("content-type", "text/html"), ("content-length", "0")))
SILENCE = 0.15
MOST = 40
"""More pieces than any of the answers has."""


def answer(kind: str, who: str) -> Answer:
    calls = [ToolUse("look_up", {"who": who, "city": city}) for city in ("Rome", "Oslo", "Bern")]
    match kind:
        case "text":
            return say(f"{who} says a few words.")
        case "thinking, text":
            return say(Thinking(f"{who} thinks before it speaks."), Text(f"{who} says what it thought."))
        case "parallel tools":
            return say(Text(f"{who} looks three up."), *calls)
        case "thinking, tools":
            return say(Thinking(f"{who} thinks of cities."), *calls[:2])
    raise ValueError(kind)


KINDS = ("text", "thinking, text", "parallel tools", "thinking, tools")


def blocks(kind: str, who: str) -> list[dict[str, Any]]:
    """What one account answers, as the whole message has it."""
    found: list[dict[str, Any]] = []
    for block in answer(kind, who).blocks:
        match block:
            case Text(text):
                found.append({"type": "text", "text": text})
            case Thinking(text):
                found.append({"type": "thinking", "thinking": text})
            case ToolUse(name, given):
                found.append({"type": "tool_use", "name": name, "input": dict(given)})
    return found


def way(name: str, reply: Reply) -> Iterable[Step]:
    """How it breaks off."""
    match name:
        case "FIN":
            return [Cut()]
        case "RST":
            return [Pause(0.02), Cut(reset=True)]  # else it may take back what nobody has read yet
        case "stall":
            return [Pause(None)]
        case "garbage":
            return [b"\x16\x03\x01\x00\xa5\x01 no chunk\r\n\r\n" + b"\xff\xfe" * 50, Cut()]
        case "noise":
            return [wrap(reply, b"\x00\xff no event\n\n"), ending(reply)]
        case "end":
            return [ending(reply)]
        case "error":
            return [wrap(reply, data(google_body(503, "The model is overloaded."))), ending(reply)]
        case "5xx":
            return [UNAVAILABLE, Cut()]
    raise ValueError(name)


WAYS = ("FIN", "RST", "stall", "garbage", "noise", "end", "error", "5xx")


def broken(place: int, name: str) -> Fault:
    """place: how much comes first: 0 nothing, 1 the head, then a piece each."""

    def steps(scene: Scene) -> Iterator[Step]:
        reply = scene.reply
        if place or name in ("error", "noise", "end"):  # these stand in a body, and that has a head
            yield head(reply)
            yield from body_steps(reply, split(reply, max(0, place - 1))[0])
        yield from way(name, reply)

    return Fault(f"{name} at {place}", steps)


@dataclass
class Bench:
    """A proxy in front of an account `a`, which is asked first and breaks off, and `b`; and the SDK before it."""

    a: GoogleAccount
    b: GoogleAccount
    proxy: Proxy
    client: anthropic.AsyncAnthropic
    patch: pytest.MonkeyPatch

    async def ask(self, model: str, kind: str, text: str, silence: float = 60.0) -> Seen:
        self.patch.setattr(REQUESTS, "SILENT_SECONDS", silence)
        more: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if "thinking" in kind else {}
        more |= {"tools": [TOOL]} if "tools" in kind else {}
        told: Any = [{"role": "user", "content": f"{kind}, {text}"}]
        return await heard(self.client, model=model, max_tokens=4000, messages=told, **more)

    async def cut(self, model: str, kind: str, place: int, name: str) -> tuple[str, int]:
        """Break one stream off so, look at what the client has of it, and ask again where it has no whole answer.

        How it ended, or who gave it whole, and the number of its whole blocks.
        """
        self.a.speak(answer(kind, "a"))
        self.b.speak(answer(kind, "b"))
        self.a.always(broken(place, name))  # not once: a kept connection that ends without a byte is replaced
        seen = await self.ask(model, kind, f"{place}, {name}", SILENCE if name == "stall" else 60.0)
        why = f"{model}, {kind}, {name} at {place}: {seen}"
        if seen.trouble is None:
            who = "a" if seen.attempts == "1" else "b"
            assert is_whole(seen, who, kind), why
            return self.forgiven(who), len(seen.blocks)
        how, done = ended(seen), len(seen.blocks)
        assert how == ("overloaded_error" if name == "error" else "api_error" if done else "closed"), why
        assert seen.attempts == "1" and is_begun(seen, "a", kind), why
        again = await self.ask(model, kind, f"{place}, {name}")
        assert again.attempts == "1" and again.trouble is None and is_whole(again, "b", kind), f"{why}; again: {again}"
        return self.forgiven(how), done

    def forgiven(self, how: str) -> str:
        """The account that broke off has answered, for all the proxy knows: the next request is for it again."""
        pool = self.proxy.gateway.pool
        seat = next(each for each in pool.seats if each.account.label == "a")
        assert (not seat.breaker.failures) == (how == "a") and not seat.closed
        self.a.well()
        if seat.breaker.failures:
            pool.learn(seat.id, Lesson(stumbled=False, sick=False), seat.breaker.at)
        return how


def visible(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What blocks say, without their ids and signatures, which are new each time; some hold nothing else."""
    found = [{name: value for name, value in block.items() if name not in ("id", "signature")} for block in told]
    return [block for block in found if block.get("thinking") != ""]


def is_begun(seen: Seen, who: str, kind: str) -> bool:
    """Whether it is what this account says as far as it goes, without an end, and no call is there twice."""
    told, done, got = blocks(kind, who), visible(seen.blocks), visible(seen.message["content"])
    calls = [block["id"] for block in seen.message["content"] if "id" in block]
    rest = got[len(done) :]
    return (
        done == told[: len(done)] == got[: len(done)]
        and len(rest) <= 1
        and all(fits(block, whole) for block, whole in zip(rest, told[len(done) :], strict=False))
        and len(got) <= len(told)
        and len(set(calls)) == len(calls)
        and seen.message["stop_reason"] is None
    )


def is_whole(seen: Seen, who: str, kind: str) -> bool:
    """Whether it is all of this account's answer."""
    told = blocks(kind, who)
    reason = "tool_use" if "tools" in kind else "end_turn"
    return (
        visible(seen.blocks) == told == visible(seen.message["content"])
        and seen.message["stop_reason"] == reason
        and [each["type"] for each in seen.events].count("message_stop") == 1
    )


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        box = await stack.enter_async_context(Sandbox(["antigravity"]))
        a, b = (box.account("antigravity", alias=alias) for alias in "ab")
        held = (("antigravity", a, {"tier": 1}), ("antigravity", b, {"tier": 2}))
        proxy = await stack.enter_async_context(running(tmp_path, box, *held))
        client = anthropic.AsyncAnthropic(base_url=proxy.url, api_key=KEY, max_retries=0)
        yield Bench(a, b, proxy, await stack.enter_async_context(client), monkeypatch)


async def walk(bench: Bench, model: str, kind: str, ways: Iterable[str], step: int = 1) -> None:
    """Break a stream off after each piece in turn, until all of it has come; then it is whole, whatever comes behind.

    First it costs only time; then it ends without an end, while no block is whole; then it is told.
    """
    for name in ways:
        course: list[tuple[str, int]] = []
        while not course or course[-1][0] != "a":
            assert len(course) < MOST
            course.append(await bench.cut(model, kind, len(course) * step, name))
        told = "overloaded_error" if name == "error" else "api_error"
        phases = ["b", "closed", told, "a"] if name != "error" else ["b", told, "a"]
        assert course == sorted(course, key=lambda each: phases.index(each[0])), course
        dones = [done for how, done in course if how not in ("a", "b")]
        assert dones == sorted(dones), course
        assert step > 1 or dones[-1] >= len(answer(kind, "a").blocks) - 2, course  # the last call brings the end along


async def test_a_translated_stream_that_breaks_off_holds_nothing_false(bench: Bench) -> None:
    """A sample."""
    await walk(bench, GEMINI, "thinking, tools", ("FIN",))
    await walk(bench, CLAUDE, "parallel tools", ("end", "error", "5xx"), step=3)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
@pytest.mark.parametrize("kind", KINDS)
async def test_after_each_piece_in_each_way_a_translated_stream_holds_nothing_false(
    bench: Bench, model: str, kind: str
) -> None:
    """All of it."""
    await walk(bench, model, kind, WAYS)
