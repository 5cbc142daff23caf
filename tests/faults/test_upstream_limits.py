"""U8: every account is limited, and each upstream says so in its own way.

An upstream that has said no is left alone until it may be asked again; the client is told the soonest true time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx

from tests.e2e.harness import Proxy, in_front_of
from tests.faults.answers import NO_MODELS, asked_of, is_whole, sound
from tests.faults.line import until
from tests.faults.speech import refusal
from tests.faults.upstream import Play, Talk, Upstream, by_path, saying, upstream

DAY = 86_400
GUESS = (4, 5)
"""The first guess where an upstream does not say sense: five seconds."""

NO_WAITING = "[routing]\nmax_wait = 0\n"


def at(seconds: float) -> str:
    """An HTTP date so many seconds from now."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


# the fields that say when; the seconds that the client may be told
HINTS: dict[str, tuple[Callable[[], list[str]], tuple[int, int]]] = {
    "seconds": (lambda: ["retry-after: 40"], (39, 40)),
    "decimals": (lambda: ["retry-after: 40.5"], (40, 41)),
    "milliseconds": (lambda: ["retry-after-ms: 41000"], (40, 41)),
    "milliseconds before seconds": (lambda: ["retry-after-ms: 41000", "retry-after: 7"], (40, 41)),
    "a date": (lambda: [f"retry-after: {at(60)}"], (57, 61)),
    "a date in the past": (lambda: [f"retry-after: {at(-3600)}"], GUESS),
    "a date in 2106": (lambda: ["retry-after: Sun, 07 Feb 2106 06:28:15 GMT"], (DAY - 2, 8 * DAY)),
    "a date that is none": (lambda: ["retry-after: Sun, 31 Feb 2027 26:61:99 GMT"], GUESS),
    "a week and more": (lambda: ["retry-after: 999999999"], (DAY - 2, 8 * DAY)),
    "nothing": (list, GUESS),
    "an empty one": (lambda: ["retry-after:"], GUESS),
    "zero": (lambda: ["retry-after: 0"], GUESS),
    "below zero": (lambda: ["retry-after: -5"], GUESS),
    "an exponent": (lambda: ["retry-after: 9e99"], GUESS),
    "infinity": (lambda: ["retry-after: Infinity"], GUESS),
    "not a number": (lambda: ["retry-after: NaN"], GUESS),
    "twenty digits": (lambda: ["retry-after: 99999999999999999999"], GUESS),
    "other digits": (lambda: ["retry-after: \u0661\u0662"], GUESS),
    "words": (lambda: ["retry-after: soon"], GUESS),
    "two of them": (lambda: ["retry-after: 40", "retry-after: 50"], (4, 50)),
    "a reset in the past": (
        lambda: [f"anthropic-ratelimit-requests-reset: {datetime(2020, 1, 1).isoformat()}Z"],
        GUESS,
    ),
}


def no(fields: list[str]) -> bytes:
    """A 429 with these fields in its head, as they are."""
    said = refusal(429, "rate_limit_error", "slow down", "connection: close")
    lines = "".join(f"{line}\r\n" for line in fields).encode()
    return said.replace(b"connection: close\r\n", b"connection: close\r\n" + lines)


def limited(fields: Callable[[], list[str]]) -> Play:
    async def part(talk: Talk) -> None:
        await talk.say(no(fields()))
        talk.writer.close()

    return by_path({"/v1/messages": part}, saying(NO_MODELS))


def told(reply: httpx.Response, model: str = "claude-sonnet-5") -> int:
    """The seconds the client is told, its answer being what it should be for all accounts limited."""
    assert reply.status_code == 429, reply.text
    document = reply.json()
    assert (document["type"], document["error"]["type"]) == ("error", "rate_limit_error")
    assert document["request_id"] == reply.headers["request-id"]
    seconds = int(reply.headers["retry-after"])
    text = document["error"]["message"]
    assert "RESOURCE_EXHAUSTED" in text and model in text
    reset = re.search(r"reset is at (\S+),", text)
    assert reset is not None
    left = datetime.fromisoformat(reset[1]).timestamp() - datetime.now(UTC).timestamp()
    assert seconds - 3 <= left <= seconds + 3, "the text and the header say the same"
    assert (reply.headers.get("x-should-retry") == "false") == (seconds > 60)
    return seconds


