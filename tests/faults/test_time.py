"""T1 to T3: clocks that are set, upstreams whose clocks are wrong, and nights on which an hour is missing.

Nothing here waits: every clock is a number.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.model import AccountId
from mcp_proxy.cli.clock import PACE, SystemClock
from mcp_proxy.core.change import Change, Limited, QuotaRead, StateStore
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.quota import ACCOUNT, Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway import waiting
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.providers import _times as times
from mcp_proxy.providers import all_providers
from mcp_proxy.providers._times import CHINA, DAY, HOUR
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Decision, Policy
from mcp_proxy.routing.react import BACKOFF_SECONDS, LONGEST_LIMIT_SECONDS, Lesson, on_failure, on_quotas
from mcp_proxy.state.memory import MemoryStore
from mcp_proxy.state.sqlite import SqliteStore
from tests.fakes import FakeTransport
from tests.mcp_proxy.gateway.test_exchange import answered, room
from tests.mcp_proxy.routing.seats import FIVE_HOURS, NOW, OFFER, facts, seat

A = AccountId("a")
STEPS = [3600.0, -3600.0, 288.0, -288.0, 0.5, -0.5, 86_400.0, -86_400.0]


class World:
    """A machine's two clocks: one that is set, one that runs."""

    def __init__(self, wall: float = NOW) -> None:
        self.wall, self.steady = wall, 5000.0
        self.clock = SystemClock(lambda: self.wall, lambda: self.steady)

    def passes(self, seconds: float) -> Instant:
        self.wall += seconds
        self.steady += seconds
        return self.clock.now()

    def sleeps(self, seconds: float) -> Instant:
        """The lid is closed: on many machines the steady clock stands still meanwhile."""
        self.wall += seconds
        return self.clock.now()


def test_a_clock_that_nobody_sets_is_the_machines() -> None:
    """T1, without the fault."""
    world = World()
    for seconds in (0.0, 0.001, 1.0, 3600.0, 86_400.0):
        assert world.passes(seconds) == world.wall


@pytest.mark.parametrize("step", STEPS)
def test_a_cooldown_lasts_as_long_as_it_was_told_whatever_the_wall_clock_does(step: float) -> None:
    """T1: never longer by more than a ninth; shorter only where the clock was set forward, which opens it once."""
    world, pool = World(), Pool()
    pool.replace_all([seat("a")])
    now = world.passes(1.0)
    failure = Failure(Blame.MODEL, 429, "rate_limit_error", "slow down", Bucket("rpm", Kind.RATE), Instant(now + 60))
    pool.learn(A, on_failure(failure, pool.seats[0], now), now)
    world.passes(10.0)
    world.wall += step
    waited = 10.0
    while not decide(facts(*pool.seats), pool.seats, Policy(), world.passes(0.0)).candidates:
        world.passes(0.25)
        waited += 0.25
        assert waited < 120, "closed for longer than its window"
    assert waited <= 10 + 50 / PACE + 0.25
    if step <= 0:
        assert waited >= 60 - 0.25, "and not for less"


@pytest.mark.parametrize("step", [each for each in STEPS if each < 0])
def test_what_is_learnt_after_the_clock_was_set_back_counts(step: float) -> None:
    """T1: else an account that refuses would be asked by every request until the old hour has come again."""
    world, pool = World(), Pool()
    pool.replace_all([seat("a")])
    bucket = Bucket("rpm", Kind.RATE)
    guess = Failure(Blame.MODEL, 429, "rate_limit_error", "slow down", bucket)
    asked = 0
    for second in range(1200):
        now = world.passes(1.0)
        if second == 3:
            world.wall += step
            now = world.clock.now()
        if decide(facts(*pool.seats), pool.seats, Policy(), now).candidates:
            asked += 1
            pool.learn(A, on_failure(guess, pool.seats[0], now), now)
    assert 2 < asked <= 2 + len(BACKOFF_SECONDS), "one refusal for each pause"


