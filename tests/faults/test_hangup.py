"""SIGHUP: from a terminal that is closed it ends the server, from anybody else it makes it read its settings."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.process import PROXY, closed_to, served, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    (made / "config.toml").write_text('[log]\nlevel = "info"\n')
    return made


class Window:
    """A terminal: whoever calls `take` in a new process has it as its own, until it is closed."""

    def __init__(self) -> None:
        self._here, self._there = pty.openpty()
        self._open = [self._here, self._there]

    def take(self) -> None:
        os.setsid()
        fcntl.ioctl(self._there, termios.TIOCSCTTY, 0)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


@pytest.fixture
def window() -> Iterator[Window]:
    made = Window()
    yield made
    made.close()


async def test_a_signal_reloads_and_a_closed_terminal_ends(home: Path, window: Window) -> None:
    async with served(home, limits=window.take) as running:
        (home / "config.toml").write_text('[log]\nlevel = "warn"\n[server]\nidle_timeout_sec = 9\n')
        running.signal(signal.SIGHUP)
        await until(lambda: running.said("needs_restart=server.idle_timeout_sec"))
        assert running.popen.poll() is None and not closed_to(running.port)
        (home / "config.toml").write_text('[log]\nlevel = "info"\n[server]\nidle_timeout_sec = 9\n')
        running.signal(signal.SIGHUP)
        await until(lambda: len(running.said("settings reloaded")) == 2)
        (home / "config.toml").write_text("[log\n")
        running.signal(signal.SIGHUP)
        await until(lambda: running.said("old ones stay in force"))
        assert (await running.client.get("/livez")).status_code == 200
        window.close()
        assert await running.ended() == 0
        assert running.tracebacks() == []


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["sh", "bash"])
async def test_a_terminal_that_closes_over_a_shell_ends_what_it_runs(home: Path, window: Window, shell: str) -> None:
    program = (shell, "-c", '"$0" "$@"; true', *PROXY)
    async with served(home, limits=window.take, program=program) as running:
        window.close()
        await until(lambda: closed_to(running.port) and running.said("stopped"))
        assert running.tracebacks() == []


@pytest.mark.slow
async def test_without_a_terminal_every_hangup_is_a_wish_to_reload(home: Path) -> None:
    async with served(home, limits=os.setsid) as running:
        for count in (1, 2):
            running.signal(signal.SIGHUP)
            await until(lambda count=count: len(running.said("settings reloaded")) == count)  # type: ignore[misc]
        assert running.popen.poll() is None
