"""N1: everything at once, and every client is told the truth.

The driver is the one of `python -m benchmarks.soak`. By default a few seconds of it run; `-m slow` runs every trouble
once, `-m soak` ten minutes, or NEMESIS_SECONDS. The seed is printed, and NEMESIS_SEED repeats its plan.
"""

from __future__ import annotations

import json
import os
import random
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.soak.client import read
from benchmarks.soak.drive import LONGEST, Soak
from benchmarks.soak.history import End, Record, Reply, echo, faults, judged
from benchmarks.soak.trouble import TROUBLES, plan
from tests.faults.speech import BLOCK, BLOCK_END, EVENT_STREAM, LAST_CHUNK, START, STOP, answer, chunk, delta, event
from tests.faults.speech import message as whole_message

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and /proc of another process")
SEED = int(os.environ.get("NEMESIS_SEED", "0")) or random.randrange(1, 10**6)


async def run(folder: Path, seconds: float, **how: object) -> Soak:
    """A run without faults; a faulty one says how to repeat it."""
    soak = Soak(folder / "home", SEED, **how)  # type: ignore[arg-type]
    print(f"NEMESIS_SEED={SEED}")
    await soak.run(seconds)
    told = soak.summary()
    assert soak.found == [], f"NEMESIS_SEED={SEED} {json.dumps(told, indent=1)}"
    assert told["ends"].get("complete", 0) > 20, told
    return soak


@pytest.mark.slow
@linux_only
async def test_a_few_seconds_of_everything(tmp_path: Path) -> None:
    """N1."""
    some = ("upstream faults", "429s", "hang-ups", "kill", "standstill")
    soak = await run(tmp_path, 0.0, clients=12, pace=0.7, pause=0.05, troubles=some, least=len(some))
    assert set(soak.done) == set(some)


@linux_only
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_trouble_once(tmp_path: Path) -> None:
    """N1."""
    soak = await run(tmp_path, 0.0, clients=30, pace=3.0, least=len(TROUBLES))
    assert set(soak.done) == set(TROUBLES)


@linux_only
@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_ten_minutes_of_everything(tmp_path: Path) -> None:
    """N1."""
    await run(tmp_path, float(os.environ.get("NEMESIS_SECONDS", "600")))


def test_a_seed_makes_one_plan_in_which_each_trouble_comes_before_any_comes_again() -> None:
    """N1."""
    one, other = ([(name, rng.random()) for name, rng in islice(plan(7), 40)] for _ in range(2))
    assert one == other
    assert [name for name, _ in one] != [name for name, _ in islice(plan(8), 40)]
    for start in range(0, 36, len(TROUBLES)):
        assert {name for name, _ in one[start : start + len(TROUBLES)]} == set(TROUBLES)


# The judge: each answer that must not be is one it finds

MINE, THEIRS = "canary-1-0000aaaa", "canary-2-0000bbbb"
TEXT = echo(MINE)


def streamed(*frames: bytes, last: bytes = LAST_CHUNK) -> bytes:
    return EVENT_STREAM + b"".join(map(chunk, frames)) + last


