"""Real processes: killed in the middle of writing, and writing at the same time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from accounts.model import AccountId
from tests.accounts.kit import REPOSITORY, entry, filled, leftovers, vault_in


def writer(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.accounts.vault.writer", str(home), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def killed_rounds(home: Path, rounds: int, writes: int, longest: float) -> None:
    """Kill a writer at a random moment, again and again; nothing it acknowledged may be lost."""
    chance = random.Random(20261120)
    filled(vault_in(home), [entry(1), entry(2)])
    for number in range(rounds):
        with writer(home, "change", str(writes)) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(chance.uniform(0, longest))
            child.kill()
            acknowledged = [int(line) for line in (first + child.stdout.read()).split("\n")[:-1] if line]
        changed, untouched = vault_in(home).entries()
        assert changed.account.tier in (acknowledged[-1], acknowledged[-1] + 1), f"round {number}"
        assert untouched == entry(2)
        vault_in(home).edit(lambda entries: entries)
        assert leftovers(home) == []


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    killed_rounds(tmp_path, rounds=4, writes=1000, longest=0.08)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_killed_writers_lose_nothing_they_acknowledged(tmp_path: Path) -> None:
    killed_rounds(tmp_path, rounds=100, writes=1000, longest=1.5)


def crowd(home: Path, each: int) -> None:
    """Two command lines add accounts while a third writer, in this process, changes one over and over."""
    vault = filled(vault_in(home), [entry(1), entry(2)])
    children = [writer(home, "add", str(first), str(each)) for first in (1000, 2000)]
    changes = 0
    while any(child.poll() is None for child in children):
        changes += 1
        vault.change(AccountId("id0001"), partial(replace, tier=changes))
    said: set[str] = set()
    for child in children:
        assert child.stdout is not None
        said |= set(child.stdout.read().split())
        child.stdout.close()
        assert child.wait() == 0
    assert len(said) == 2 * each
    stored = {one.account.label: one for one in vault_in(home).entries()}
    assert set(stored) == {"label-1", "label-2", *(f"cli-{number}" for number in said)}
    assert stored["label-1"].account.tier == changes
    assert stored["label-2"] == entry(2)


@pytest.mark.slow
def test_two_command_lines_and_a_server_store_together_and_lose_nothing(tmp_path: Path) -> None:
    crowd(tmp_path, each=8)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_long_crowd_loses_nothing(tmp_path: Path) -> None:
    crowd(tmp_path, each=300)
