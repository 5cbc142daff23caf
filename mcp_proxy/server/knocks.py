"""How many wrong keys one peer may try: a tally for each, as values, with the time as an argument.

The right key is never asked about here, so whoever has it is served from the same address as whoever guesses.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

WRONG_KEYS = 20
PER_SECONDS = 60.0
"""So many wrong keys in so long are told to be wrong; each further one is told to come back later."""

MAX_PEERS = 1024
"""Peers remembered; who knocked longest ago leaves first."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One peer's wrong keys. since: when the first of them came, by a clock that is never set."""

    since: float
    wrong: int


def one_more(tally: Tally | None, now: float) -> Tally:
    """The tally after another wrong key; a minute after its first it begins anew."""
    if tally is None or now - tally.since >= PER_SECONDS:
        return Tally(now, 1)
    return Tally(tally.since, tally.wrong + 1)


def come_back_in(tally: Tally, now: float) -> int | None:
    """Whole seconds, at least one, until a wrong key is listened to again; None where this one still was."""
    if tally.wrong <= WRONG_KEYS:
        return None
    return max(1, math.ceil(tally.since + PER_SECONDS - now))


@dataclass(frozen=True, slots=True)
class TooMany:
    """A wrong key too many. first: it is the first of this minute, and worth a line in the log."""

    retry_after: int
    first: bool


class Knocks:
    """The tallies of all peers, at most `MAX_PEERS` of them."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[str, Tally] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tallies)

    def wrong_key(self, peer: str, now: float) -> TooMany | None:
        """Count a wrong key from `peer`; whether it was one too many. now: seconds of a monotonic clock."""
        name = neighbourhood(peer)
        tally = self._tallies[name] = one_more(self._tallies.get(name), now)
        self._tallies.move_to_end(name)
        if len(self._tallies) > MAX_PEERS:
            self._tallies.popitem(last=False)
        seconds = come_back_in(tally, now)
        return None if seconds is None else TooMany(seconds, first=tally.wrong == WRONG_KEYS + 1)


def neighbourhood(peer: str) -> str:
    """What counts as one peer: an IPv4 address, the 64 bits of an IPv6 network that one household has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
