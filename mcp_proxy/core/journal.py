"""What is kept of each request, and where. Never a word of what was asked or answered, nor of an account's label."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from mcp_proxy.core.time import Instant

PACKED_FROM = 600
"""Bytes of a `Detail` from which it is worth compressing."""

_LEVEL = 1
_COMPRESSED = b"z"


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One attempt.

    outcome  "answered", "failed", or "gone" where the client left before either
    seconds  until the first content or the failure
    status   what its failure would be to the client; None where it answered, as all that follow
    blame    whose fault it was
    bucket   the limit that it met
    until    when the upstream says to come back
    rank     why it stood where it stood, in the order of `Detail.fields`
    """

    account: str
    provider: str
    model: str
    outcome: str
    seconds: float
    status: int | None = None
    blame: str | None = None
    bucket: str | None = None
    until: Instant | None = None
    rank: tuple[int, ...] = ()


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """One account in a decision: a candidate with its rank, or refused with the reason.

    provider  empty where the account was gone by then
    reason    empty for a candidate
    until     when a refusal would have ended by itself
    detail    more of it, in our own words only: an upstream's may quote what was asked. Of a candidate by a fallback
              model the reason why it did not serve what was asked for, and `until` when that would have ended
    """

    account: str
    provider: str
    reason: str = ""
    model: str = ""
    rank: tuple[int, ...] = ()
    until: Instant | None = None
    detail: str = ""


class Detail(msgspec.Struct, frozen=True, array_like=True):
    """How a request was decided.

    fields    the names of a rank's fields, most important first; a later version may know more of them
    first     the decision by which the first account was asked, best first; the last one where nobody ever was
    attempts  who was asked, in that order
    later     what the last decision said otherwise of accounts that were never asked
    """

    fields: tuple[str, ...] = ()
    first: tuple[Standing, ...] = ()
    attempts: tuple[Step, ...] = ()
    later: tuple[Standing, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Detail)


def pack(detail: Detail) -> bytes:
    """A detail in few bytes."""
    plain = _ENCODER.encode(detail)
    return plain if len(plain) < PACKED_FROM else _COMPRESSED + zlib.compress(plain, _LEVEL)


def unpack(packed: bytes) -> Detail:
    """The detail again; an empty one where nobody can read it."""
    try:
        return _DECODER.decode(zlib.decompress(packed[1:]) if packed[:1] == _COMPRESSED else packed)
    except (zlib.error, msgspec.MsgspecError):
        return Detail()


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request, from its beginning to its end.

    upstream    what its upstream calls it
    first       seconds to the first content; None where there was none
    total       seconds to the end
    session     a hash of the session, the same for all its requests
    key         the name of the key that its client showed
    caller      a hash of who asked with a credential of their own; empty: nobody
    asked       the model as the client wrote it
    model       the upstream model that answered, or was asked last; None where nobody was, as the next two
    outcome     "ok", "error_event", "cut", "failed" or "client_gone"
    reason      the answer's `x-proxy-reason`
    hour        whether it asked for the hour-long cache, which costs more to write
    attempts    how many there were
    input       and all that follow: tokens; None where there was no answer
    reasoning   None where the upstream does not say
    detail      packed
    """

    request: str
    upstream: str | None = None
    begun: Instant
    first: float | None = None
    total: float
    session: str = ""
    key: str = "default"
    caller: str = ""
    asked: str
    model: str | None = None
    provider: str | None = None
    account: str | None = None
    outcome: str
    status: int
    reason: str
    stream: bool
    waited: bool = False
    hour: bool = False
    attempts: int = 0
    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    detail: bytes = b""


class By(StrEnum):
    """What usage is summed up by. DAY: of the machine's own time zone."""

    ACCOUNT = "account"
    MODEL = "model"
    PROVIDER = "provider"
    DAY = "day"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Question:
    """Whose usage is asked for.

    days      calendar days of the machine's time zone, today among them
    provider  None: all of them
    borders   moments at which prices change: what lies on two sides of one is told apart
    """

    now: Instant
    days: int
    by: By
    provider: str | None = None
    borders: tuple[Instant, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one group that cost alike.

    group            an account's id, a model, a provider, a day or a key; empty: nobody was asked
    period           how many of the question's borders lie before it
    failovers        requests for which more than one attempt was made
    errors           requests that ended in an error, or were cut
    cache_write_hour of `cache_write`, what was written for an hour
    reasoning        None where no upstream said
    """

    group: str
    provider: str
    model: str
    period: int
    requests: int
    failovers: int
    errors: int
    input: int
    cache_read: int
    cache_write: int
    cache_write_hour: int
    output: int
    reasoning: int | None


@dataclass(frozen=True, slots=True)
class Medians:
    """Seconds, of the requests that were answered; None where none was."""

    first: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class Used:
    """An answer to a `Question`.

    since     the beginning of its first day
    medians   by group; all together under None
    """

    since: Instant
    tallies: Sequence[Tally]
    medians: Mapping[str | None, Medians]


class Journal(Protocol):
    """Where rows are kept. Blocking: never called on the event loop's thread. Raises `OSError`.

    Reading may take seconds and keeps no writer waiting.
    """

    def write(self, rows: Sequence[Row]) -> None:
        """Keep these, all or none. One that is there already stays as it is."""
        ...

    def trim(self, before: Instant, at_most: int) -> int:
        """Forget rows that began before a moment, some at a time; how many there were."""
        ...

    def find(self, request: str | None) -> Row | None:
        """The request of this id, ours or its upstream's; None: the one that ended last."""
        ...

    def used(self, question: Question) -> Used: ...

    def close(self) -> None: ...
