"""Slow streams in a process of their own: `python -m benchmarks.streams PORT COUNT EVENTS`, one JSON document."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

from benchmarks.load import body, streams_of


def main() -> None:
    """Open them, read them to their end, say how it went."""
    port, count, events = map(int, sys.argv[1:])
    found = asyncio.run(streams_of(port, body("bench-slow", 96_000, stream=True), count, events))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