async def test_a_storm_of_429_asks_each_account_once_and_tells_the_client_until_when(tmp_path: Path) -> None:
    """U8: each kind of hint has a model of its own, whose limit it is."""

    async def part(talk: Talk) -> None:
        hint = asked_of(talk)["model"].replace("-", " ")
        await talk.say(no(HINTS[hint][0]()))
        talk.writer.close()

    async def storm(proxy: Proxy, hint: str) -> None:
        model, (least, most) = hint.replace(" ", "-"), HINTS[hint][1]
        first = told(await proxy.ask(model=model), model)
        assert least <= first <= most, (hint, first)
        replies = await asyncio.gather(*(proxy.ask(model=model, stream=bool(n % 2)) for n in range(20)))
        for reply in replies:
            assert least - 3 <= told(reply, model) <= most, hint
            assert reply.headers["x-proxy-attempts"] == "0", hint

    play = by_path({"/v1/messages": part}, saying(NO_MODELS))
    async with upstream(play) as a0, upstream(play) as a1:
        async with in_front_of(tmp_path, a0, a1, toml=NO_WAITING, provider="custom") as proxy:
            await until(lambda: a0.asked("/v1/models") and a1.asked("/v1/models"))
            for hint in HINTS:
                await storm(proxy, hint)
            assert (len(a0.asked()), len(a1.asked())) == (len(HINTS), len(HINTS)), "each once"
            assert [seat.account.invalid for seat in proxy.gateway.pool.seats] == [None, None]


async def test_the_soonest_of_several_times_is_told(tmp_path: Path) -> None:
    """U8."""
    hints = (["retry-after: 500"], [f"retry-after: {at(90)}"], ["retry-after-ms: 3600000"], ["retry-after: 200"])
    async with upstream(limited(lambda: hints[0])) as a0, upstream(limited(lambda: hints[1])) as a1:
        async with upstream(limited(lambda: hints[2])) as a2, upstream(limited(lambda: hints[3])) as a3:
            async with in_front_of(tmp_path, a0, a1, a2, a3, toml=NO_WAITING) as proxy:
                for _ in range(5):
                    assert 85 <= told(await proxy.ask()) <= 91
                assert [len(each.asked()) for each in (a0, a1, a2, a3)] == [1, 1, 1, 1]


async def test_many_at_once_who_meet_the_same_wall_are_one_strike(tmp_path: Path) -> None:
    """U8: a crowd that was on its way does not make the guess grow."""
    waiting, go = 0, asyncio.Event()

    async def part(talk: Talk) -> None:
        nonlocal waiting
        waiting += 1
        await go.wait()
        await talk.say(refusal(429, "rate_limit_error", "slow down", "connection: close"))
        talk.writer.close()

    async with upstream(by_path({"/v1/messages": part}, saying(NO_MODELS))) as a0:
        async with in_front_of(tmp_path, a0, toml=NO_WAITING) as proxy:
            loop = asyncio.get_running_loop()
            asking = [loop.create_task(proxy.ask()) for _ in range(20)]
            await until(lambda: waiting == 20)
            go.set()
            for reply in await asyncio.gather(*asking):
                assert 1 <= told(reply) <= 5
            assert 1 <= told(await proxy.ask()) <= 5
            assert len(a0.asked()) == 20, "nobody came after the first refusal"


async def test_when_the_time_has_come_each_is_asked_again_once_and_serves(tmp_path: Path) -> None:
    """U8, the twin: the window over, the whole answer; and who asks meanwhile waits for it."""
    well = False

    async def part(talk: Talk) -> None:
        await talk.say(sound(streams=False) if well else refusal(429, "rate_limit_error", "no", "retry-after: 1"))

    play = by_path({"/v1/messages": part}, saying(NO_MODELS))
    async with upstream(play) as a0, upstream(play) as a1, in_front_of(tmp_path, a0, a1) as proxy:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        asking = loop.create_task(proxy.ask())
        await until(lambda: (len(a0.asked()), len(a1.asked())) == (1, 1))
        well = True
        reply = await asking
        assert is_whole(reply, streams=False) and reply.headers["x-proxy-reason"] == "waited"
        assert loop.time() - begun >= 0.9, "not before its time"
        assert len(a0.asked()) + len(a1.asked()) == 3
        assert is_whole(await proxy.ask(), streams=False)


async def test_those_who_wait_do_not_all_ask_at_once(tmp_path: Path) -> None:
    """U8: twenty wait for one limit; of a window each upstream sees one that tries, not twenty."""
    async with upstream(limited(lambda: ["retry-after: 1"])) as a0:
        async with in_front_of(tmp_path, a0, toml="[routing]\nmax_wait = 2\n") as proxy:
            assert (await proxy.ask(headers={"x-stainless-timeout": "6"})).status_code == 429
            first = len(a0.asked())
            assert first <= 2
            replies = await asyncio.gather(*(waits(proxy) for _ in range(20)))
            assert {reply.status_code for reply in replies} == {429}
            assert asked_since(a0, first) <= 3, "one a second, for at most two seconds"


async def waits(proxy: Proxy) -> httpx.Response:
    return await proxy.ask(headers={"x-stainless-timeout": "20"})


def asked_since(there: Upstream, before: int) -> int:
    return len(there.asked()) - before
