"""A line of stdin while the loop goes on, whatever stdin is."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from accounts.cli import pages, typed


@pytest.fixture(autouse=True)
def nothing_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "_waiting", bytearray())


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, int]]:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stream:
        yield stream, write_end
        os.close(write_end)


async def test_lines_come_one_by_one_however_they_are_cut(pipe: tuple[TextIO, int]) -> None:
    stream, write_end = pipe
    os.write(write_end, b"one\r\ntwo\nth")
    assert [await typed.line(stream), await typed.line(stream)] == ["one", "two"]
    reading = asyncio.create_task(typed.line(stream))
    await asyncio.sleep(0.01)
    assert not reading.done()
    os.write(write_end, b"ree\n")
    assert await reading == "three"


async def test_the_end_is_told_apart_from_an_empty_line(tmp_path: Path) -> None:
    for text, lines in (("", []), ("\n", [""]), ("a\nb", ["a", "b"])):
        file = tmp_path / "stdin"
        file.write_text(text)
        with file.open() as stream:
            assert [line async for line in every(stream)] == lines
        assert [line async for line in every(io.StringIO(text))] == lines
    with open(os.devnull) as stream:
        assert await typed.line(stream) is None


async def every(stream: TextIO):  # type: ignore[no-untyped-def]
    while (found := await typed.line(stream)) is not None:
        yield found


async def test_a_line_without_an_end_is_not_read_for_ever() -> None:
    with open("/dev/zero") as stream:
        assert await typed.line(stream) is not None


async def test_whoever_stops_waiting_leaves_the_line_to_the_next(pipe: tuple[TextIO, int]) -> None:
    stream, write_end = pipe
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await typed.line(stream)
    os.write(write_end, b"later\n")
    assert await typed.line(stream) == "later"


async def test_a_loop_that_cannot_watch_stdin_reads_it_beside(
    pipe: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise NotImplementedError

    stream, write_end = pipe
    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", cannot)
    reading = asyncio.create_task(typed.line(stream))
    await asyncio.sleep(0.01)
    assert not reading.done()
    os.write(write_end, b"one\n")
    assert await reading == "one"


@pytest.mark.parametrize(
    ("platform", "variables", "has"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"BROWSER": "lynx"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_no_browser_takes_the_terminal_over_unasked(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], has: bool
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert pages.has_windows() is has
