"""What each client was given, and what it may have been given. Pure.

Every prompt carries a canary that the upstream's answer repeats. A request ends in exactly one way: it is complete, or
an honest error, or cut and marked as cut; anything else is a fault.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CANARY = re.compile(r"canary-[0-9]+-[0-9a-f]{8}")
ECHOES = 12
"""How often an answer repeats its canary: a short text is no whole one."""

HONEST = frozenset({429, 502, 503, 504, 529})
"""What a request that is in order may be refused with, when upstreams or the machine are in trouble."""


class End(StrEnum):
    """How a request ended.

    COMPLETE  the whole answer
    ERROR     an error in Anthropic's shape, whole
    CUT       an answer that was begun, and shows that it is not whole
    DROPPED   the connection ended without a byte of answer
    LEFT      the client hung up
    WRONG     none of these
    """

    COMPLETE = "complete"
    ERROR = "error"
    CUT = "cut"
    DROPPED = "dropped"
    LEFT = "left"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came off the wire, its framing undone.

    status  0: not even a head came
    whole   whether its framing said that it was over
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One request. began, ended: seconds of one clock; why: of an error its kind, of what is wrong what."""

    canary: str
    stream: bool
    began: float
    ended: float
    end: End
    status: int = 0
    why: str = ""


def echo(canary: str) -> str:
    """The one right answer to a prompt with this canary."""
    return " ".join([canary] * ECHOES)


def judged(reply: Reply, canary: str, *, stream: bool) -> tuple[End, str]:
    """How a request with this canary ended, and why."""
    if strangers := set(CANARY.findall(reply.body.decode("utf-8", "replace"))) - {canary}:
        return End.WRONG, f"holds another's {sorted(strangers)[0]}"
    if reply.status == 0:
        return End.DROPPED, ""
    if reply.status != 200:
        return _refused(reply)
    return _streamed(reply, canary) if stream else _whole(reply, canary)


def _refused(reply: Reply) -> tuple[End, str]:
    if not reply.whole:
        return End.CUT, f"{reply.status} cut"
    try:
        told = json.loads(reply.body)
        kind, message, request = told["error"]["type"], told["error"]["message"], told["request_id"]
    except (ValueError, KeyError, TypeError):
        return End.WRONG, f"{reply.status} in no shape of ours: {reply.body[:80]!r}"
    if told.get("type") != "error" or not message or request != reply.headers.get("request-id"):
        return End.WRONG, f"{reply.status} not in Anthropic's shape: {reply.body[:80]!r}"
    if reply.status not in HONEST:
        return End.WRONG, f"{reply.status} {kind}: {message}"
    if reply.status == 429 and not reply.headers.get("retry-after", "").isdecimal():
        return End.WRONG, "429 without retry-after"
    return End.ERROR, f"{reply.status} {kind}"


def _whole(reply: Reply, canary: str) -> tuple[End, str]:
    if not reply.whole:
        return End.CUT, "framing"
    try:
        text = _text(json.loads(reply.body)["content"])
    except (ValueError, KeyError, TypeError):
        return End.WRONG, f"200 that is no message: {reply.body[:80]!r}"
    return (End.COMPLETE, "") if text == echo(canary) else (End.WRONG, f"another text: {text[:60]!r}")


def _text(content: Any) -> str:
    return "".join(block["text"] for block in content)


def _streamed(reply: Reply, canary: str) -> tuple[End, str]:
    frames = reply.body.split(b"\n\n")
    rest, text, kinds = frames.pop(), "", []
    for frame in frames:
        kind, _, data = frame.partition(b"\ndata: ")
        kinds.append(kind.removeprefix(b"event: ").decode("utf-8", "replace"))
        if kinds[-1] == "content_block_delta":
            try:
                text += json.loads(data)["delta"]["text"]
            except (ValueError, KeyError, TypeError):
                return End.WRONG, f"a frame that is none: {frame[:80]!r}"
    if not echo(canary).startswith(text):
        return End.WRONG, f"another text: {text[:60]!r}"
    stopped, told = "message_stop" in kinds, "error" in kinds
    if stopped and not told and reply.whole and not rest:
        return (End.COMPLETE, "") if text == echo(canary) else (End.WRONG, f"ends as if whole after {text[:60]!r}")
    if stopped and told:
        return End.WRONG, "an end and an error"
    if told and reply.whole:
        return End.CUT, "error event"
    if not reply.whole and not stopped:
        return End.CUT, "framing"
    if not reply.whole and text == echo(canary):
        return End.CUT, "framing, behind its end"
    return End.WRONG, f"an end that does not look like one, after {kinds[-1:]}"


Spell = tuple[float, float]
"""From when until when."""


def faults(records: Iterable[Record], outages: Sequence[Spell], longest: float) -> list[str]:
    """What must not have been. outages: when a connection may have ended without an answer; longest: seconds."""
    found, seen = [], Counter[str]()
    for record in records:
        seen[record.canary] += 1
        if record.end is End.WRONG:
            found.append(f"{record.canary}: {record.why}")
        if record.end is End.DROPPED and not any(
            record.began <= end and record.ended >= begin for begin, end in outages
        ):
            found.append(
                f"{record.canary}: no answer at all, {record.ended - record.began:.1f} s, while the proxy was up"
            )
        if record.ended - record.began > longest:
            found.append(f"{record.canary}: {record.end} after {record.ended - record.began:.1f} s")
    return found + [f"{canary}: {count} ends" for canary, count in seen.items() if count != 1]
