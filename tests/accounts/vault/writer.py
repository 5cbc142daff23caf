"""A program that changes the store and says each change once it is stored.

`HOME change COUNT`: counts up in one account. `HOME add FIRST COUNT`: adds that many accounts by the command line.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

from accounts.model import AccountId
from tests.accounts.cli import program
from tests.accounts.kit import vault_in


def change(home: Path, count: int) -> None:
    vault = vault_in(home)
    for number in range(1, count + 1):
        vault.change(AccountId("id0001"), lambda known, n=number: replace(known, tier=n))  # type: ignore[misc]
        print(number, flush=True)


def add(home: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        sys.stdin = io.StringIO(f"sk-fake-{number}-not-real\n")
        words = ("add", "--provider", "zai", "--label", f"cli-{number}", "--api-key-stdin")
        if program.call(program.ports(home), *words) == 0:
            print(number, flush=True)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    if sys.argv[2] == "change":
        change(home, int(sys.argv[3]))
    else:
        add(home, int(sys.argv[3]), int(sys.argv[4]))
