"""The benchmark: one command, one table. `python -m benchmarks [--seconds S] [--rounds N] [--json]`.

Everything is measured in one run, in turns, on one core for the server under measurement and one for the rest:
machines are shared and noisy, so ratios are to be quoted, not figures. Of several rounds the best counts.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import stage
from benchmarks.load import WRK, Measured, Streams, body, closed_loop, timed_streams
from benchmarks.stage import Running

LARGE, SMALL = 96_000, 100
CLIENTS = 32
LITELLM, GO, NODE = 0.0052, 0.0385, 0.0513
"""Requests a second of the field's other proxies over nginx's, measured side by side on another day."""


@dataclass(frozen=True)
class Line:
    """A row of the table. met: None where there is no aim."""

    what: str
    value: str
    aim: str = ""
    met: bool | None = None


@dataclass
class Bench:
    """What is measured, and how long."""

    direct: Running
    nginx: Running | None
    proxy: Running
    seconds: float
    rounds: int

    @property
    def servers(self) -> list[Running]:
        return [server for server in (self.direct, self.nginx, self.proxy) if server is not None]

    def loops(self, data: bytes, clients: int, *, plain: bool = False) -> dict[str, Measured]:
        """Each server in turn, several times; of each the best rate, delays and processor time."""
        rounds = [
            {server.name: closed_loop(server, data, clients, self.seconds, plain=plain) for server in self.servers}
            for _ in range(self.rounds)
        ]
        return {name: _best([each[name] for each in rounds]) for name in rounds[0]}


def _best(found: list[Measured]) -> Measured:
    return Measured(
        count=sum(each.count for each in found),
        rate=max(each.rate for each in found),
        p50=min(each.p50 for each in found),
        p99=min(each.p99 for each in found),
        cpu=min(each.cpu for each in found),
        failed=sum(each.failed for each in found),
    )


def requests(bench: Bench) -> Iterator[Line]:
    """Requests of both sizes, streamed and not, one at a time and many at once."""
    for size in (SMALL, LARGE):
        for model, stream in (("bench-message", False), ("bench-burst", True)):
            for clients in (1, CLIENTS):
                found = bench.loops(body(model, size, stream=stream), clients, plain=clients == 1)
                name = (
                    f"{'96 KB' if size == LARGE else '100 B'}, {'200 events' if stream else 'whole'}, {clients} at once"
                )
                yield from _requests(name, found, clients, aimed=size == LARGE and not stream)


def _requests(name: str, found: dict[str, Measured], clients: int, *, aimed: bool) -> Iterator[Line]:
    direct, mine, other = found["direct"], found["proxy"], found.get("nginx")
    for server, each in found.items():
        added = "" if server == "direct" else f", added p50 {each.p50 - direct.p50:.2f} p99 {each.p99 - direct.p99:.2f}"
        yield Line(
            f"{name}: {server}",
            f"{each.rate:.0f}/s, {each.cpu:.3f} ms CPU, p50 {each.p50:.2f} ms{added}"
            + (f", {each.failed} FAILED" if each.failed else ""),
        )
    if other is None:
        return
    if clients == 1:
        ratio = (mine.p50 - direct.p50) / max(other.p50 - direct.p50, 1e-6)
        yield Line(
            f"{name}: added p50 over nginx's",
            f"{ratio:.1f} x",
            "<= 5 x" if aimed else "",
            ratio <= 5 if aimed else None,
        )
    else:
        ratio = mine.rate / other.rate
        yield Line(
            f"{name}: rate over nginx's", f"{ratio:.3f}", ">= 0.15" if aimed else "", ratio >= 0.15 if aimed else None
        )
        if aimed:
            peers = f"{ratio / LITELLM:.0f} x LiteLLM, {ratio / GO:.1f} x Go, {ratio / NODE:.1f} x Node"
            met = ratio >= 25 * LITELLM and ratio >= 2.5 * GO and ratio >= 2 * NODE
            yield Line(f"{name}: over the others, by their ratio to nginx", peers, ">= 25, 2.5, 2 x", met)


def bursts(bench: Bench) -> Iterator[Line]:
    """Eight streams that send bursts of 200 events without a pause between."""
    from benchmarks.upstream import BURST_EVENTS, BURSTS

    events = BURST_EVENTS * BURSTS
    found = bench.loops(body("bench-bursts", SMALL, stream=True), 8, plain=True)
    for name, each in found.items():
        yield Line(
            f"bursts, 8 streams: {name}",
            f"{each.rate * events:.0f} events/s, {each.cpu / events * 1e3:.2f} us CPU each",
        )
    if "nginx" in found:
        ratio = found["proxy"].rate / found["nginx"].rate
        yield Line("bursts, 8 streams: events over nginx's", f"{ratio:.2f}", ">= 1", ratio >= 1)


def paced(bench: Bench) -> Iterator[Line]:
    """2000 events a second over 40 streams, each event timed from the upstream's write to the client's read."""
    data = body("bench-paced", LARGE, stream=True)
    found: dict[str, list[Streams]] = {}
    for _ in range(bench.rounds):
        for server in bench.servers:
            found.setdefault(server.name, []).append(timed_streams(server, data, 40, 100))
    best = {name: min(each, key=lambda one: one.p50) for name, each in found.items()}
    for name, each in best.items():
        yield Line(
            f"paced, 40 streams: {name}",
            f"p50 {each.p50:.2f} ms, p99 {each.p99:.2f} ms, {each.cpu * 1e3:.0f} us CPU an event",
        )
    mine, direct = best["proxy"], best["direct"]
    p50, p99 = mine.p50 - direct.p50, min(each.p99 for each in found["proxy"]) - direct.p99
    yield Line("paced: added delay p50", f"{p50:.2f} ms", "<= 0.3 ms", p50 <= 0.3)
    yield Line("paced: added delay p99", f"{p99:.2f} ms", "<= 3 ms", p99 <= 3)
    lost = sum(40 * 100 - each.events for each in found["proxy"])
    merged = max(each.merged for each in found["proxy"])
    yield Line("paced: events lost; most in one read", f"{lost}; {merged}", "0", lost == 0)
    if "nginx" in found:
        cpu = min(each.cpu for each in found["proxy"]) / max(min(each.cpu for each in found["nginx"]), 1e-9)
        yield Line("paced: CPU an event over nginx's", f"{cpu:.1f} x", "<= 4 x", cpu <= 4)


def many(bench: Bench, idle: float) -> Iterator[Line]:
    """A thousand slow streams, and eight other clients beside them."""
    from concurrent.futures import ThreadPoolExecutor

    message = body("bench-message", LARGE, stream=False)
    alone = closed_loop(bench.proxy, message, 8, 3.0, plain=True)
    with ThreadPoolExecutor(1) as pool:
        streams = pool.submit(_streams_apart, bench.proxy.port, 1000)
        time.sleep(4.0)
        open_ = bench.proxy.used().rss
        beside = closed_loop(bench.proxy, message, 8, 3.0, plain=True)
        found = streams.result()
    yield Line("1000 slow streams: whole", f"{found['complete']}", "1000", found["complete"] == 1000)
    yield Line("1000 slow streams: event p99", f"{found['p99']:.1f} ms", "<= 20 ms", found["p99"] <= 20)
    share = beside.rate / alone.rate
    yield Line("8 clients beside them", f"{share:.0%} of their rate, {beside.failed} failed", ">= 50 %", share >= 0.5)
    each = (open_ - idle) * 1024 / 1000
    yield Line("memory an open stream, 96 KB asked", f"{each:.0f} KB", "<= 60 KB", each <= 60)


def _streams_apart(port: int, count: int) -> dict[str, Any]:
    """In a process of its own, since two event loops of one process share its lock."""
    words = (sys.executable, "-m", "benchmarks.streams", str(port), str(count), "8")
    return dict(json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout))


def failing_over(behind: Running) -> Iterator[Line]:
    """Requests whose first account says 529, each answered by the second."""
    with stage.proxy(stage.native(behind, 200)) as proxy:
        found = {}
        for model in ("bench-message", "bench-toggle"):
            found[model] = statistics.median(
                closed_loop(proxy, body(model, LARGE, stream=False), 1, 0.05, plain=True).p50 for _ in range(5)
            )
    ratio = found["bench-toggle"] / found["bench-message"]
    yield Line("failing over: time over a clean request's", f"{ratio:.2f} x", "<= 2 x", ratio <= 2)


def translating(bench: Bench) -> Iterator[Line]:
    """What it costs to translate, beside passing on: 200 events a stream, and a request of 96 KB."""
    from benchmarks.upstream import BURST_EVENTS, TRANSLATED

    short, burst = TRANSLATED
    accounts = [*stage.native(bench.direct, 3), *stage.translated(bench.direct)]
    with stage.proxy(accounts) as proxy:
        loops = replace(bench, proxy=proxy)
        cost = {
            (model, size): loops.loops(body(model, size, stream=stream), CLIENTS)["proxy"]
            for model, stream in (("bench-message", False), (short, False), ("bench-burst", True), (burst, True))
            for size in (SMALL, LARGE)
        }
    for (model, size), each in cost.items():
        failed = f", {each.failed} FAILED" if each.failed else ""
        yield Line(f"{size} B to {model}", f"{each.rate:.0f}/s, {each.cpu:.3f} ms CPU{failed}")
    event = (cost[burst, SMALL].cpu - cost["bench-burst", SMALL].cpu) / BURST_EVENTS * 1e3
    yield Line("translated: CPU an event more", f"{event:.1f} us", "<= 8 us", event <= 8)
    request = cost[short, LARGE].cpu - cost["bench-message", LARGE].cpu
    yield Line("translated: CPU a 96 KB request more", f"{request:.2f} ms", "<= 0.5 ms", request <= 0.5)


def journal(behind: Running, rounds: int) -> Iterator[Line]:
    """What a thousand rows a second do to streams beside them: the same streams with and without, in turns."""
    data = body("bench-paced", LARGE, stream=True)
    accounts = stage.native(behind, 10)
    with stage.proxy(accounts, rows=0) as without, stage.proxy(accounts, rows=1000) as beside:
        found: dict[str, list[Streams]] = {"without": [], "1000 rows/s": []}
        for _ in range(max(rounds, 3) + 1):
            for name, server in (("without", without), ("1000 rows/s", beside)):
                found[name].append(timed_streams(server, data, 40, 100))
        asked = urllib.request.Request(f"http://127.0.0.1:{beside.port}/usage?days=2", headers={"x-api-key": stage.KEY})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            yield Line("rows written meanwhile", f"{json.load(answer)['total']['requests']}")
    for name, each in found.items():
        del each[0]  # the first also warms up, and gives the rows their example
        p50, p99 = (statistics.median(getattr(one, what) for one in each) for what in ("p50", "p99"))
        yield Line(f"paced beside the journal: {name}", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms (medians of rounds)")
    added = statistics.median(
        one.p99 - other.p99 for one, other in zip(found["1000 rows/s"], found["without"], strict=True)
    )
    yield Line("1000 rows/s: added to the streams' p99", f"{added:.2f} ms", "<= 5 ms", added <= 5)


def startup() -> Iterator[Line]:
    """How long `proxy --help` takes, of ten the fastest."""
    words = (sys.executable, "-m", "mcp_proxy", "--help")
    subprocess.run(words, capture_output=True, check=True)
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        subprocess.run(words, capture_output=True, check=True)
        times.append(time.perf_counter() - begun)
    yield Line("proxy --help", f"{min(times):.2f} s", "<= 0.15 s", min(times) <= 0.15)


def memory(proxy: Running) -> Iterator[Line]:
    yield Line("memory, idle", f"{proxy.used().rss:.0f} MB", "<= 80 MB", proxy.used().rss <= 80)


def show(lines: Iterator[Line], kept: list[Line]) -> None:
    for line in lines:
        kept.append(line)
        mark = {None: "", True: "  ok", False: "  MISSED"}[line.met]
        print(f"{line.what:<58} {line.value}{f'  (aim {line.aim})' if line.aim else ''}{mark}", flush=True)


def main() -> None:
    """Measure, print the table, and say what was missed."""
    reading = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    reading.add_argument("--seconds", type=float, default=2.0, help="of each closed loop (default 2)")
    reading.add_argument("--rounds", type=int, default=3, help="of which the best counts (default 3)")
    reading.add_argument(
        "--only",
        action="append",
        default=[],
        help="requests, bursts, paced, many, failing, translated, journal, startup",
    )
    reading.add_argument("--json", action="store_true", help="print one document at the end")
    said = reading.parse_args()
    kept: list[Line] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with it

    def wanted(name: str) -> bool:
        return not said.only or name in said.only

    stage.pin(1)
    print(f"closed loops by {'wrk' if WRK else 'our own clients (wrk is not installed)'}; milliseconds", flush=True)
    with stage.upstream() as direct, stage.nginx(direct) as nginx, stage.proxy(stage.native(direct, 3)) as proxy:
        if nginx is None:
            print("nginx is not installed: no ratios", flush=True)
        idle = proxy.used().rss
        show(memory(proxy), kept)
        bench = Bench(direct, nginx, proxy, said.seconds, said.rounds)
        parts: dict[str, Callable[[], Iterator[Line]]] = {
            "requests": lambda: requests(bench),
            "bursts": lambda: bursts(bench),
            "paced": lambda: paced(bench),
            "many": lambda: many(bench, idle),
            "failing": lambda: failing_over(direct),
            "translated": lambda: translating(bench),
            "journal": lambda: journal(direct, said.rounds),
            "startup": startup,
        }
        for name, part in parts.items():
            if wanted(name):
                show(part(), kept)
    missed = [line.what for line in kept if line.met is False]
    print(
        f"aims reached: {sum(line.met is True for line in kept)}, missed: {len(missed)}",
        *missed,
        sep="\n  ",
        flush=True,
    )
    if said.json:
        print(json.dumps({"schema_version": 1, "lines": [line.__dict__ for line in kept]}))


if __name__ == "__main__":
    main()
