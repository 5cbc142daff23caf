"""What is remembered of failures in a row, of an account or of an address."""

from __future__ import annotations

from typing import NamedTuple

from mcp_proxy.core.time import Instant


class Breaker(NamedTuple):
    """Failures in a row, and what they led to. Read and changed by `routing.breaker`.

    failures  in a row, since the last success
    trips     how often in a row it opened; 0: it is closed
    until     it stays open until then; of no meaning while `trips` is 0
    at        when it last changed; of two about one subject the later holds
    status    what its upstream last failed with, as the client would be told
    why       the same in words, one short phrase; never holds a secret
    """

    failures: int = 0
    trips: int = 0
    until: Instant = Instant(0.0)
    at: Instant = Instant(0.0)
    status: int = 502
    why: str = ""


SOUND = Breaker()
"""Of whom no failure is remembered."""
