"""The mark that every planted secret carries, and the search for it in what a test has written.

Every secret of a test holds `sk-fake`: `"sk-fake-of-somebody"`. After each test its output, its log and the files it
left are searched for that, also as base64, hex, percent-encoded and in two bytes a letter (`tests/faults/watch.py`).
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "sk-fake"

BELONGS = re.compile(r"config\.toml|.*\.(key|env|secret)|\.env|(env|key|secret)[-_.].*")
"""Names of files in which a person, here a test, has put a secret: nobody else may have one."""

MAX_FILE = 32 << 20
"""Bytes of a file that are searched."""


def spellings(mark: bytes) -> Iterator[bytes]:
    """Every way in which a text that holds `mark` may have been written down."""
    yield mark
    yield mark.hex().encode()
    yield mark.hex().upper().encode()
    yield b"".join(b"%%%02X" % byte for byte in mark)
    yield mark.decode().encode("utf-16-le")
    for before in range(3):  # base64 depends on what stands before it
        whole = base64.b64encode(bytes(before) + mark)
        yield whole[(before * 8 + 5) // 6 : (before + len(mark)) * 8 // 6]


PLANTED = tuple(spellings(MARK.encode()))


def place_of(raw: bytes) -> int | None:
    """Where the mark is in some bytes; None where it is not."""
    return next((raw.find(each) for each in PLANTED if each in raw), None)  # ten times as fast as one pattern for all


def found_in_text(texts: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Where the mark is in some named texts, each with what stands round it."""
    found = []
    for name, text in texts:
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        if (place := place_of(raw)) is not None:
            found.append(f"{name}: {raw[max(0, place - 60) : place + 40]!r}")
    return found


def found_in_folder(folder: Path) -> list[str]:
    """Where the mark is in the files under a folder and in their names, those left out where it belongs."""
    found: list[str] = []
    for at, folders, files in os.walk(folder):
        found += found_in_text((f"the name of {name!r}", name) for name in (*folders, *files))
        for name in files:
            path = Path(at, name)
            if not BELONGS.fullmatch(name) and path.is_file() and not path.is_symlink():
                found += found_in_text([(str(path.relative_to(folder)), _read(path))])
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except OSError:
        return b""
