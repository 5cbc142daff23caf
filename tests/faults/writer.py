"""A program that changes accounts of its own by the command line, again and again, until it is killed.

`NAME SEED HISTORY`: its accounts' labels begin with NAME; before and after each change it writes a line to HISTORY.
Beside them it counts up the tier of the account `shared`, which others count up too.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

from accounts.model import ApiKey, Entry, Secret
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.cli.root import app
from mcp_proxy.cli.run import run
from mcp_proxy.settings import from_process


def changes(name: str, chance: random.Random, labels: list[str]) -> Iterator[tuple[str, ...]]:
    """What to do next; `labels` are the accounts of ours as the store has them."""
    fresh = f"{name}-{chance.randrange(10**9)}"
    yield ("count",)
    if len(labels) < 4:
        yield "add", fresh
        return
    label = chance.choice(labels)
    yield chance.choice(
        (("disable", label), ("enable", label), ("rename", label, fresh), ("renew", label), ("remove", label))
    )


def main(name: str, seed: int, history: Path) -> None:
    chance = random.Random(seed)
    vault = open_vault(from_process({}))
    notes = os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        mine = {entry.account.label: entry for entry in vault.entries() if entry.account.label.startswith(name)}
        for change in changes(name, chance, sorted(mine)):
            number = str(chance.randrange(10**9))
            key = key_of(number)
            os.write(notes, json.dumps(["begun", *change, number]).encode() + b"\n")
            if change[0] == "count":
                vault.edit(lambda entries: tuple(counted(entry) for entry in entries))
            elif change[0] == "renew":
                vault.replace_credential(mine[change[1]].account.id, ApiKey(Secret(key)))
            else:
                told(words(change), key)
            os.write(notes, b'["done"]\n')


def key_of(number: str) -> str:
    """The key that the history knows by its number, since no key is written anywhere but into the store."""
    return f"sk-fake-{number}-good"


def counted(entry: Entry) -> Entry:
    """The shared account, one up; any other as it is."""
    same = entry.account.label == "shared"
    return replace(entry, account=replace(entry.account, tier=(entry.account.tier or 0) + 1)) if same else entry


def words(change: tuple[str, ...]) -> tuple[str, ...]:
    """The command of a change."""
    if change[0] == "add":
        more = ("--base-url", os.environ["WRITER_URL"], "--api-key-stdin", "--no-verify")
        return ("accounts", "add", "--provider", "anthropic", "--label", change[1], *more)
    return ("accounts", *change, *(("--yes",) if change[0] == "remove" else ()))


def told(command: tuple[str, ...], key: str) -> None:
    said = io.StringIO()
    sys.stdin = io.StringIO(f"{key}\n")
    with redirect_stdout(said), redirect_stderr(said):
        code = run(app, command)
    if code != 0:
        raise SystemExit(f"{command}: {code}: {said.getvalue()}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
