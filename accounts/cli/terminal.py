"""The person in front of the program, or the script: data to stdout, talk to stderr, questions only to a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from accounts.cli.text import printable
from accounts.exits import Exit, Trouble
from accounts.model import Secret


@dataclass(frozen=True, slots=True)
class StandardTerminal:
    """The three standard streams, looked up when used.

    may_ask  False with `--no-input`: every question is an error instead
    """

    may_ask: bool = True

    @property
    def interactive(self) -> bool:
        """Whether somebody can be asked."""
        return self.may_ask and sys.stdin is not None and sys.stdin.isatty()

    @property
    def colourful(self) -> bool:
        """Whether the data goes to a person's eyes, who has not refused colours (no-color.org)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # a habit of terminals, not a setting of ours

    def asking_unless(self, no_input: bool) -> StandardTerminal:
        """The same terminal, which never asks if `no_input`."""
        return replace(self, may_ask=self.may_ask and not no_input)

    def show(self, line: str) -> None:
        """Tell the person one or more lines."""
        for part in line.split("\n"):
            _put(sys.stderr, printable(part) + "\n")

    def write(self, text: str) -> None:
        """Give out data, whole lines."""
        _put(sys.stdout, text)

    def ask(self, question: str) -> str:
        """What the person types after the question. Raises Trouble where nobody can be asked."""
        self._must_be_interactive(question)
        _put(sys.stderr, question)
        with _line_ended():
            line = sys.stdin.readline()
            if not line:
                raise Trouble("nothing was typed", Exit.USAGE)
        return line.strip()

    def ask_hidden(self, question: str) -> Secret:
        """What the person types, unseen. Raises Trouble where nobody can be asked."""
        import getpass

        self._must_be_interactive(question)
        with _line_ended():
            try:
                return Secret(getpass.getpass(question, stream=sys.stderr))
            except EOFError:
                raise Trouble("nothing was typed", Exit.USAGE) from None

    def confirm(self, question: str, yes: bool) -> bool:
        """Whether the person agrees. `yes` agrees without asking; without a terminal that is needed."""
        if yes:
            return True
        if not self.interactive:
            raise Trouble(f"{question} Confirm with --yes", Exit.USAGE)
        return self.ask(f"{question} [y/N] ").lower() in ("y", "yes")

    def choose(self, question: str, choices: Sequence[tuple[str, str]]) -> str:
        """The name of the choice that the person takes, by its number or name; asks until it is one.

        choices  name and description of each
        """
        self._must_be_interactive(question)
        for number, (name, title) in enumerate(choices, 1):
            self.show(f"{number:3}  {name:<22}{title}")
        while True:
            answer = self.ask(question)
            if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(choices):
                return choices[int(answer) - 1][0]
            if any(answer == name for name, _ in choices):
                return answer
            self.show(f"a number from 1 to {len(choices)}, or a name")

    def read_secret(self, what: str) -> Secret:
        """One line of stdin, without its end. Raises Trouble where there is none."""
        try:
            line = sys.stdin.readline() if sys.stdin is not None else ""
        except UnicodeDecodeError:
            raise Trouble(f"the {what} on stdin is not UTF-8 text", Exit.USAGE) from None
        text = line.rstrip("\r\n")
        if not text.strip():
            raise Trouble(f"no {what} on stdin", Exit.USAGE)
        return Secret(text)

    async def pasted(self, question: str) -> str | None:
        """The next line of stdin, without blocking the loop; None where none will come, or nobody may be asked.

        Several may be asked for, one after the other; whoever stops waiting leaves nothing behind.
        """
        from asyncio import CancelledError

        from accounts.cli import typed

        if sys.stdin is None or (sys.stdin.isatty() and not self.may_ask):
            return None
        if not self.interactive:
            return await typed.line(sys.stdin)
        _put(sys.stderr, question)
        try:
            return await typed.line(sys.stdin)
        except CancelledError:
            _put(sys.stderr, "\n")  # nobody ended the line that the question stands on
            raise

    def _must_be_interactive(self, question: str) -> None:
        if not self.interactive:
            raise Trouble(f"cannot ask here: {question.strip(' :')}", Exit.USAGE)


@contextlib.contextmanager
def _line_ended() -> Iterator[None]:
    """Where a question is broken off, nobody has ended the line that it stands on."""
    try:
        yield
    except (Trouble, KeyboardInterrupt):
        _put(sys.stderr, "\n")
        raise


def _put(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