def refused(status: int, kind: str, request_id: str = "req_1", **fields: str) -> bytes:
    body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": request_id}
    lines = ["request-id: req_1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return answer(body, "application/json", *lines, status=status)


HALF = TEXT[: len(TEXT) // 2]
STREAMS: list[tuple[str, bytes, End]] = [
    ("whole", streamed(START, BLOCK, delta(HALF), delta(TEXT[len(HALF) :]), BLOCK_END, STOP), End.COMPLETE),
    ("cut by its framing", streamed(START, BLOCK, delta(HALF), last=b""), End.CUT),
    ("cut in a chunk", EVENT_STREAM + chunk(START + BLOCK + delta(HALF))[:-40], End.CUT),
    ("cut and told", streamed(START, BLOCK, delta(TEXT), BLOCK_END, event("error", error={})), End.CUT),
    ("nothing came", b"", End.DROPPED),
    ("half a head", b"HTTP/1.1 200 OK\r\ncontent-ty", End.DROPPED),
    ("a made-up end", streamed(START, BLOCK, delta(HALF), BLOCK_END, STOP), End.WRONG),
    ("ended politely without its end", streamed(START, BLOCK, delta(HALF)), End.WRONG),
    ("an end and an error", streamed(START, BLOCK, delta(TEXT), STOP, event("error", error={})), End.WRONG),
    ("another's text", streamed(START, BLOCK, delta(echo(THEIRS)), BLOCK_END, STOP), End.WRONG),
    ("another's text within", streamed(START, BLOCK, delta(HALF), delta(THEIRS), last=b""), End.WRONG),
    ("a piece left out", streamed(START, BLOCK, delta(TEXT[5:]), BLOCK_END, STOP), End.WRONG),
    ("a piece twice", streamed(START, BLOCK, delta(TEXT), delta(HALF), BLOCK_END, STOP), End.WRONG),
    ("a refusal", refused(502, "api_error"), End.ERROR),
    ("a refusal that says when", refused(429, "rate_limit_error", retry_after="3"), End.ERROR),
    ("one that does not", refused(429, "rate_limit_error"), End.WRONG),
    ("a refusal that blames us", refused(500, "api_error"), End.WRONG),
    ("a refusal that blames the client", refused(400, "invalid_request_error"), End.WRONG),
    ("a refusal of another request", refused(502, "api_error", "req_2"), End.WRONG),
    ("a page", answer(b"<html>", "text/html", status=502), End.WRONG),
    ("a refusal that is cut", refused(502, "api_error")[:-5], End.CUT),
]


@pytest.mark.parametrize(("about", "raw", "end"), STREAMS, ids=[row[0] for row in STREAMS])
def test_the_judge_of_streams(about: str, raw: bytes, end: End) -> None:
    """N1."""
    assert judged(read(raw), MINE, stream=True)[0] is end


DOCUMENTS: list[tuple[str, bytes, End]] = [
    ("whole", answer(whole_message(TEXT)), End.COMPLETE),
    ("cut", answer(whole_message(TEXT))[:-9], End.CUT),
    ("short", answer(whole_message(HALF)), End.WRONG),
    ("another's", answer(whole_message(echo(THEIRS))), End.WRONG),
    ("no message", answer(b"{}"), End.WRONG),
    ("half of one, as if it were whole", answer(json.dumps(whole_message(TEXT)).encode()[:-9]), End.WRONG),
    ("too much behind it", answer(whole_message(TEXT)) + b"x", End.CUT),
    ("a refusal", refused(529, "overloaded_error"), End.ERROR),
]


@pytest.mark.parametrize(("about", "raw", "end"), DOCUMENTS, ids=[row[0] for row in DOCUMENTS])
def test_the_judge_of_messages(about: str, raw: bytes, end: End) -> None:
    """N1."""
    assert judged(read(raw), MINE, stream=False)[0] is end


def test_the_judge_of_a_history() -> None:
    """N1."""
    good = Record(MINE, True, 1.0, 2.0, End.COMPLETE)
    dropped = Record(THEIRS, True, 5.0, 6.0, End.DROPPED)
    assert faults([good, dropped], [(5.5, 7.0)], LONGEST) == []
    assert len(faults([good, dropped], [(1.0, 4.9), (6.1, 7.0)], LONGEST)) == 1, "while the proxy was up"
    assert len(faults([good, good], [], LONGEST)) == 1, "two ends of one request"
    assert len(faults([Record(MINE, True, 1.0, 2.0 + LONGEST, End.ERROR)], [], LONGEST)) == 1, "too late"
    assert len(faults([Record(MINE, True, 1.0, 2.0, End.WRONG, 200, "a made-up end")], [], LONGEST)) == 1
    assert judged(Reply(), MINE, stream=True) == (End.DROPPED, "")