@given(st.lists(st.tuples(st.sampled_from(["step", "pass", "sleep"]), st.floats(-90_000, 90_000)), max_size=40))
def test_time_never_goes_back_and_never_lags_behind_the_wall_clock(events: list[tuple[str, float]]) -> None:
    """T1."""
    world = World()
    last = world.clock.now()
    for kind, seconds in events:
        if kind == "step":
            world.wall += seconds
            now = world.clock.now()
        else:
            now = (world.passes if kind == "pass" else world.sleeps)(abs(seconds))
        assert now >= last and now >= world.wall
        last = now
    ahead = last - world.wall
    assert world.passes(ahead / (1 - PACE) + 1) == world.wall, "and it comes back to the truth"


def test_after_a_sleep_what_ended_meanwhile_is_over_at_once() -> None:
    """T1: the steady clock knows nothing of the night."""
    world, pool = World(), Pool()
    pool.replace_all([seat("a")])
    now = world.passes(1.0)
    failure = Failure(Blame.ACCOUNT, 429, "rate_limit_error", "5h", FIVE_HOURS, Instant(now + 2 * HOUR))
    pool.learn(A, on_failure(failure, pool.seats[0], now), now)
    assert not decide(facts(*pool.seats), pool.seats, Policy(), world.sleeps(1.9 * HOUR)).candidates
    assert decide(facts(*pool.seats), pool.seats, Policy(), world.sleeps(0.2 * HOUR)).candidates


async def test_who_waits_for_a_reset_waits_no_longer_than_was_allowed_though_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T1."""
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.02)
    async with room(FakeTransport([answered()])) as made:
        made.gateway.pool.apply([Limited(A, RateLimit(ACCOUNT, Instant(NOW + 0.2), "busy", NOW))])
        exchange = made.exchange(0.4)
        task = asyncio.get_running_loop().create_task(exchange.open())
        await asyncio.sleep(0.05)
        made.clock.at = NOW - 3600
        async with asyncio.timeout(2):
            found = await task
        assert isinstance(found, Failure) and found.status == 429
        await exchange.close()


# T2: upstreams whose clocks and zones are wrong


def http_date(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize("off", [0.0, 3 * HOUR, -3 * HOUR, 14 * HOUR, -400 * DAY, 30 * DAY])
def test_a_date_to_come_back_is_read_by_the_clock_that_wrote_it(off: float) -> None:
    """T2: by how much an upstream's clock is off is told by the `date` beside it."""
    headers = (("date", http_date(NOW + off)), ("retry-after", http_date(NOW + off + 30)))
    assert times.retry_after(headers, NOW) == NOW + 30
    past = (("date", http_date(NOW + off)), ("retry-after", http_date(NOW + off - 30)))
    assert times.retry_after(past, NOW) is None


