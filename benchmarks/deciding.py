"""What a decision costs: `python -m benchmarks.deciding [--json]`. No server, no upstream: one pure function.

Aims: 30 us among 10 accounts, 250 us among 100. It is the processor's time, and of several rounds the best: machines
are shared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import timeit
from collections.abc import Sequence

from accounts.model import Account, AccountId
from mcp_proxy.core.breaker import Breaker
from mcp_proxy.core.ids import ModelId, RequestId
from mcp_proxy.core.provider import Offer, Serves
from mcp_proxy.core.quota import Bucket, Kind, Quota, RateLimit
from mcp_proxy.core.time import Instant
from mcp_proxy.routing.budget import budget
from mcp_proxy.routing.decide import decide
from mcp_proxy.routing.facts import Closed, Facts, Policy, Seat, Serving, Target

NOW = Instant(1_800_000_000.0)
FIVE_HOURS, WEEK, MINUTE = Bucket("5h"), Bucket("7d"), Bucket("rpm", Kind.RATE)
OFFER = Offer(ModelId("claude-sonnet-5"), (FIVE_HOURS, WEEK, MINUTE))
BUDGET = budget("7d", 7 * 86_400.0, 40_000_000, shared=True)
AIMS = {10: 30.0, 100: 250.0}
ROUNDS = 7


def seats(count: int) -> tuple[Seat, ...]:
    """Accounts as a day leaves them: both windows read, a budget, every fifth with a limit that is over, every tenth
    with a failure a while ago, every twentieth closed."""
    return tuple(_seat(number) for number in range(count))


def _seat(number: int) -> Seat:
    quotas = {
        bucket: Quota(bucket, left, Instant(NOW + 600), Instant(NOW - 60))
        for bucket, left in ((FIVE_HOURS, 0.9), (WEEK, 0.7), (BUDGET.bucket, 0.5))
    }
    until = NOW + 60 if number % 20 == 7 else NOW - 60
    limit = RateLimit(MINUTE, Instant(until), "too fast", Instant(NOW - 90))
    failed = {"breaker": Breaker(1, at=Instant(NOW - 300))} if number % 10 == 3 else {}
    return Seat(
        Account(AccountId(f"{number:06x}"), "anthropic", f"account {number}"),
        {OFFER.model: OFFER},
        Serves(),
        quotas=quotas,
        closed={MINUTE: Closed(limit)} if number % 5 == 2 else {},
        comfort=4,
        upstream="anthropic https://api.anthropic.com",
        budgets=(BUDGET,),
        **failed,
    )


def microseconds(count: int) -> float:
    """What one decision among so many accounts takes, at best."""
    pool = seats(count)
    target = Target(OFFER.model, {seat.id: (Serving(OFFER),) for seat in pool})
    facts = Facts(RequestId("req_1"), target, "session of a client", "", 20_000, stream=True)
    policy = Policy(reserve={"7d": 0.3})
    timer = timeit.Timer(lambda: decide(facts, pool, policy, NOW), timer=time.process_time)
    number = max(10, 20_000 // count)
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def main(words: Sequence[str]) -> int:
    """Print the costs; exit status 1 where one is over its aim."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deciding", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    told = {count: round(microseconds(count), 1) for count in (1, 10, 100)}
    if parser.parse_args(words).json:
        sys.stdout.write(f"{json.dumps({'microseconds': told, 'aims': AIMS})}\n")
    else:
        for count, cost in told.items():
            aim = f"  (aim: {AIMS[count]:g})" if count in AIMS else ""
            sys.stdout.write(f"{count:4} accounts: {cost:7.1f} us{aim}\n")
    return int(any(told[count] > aim for count, aim in AIMS.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
