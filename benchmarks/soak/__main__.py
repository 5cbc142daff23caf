"""`python -m benchmarks.soak`: ten minutes, fifty clients, everything that can go wrong. Exit status 1 if it did harm.

python -m benchmarks.soak --seconds 60 --clients 20 --seed 7 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.soak.drive import Sample, Soak


def main() -> int:
    """Run it and tell."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder) / "home", asked.seed, asked.clients, pace=asked.pace)
        talk = sys.stderr if asked.json else sys.stdout
        print(f"seed {asked.seed}, {asked.clients} clients, {asked.seconds:g} s", file=talk, flush=True)
        asyncio.run(soak.run(asked.seconds, tell=lambda sample: print(line(sample), file=talk, flush=True)))
    told = soak.summary()
    if asked.json:
        print(json.dumps(told, indent=1))
    else:
        for name, value in told.items():
            if name != "faults":
                print(f"{name:14} {value}")
        print("\n".join(["what must not be:", *soak.found]) if soak.found else "nothing that must not be")
    return 1 if soak.found else 0


def line(sample: Sample) -> str:
    """One sample for people."""
    use = sample.use
    held = f"{use.rss / 2**20:6.1f} MB {use.descriptors:4} fds" if use is not None else "   (not running)"
    ends = " ".join(f"{name}={count}" for name, count in sorted(sample.ends.items()))
    return f"{sample.at:6.0f} s {held} {sample.upstream:4} up  {ends}  [{', '.join(sample.troubles)}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--clients", type=int, default=50, help="how many ask at once (50)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the trouble's plan (any)")
    parser.add_argument("--pace", type=float, default=5.0, help="seconds from one trouble to the next (5)")
    parser.add_argument("--json", action="store_true", help="the summary as one document on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