SAID = [
    # what the header says · what is made of it, seconds from NOW; None: nothing
    ({"retry-after": "30"}, 30.0),
    ({"retry-after": "30", "date": http_date(NOW - 9999)}, 30.0),
    ({"retry-after-ms": "30000"}, 30.0),
    ({"retry-after": str(int(NOW + 30))}, 8 * DAY),
    ({"retry-after": "1e3"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": http_date(4_291_747_200)}, 8 * DAY),
    ({"retry-after": "Wed, 31 Dec 2036 23:59:60 GMT"}, 8 * DAY),
    ({"retry-after": http_date(NOW - 5)}, None),
    ({"retry-after": "30", "date": "yesterday"}, 30.0),
]


@pytest.mark.parametrize(("headers", "seconds"), SAID, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("name", sorted(all_providers()))
def test_no_upstream_closes_an_account_for_longer_than_a_week_and_a_day(
    name: str, headers: dict[str, str], seconds: float | None
) -> None:
    """T2: a date in another century, milliseconds for seconds: clamped; what says nothing is our own short guess."""
    lesson = refused(name, headers)
    closing = [change for change in lesson.changes if isinstance(change, Limited)]
    assert len(closing) == 1
    until = closing[0].limit.until - NOW
    assert 0 < until <= 8 * DAY
    if seconds is not None and closing[0].limit.bucket.kind is Kind.RATE and closing[0].limit.bucket != ACCOUNT:
        seconds = min(seconds, DAY)
    assert until == (BACKOFF_SECONDS[0] if seconds is None else seconds)


def refused(name: str, headers: dict[str, str]) -> Lesson:
    """What a plain 429 of this provider teaches."""
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
    provider = next(each for known, each in all_providers().items() if known == name)
    failure = provider.read_failure(Refusal(429, tuple(headers.items()), body), OFFER, NOW)
    return on_failure(failure, seat("a"), NOW)


RESETS = [
    # a reset as it is written · seconds from NOW until it is believed to open; None: our own guess
    (str(int(NOW + 1800)), 1800.0),
    (datetime.fromtimestamp(NOW + 1800, UTC).isoformat(), 1800.0),
    (datetime.fromtimestamp(NOW + 1800, CHINA).isoformat(), 1800.0),
    (str(int(NOW + 1800) * 1000), None),
    ("4291747200", LONGEST_LIMIT_SECONDS),
    ("2106-02-07T06:28:16Z", LONGEST_LIMIT_SECONDS),
    ("99999999999", LONGEST_LIMIT_SECONDS),
    (str(int(NOW - 1)), None),
    ("0", None),
]


@pytest.mark.parametrize(("reset", "seconds"), RESETS)
def test_a_reset_in_any_zone_is_one_moment_and_what_no_window_has_is_clamped(reset: str, seconds: float | None) -> None:
    """T2."""
    unified = {f"anthropic-ratelimit-unified-{field}": value for field, value in
               (("status", "rejected"), ("5h-status", "rejected"), ("5h-reset", reset))}  # fmt: skip
    (closing,) = refused("anthropic", unified).changes
    assert isinstance(closing, Limited)
    assert closing.limit.until - NOW == (BACKOFF_SECONDS[0] if seconds is None else seconds)


@pytest.mark.parametrize("resets", [NOW + 33 * DAY, 4_291_747_200.0, 1e11])
def test_a_reading_whose_reset_no_window_can_have_closes_nothing(resets: float) -> None:
    """T2: a window that is empty until 2106 is a mistake of units; the next refusal says how it really is."""
    pool = Pool()
    pool.replace_all([seat("a")])
    pool.apply(on_quotas(A, [Quota(FIVE_HOURS, 0.0, Instant(resets), NOW)]))
    assert decide(facts(*pool.seats), pool.seats, Policy(), NOW).candidates
    pool.apply(on_quotas(A, [Quota(FIVE_HOURS, 0.0, Instant(NOW + HOUR), Instant(NOW + 1))]))
    assert decide(facts(*pool.seats), pool.seats, Policy(), Instant(NOW + 1)).retry_at == NOW + HOUR, "the twin"


# T3: nights, years and restarts

NIGHTS = {
    "clocks go forward in New York": datetime(2027, 3, 14, 7, 0, tzinfo=UTC),
    "clocks go back in New York": datetime(2027, 11, 7, 6, 0, tzinfo=UTC),
    "clocks go forward in Berlin": datetime(2027, 3, 28, 1, 0, tzinfo=UTC),
    "clocks go back in Berlin": datetime(2027, 10, 31, 1, 0, tzinfo=UTC),
    "the year ends": datetime(2028, 1, 1, tzinfo=UTC),
    "the year ends in China": datetime(2027, 12, 31, 16, tzinfo=UTC),
    "a day that few years have": datetime(2028, 2, 29, tzinfo=UTC),
    "32 bits end": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
}
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati")


@contextmanager
def living_in(zone: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ") if before is None else os.environ.__setitem__("TZ", before)
        time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process can be set on POSIX only")
@pytest.mark.parametrize("night", NIGHTS)
def test_where_the_machine_stands_and_what_its_clocks_do_at_night_changes_no_decision(night: str) -> None:
    """T3."""
    change = Instant(NIGHTS[night].timestamp())
    found = {}
    for zone in ZONES:
        with living_in(zone):
            found[zone] = [decisions(Instant(change + offset), change) for offset in (-2 * HOUR, -1, 0, 1, 2 * HOUR)]
    assert len({repr(each) for each in found.values()}) == 1
    before, just_before, at, after, later = found["UTC"]
    assert [len(each[0].candidates) for each in (before, just_before, at, after, later)] == [0, 0, 1, 1, 1]


def decisions(now: Instant, resets: Instant) -> tuple[Decision, object]:
    """What is decided at a moment about an account that is closed until another; and every way to read a moment."""
    pool = Pool()
    pool.replace_all([seat("a")])
    begun = Instant(resets - 3 * HOUR)
    failure = Failure(Blame.ACCOUNT, 429, "rate_limit_error", "5h", FIVE_HOURS, resets)
    pool.learn(A, on_failure(failure, pool.seats[0], begun), begun)
    said = datetime.fromtimestamp(resets, CHINA)
    read = (
        times.prose_time(f"resets at {said:%Y-%m-%d %H:%M:%S}", CHINA, Instant(resets - 60), 5 * HOUR),
        times.yearless_time(
            f"reset at {datetime.fromtimestamp(resets, UTC):%m-%d %H:%M:%S} UTC", Instant(resets - 60), DAY
        ),
        times.http_date(http_date(resets)),
        times.moment(datetime.fromtimestamp(resets, UTC).isoformat()),
    )
    assert read == (resets,) * 4
    return decide(facts(*pool.seats), pool.seats, Policy(), now), (times.next_day(now, CHINA), times.next_month(now))


def test_a_leap_second_is_the_one_before_it() -> None:
    """T3."""
    assert times.http_date("Sat, 31 Dec 2016 23:59:60 GMT") == times.http_date("Sat, 31 Dec 2016 23:59:59 GMT")
    assert times.http_date("Sat, 31 Dec 2016 23:59:61 GMT") is None
    now = Instant(datetime(2016, 12, 31, 23, 59, 30, tzinfo=UTC).timestamp())
    assert times.retry_after((("retry-after", "Sat, 31 Dec 2016 23:59:60 GMT"),), now) == now + 29


STORES: dict[str, Callable[[Path], StateStore]] = {
    "sqlite": lambda folder: SqliteStore(folder / "state.db"),
    "memory": lambda folder: MemoryStore(),
}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("night", NIGHTS)
def test_a_restart_in_the_middle_of_a_cooldown_changes_no_decision(tmp_path: Path, store: str, night: str) -> None:
    """T3."""
    middle = Instant(NIGHTS[night].timestamp())
    kept: list[Change] = []
    pool = Pool(kept.append)
    pool.replace_all([seat("a"), seat("b"), seat("c")])
    begun = Instant(middle - 600)
    for name, bucket, until in (("a", FIVE_HOURS, 1200.0), ("b", Bucket("rpm", Kind.RATE), None)):
        failure = Failure(
            Blame.ACCOUNT, 429, "rate_limit_error", "no", bucket, Instant(begun + until) if until else None
        )
        for passed in (0, 100, 300, 500) if until is None else (0,):  # its pauses grow: it was refused again and again
            now = Instant(begun + passed)
            found = pool.seat(AccountId(name))
            assert found is not None
            pool.learn(found.id, on_failure(failure, found, now), now)
    pool.apply([QuotaRead(AccountId("c"), Quota(FIVE_HOURS, 0.1, Instant(begun + 900), begun))])
    first = STORES[store](tmp_path)
    first.save(kept)
    if store == "sqlite":
        first.close()
    again = Pool()
    again.replace_all([seat("a"), seat("b"), seat("c")])
    second = STORES[store](tmp_path) if store == "sqlite" else first
    again.restore(second.load(middle))
    second.close()
    seen = set()
    for seconds in range(0, 1300, 50):
        now = Instant(middle + seconds)
        one = decide(facts(*pool.seats), pool.seats, Policy(), now)
        assert decide(facts(*again.seats), again.seats, Policy(), now) == one, seconds
        seen.add(len(one.candidates))
    assert seen == {1, 2, 3}, "each of the two opened at its time"
    for name in ("a", "b"):  # also what the next refusal makes of it
        more = Failure(Blame.ACCOUNT, 429, "rate_limit_error", "no", Bucket("rpm", Kind.RATE))
        one_seat, other = pool.seat(AccountId(name)), again.seat(AccountId(name))
        assert one_seat is not None and other is not None
        later = Instant(middle + 2000)
        assert on_failure(more, one_seat, later) == on_failure(more, other, later)
