"""An account of a simulated host: its key, its windows and how they drain, its script, what it was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox.answers import Answer, Block, say
from mcp_proxy.sandbox.cache import PromptCache
from mcp_proxy.sandbox.voice import Voice, voice_of

if TYPE_CHECKING:
    from mcp_proxy.sandbox.faults import Fault
    from mcp_proxy.sandbox.received import Received

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LENGTHS = {"5h": 5 * HOUR, "7d": 7 * DAY}


class Place(StrEnum):
    """Which of a host's endpoints is meant."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    QUOTA = "quota"
    PROJECT = "project"
    ONBOARD = "onboard"
    AUTHORIZE = "authorize"
    TOKEN = "token"  # noqa: S105 - a place
    USERINFO = "userinfo"


class Counts(StrEnum):
    """What a window counts; the values are Anthropic's header families."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT = "input-tokens"
    OUTPUT = "output-tokens"


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a host.

    context  tokens of input it takes
    counts   whether `count_tokens` says the truth of it, else 0
    """

    id: str
    name: str
    context: int = 200_000
    counts: bool = True


@dataclass(slots=True)
class Window:
    """One limit of one account, and how much of it is used.

    capacity   in what `counts` says
    resets_in  seconds until it starts over, from the account's making; None: it starts with its first use
    length     seconds from one start to the next; 0: known from the name, else a minute
    """

    name: str
    capacity: int
    resets_in: float | None = None
    counts: Counts = Counts.TOKENS
    length: float = 0.0
    used: float = 0.0
    resets_at: float | None = None

    def begin(self, now: float) -> None:
        self.length = self.length or LENGTHS.get(self.name, MINUTE)
        self.resets_at = None if self.resets_in is None else now + self.resets_in

    def roll(self, now: float) -> None:
        """Start over if its time has come."""
        if self.resets_at is not None and now >= self.resets_at:
            self.used = 0.0
            self.resets_at = None if self.resets_in is None else self.resets_at + self.length
            if self.resets_at is not None and self.resets_at <= now:
                self.resets_at = now + self.length

    @property
    def left(self) -> float:
        """Fraction still free, 0.0 to 1.0."""
        return max(0.0, 1.0 - self.used / self.capacity)

    @property
    def remaining(self) -> int:
        return max(0, int(self.capacity - self.used))

    def charge(self, usage: Usage, now: float) -> None:
        """Cache reads are free, as on Anthropic's token buckets."""
        sizes: dict[Counts, int] = {
            Counts.REQUESTS: 1,
            Counts.TOKENS: usage.input + usage.cache_write + usage.output,
            Counts.INPUT: usage.input + usage.cache_write,
            Counts.OUTPUT: usage.output,
        }
        self.used += sizes[self.counts]
        if self.resets_at is None:
            self.resets_at = now + self.length


@dataclass(slots=True, eq=False)
class Scripted:
    """Faults to come: one-shot ones in order, each for one place, and a standing one.

    A one-shot waits for a request that is in order; a standing one meets every request to its place.
    """

    _once: dict[Place, deque[Fault]] = field(default_factory=dict)
    _standing: dict[Place, Fault] = field(default_factory=dict)

    def script(self, *faults: Fault, on: Place = Place.MESSAGES) -> None:
        """The next requests to `on` meet these, one each, in this order."""
        self._once.setdefault(on, deque()).extend(faults)

    def always(self, fault: Fault, *, on: Place | None = Place.MESSAGES) -> None:
        """Every request meets this until `well()`; `on=None`: at every place."""
        for place in Place if on is None else (on,):
            self._standing[place] = fault

    def well(self) -> None:
        """No faults any more, neither standing nor waiting."""
        self._once.clear()
        self._standing.clear()

    def pending(self, on: Place = Place.MESSAGES) -> int:
        """How many one-shot faults are still waiting."""
        return len(self._once.get(on, ()))

    def once(self, place: Place) -> Fault | None:
        waiting = self._once.get(place)
        return waiting.popleft() if waiting else None

    def standing(self, place: Place) -> Fault | None:
        return self._standing.get(place)


@dataclass(slots=True, eq=False)
class Account(Scripted):
    """Somebody with a key.

    alias        what its default answers call it
    models       by id, those it may use
    concurrency  requests in flight above which the host refuses; None: no limit
    level        the plan's name, where the host tells it
    revoked      the host no longer knows the key
    """

    alias: str = ""
    key: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    concurrency: int | None = None
    level: str = "pro"
    revoked: bool = False
    in_flight: int = 0
    received: list[Received] = field(default_factory=list)
    cache: PromptCache = field(default_factory=PromptCache)
    voice: Voice | None = None
    _said: deque[Answer] = field(default_factory=deque)

    def say(self, *blocks: Block | str | Answer, **how: Any) -> None:
        """The next answer is this: blocks (a string is text) and the fields of `Answer`, or ready answers, in turn."""
        answers = [block for block in blocks if isinstance(block, Answer)]
        rest = [block for block in blocks if not isinstance(block, Answer)]
        self._said.extend(answers or [say(*rest, **how)])

    def speak(self, voice: Voice | Answer | None) -> None:
        """Every answer that was not said by `say` comes from here; None: the default text again."""
        self.voice = (lambda _: voice) if isinstance(voice, Answer) else voice

    @property
    def told(self) -> bool:
        """Whether its next answer was given by `say`."""
        return bool(self._said)

    def answer(self, body: dict[str, Any]) -> Answer:
        if self._said:
            return self._said.popleft()
        return (self.voice or voice_of(self.alias))(body)

    def drain(self, window: str, *, to: float = 0.0) -> None:
        """Leave this fraction of a window, 0.0 to 1.0."""
        found = self.window(window)
        found.used = found.capacity * (1.0 - to)

    def window(self, name: str) -> Window:
        try:
            return self.windows[name]
        except KeyError:
            raise KeyError(f"{self.alias} has no window {name!r}, only {', '.join(self.windows) or 'none'}") from None

    def roll(self, now: float) -> None:
        for window in self.windows.values():
            window.roll(now)

    def exhausted(self) -> Window | None:
        """The window that closes the account for longest, if one does."""
        spent = [window for window in self.windows.values() if window.used >= window.capacity]
        return max(spent, key=lambda window: window.resets_at or 0.0, default=None)

    def charge(self, usage: Usage, now: float) -> None:
        for window in self.windows.values():
            window.charge(usage, now)


def begun(windows: Iterable[Window], now: float) -> dict[str, Window]:
    """Windows by name, their clocks started."""
    found = {window.name: window for window in windows}
    for window in found.values():
        window.begin(now)
    return found
