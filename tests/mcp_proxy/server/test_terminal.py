"""Whether a terminal was closed a moment ago."""

from __future__ import annotations

import signal

import pytest

from mcp_proxy.server import serving, terminal
from mcp_proxy.server.serving import Server
from mcp_proxy.server.terminal import Terminal
from tests.mcp_proxy.gateway.kit import until


class Tty:
    """A terminal that is there or not, whatever the tests run in."""

    there = True


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    made = Tty()
    monkeypatch.setattr(terminal, "attached", lambda: made.there)
    return made


def test_one_that_is_there_is_not_closed(tty: Tty) -> None:
    assert not Terminal().closed()


def test_one_that_was_never_there_is_not_closed(tty: Tty) -> None:
    tty.there = False
    at = Terminal()
    assert not at.closed()
    at.look()
    assert not at.closed()


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_one_that_has_just_gone_is_closed(tty: Tty, looks: int) -> None:
    at = Terminal()
    at.look()
    tty.there = False
    for _ in range(looks):
        at.look()
    assert at.closed()


def test_one_that_went_long_ago_without_a_signal_was_left_on_purpose(tty: Tty) -> None:
    """As after the shell's `disown`: what comes now comes from somebody else."""
    at = Terminal()
    tty.there = False
    for _ in range(5):
        at.look()
    assert not at.closed()


async def test_a_hangup_is_a_wish_unless_the_terminal_went_and_other_signals_end(tty: Tty) -> None:
    server = serving.make_server(None, lambda: None, 5.0)  # type: ignore[arg-type]
    wishes: list[str] = []
    server.reload = lambda: wishes.append("reload")
    server.handle_exit(signal.SIGHUP, None)
    await until(lambda: wishes)
    assert not server.should_exit
    tty.there = False
    await told(server, signal.SIGHUP)
    assert wishes == ["reload"]


async def test_without_anybody_to_reload_a_hangup_ends(tty: Tty) -> None:
    await told(serving.make_server(None, lambda: None, 5.0), signal.SIGHUP)  # type: ignore[arg-type]


async def told(server: Server, number: int) -> None:
    ended: list[int] = []
    server._told = ended.append  # type: ignore[method-assign]
    server.handle_exit(number, None)
    await until(lambda: ended == [number])
