"""Known trouble becomes one or two lines on stderr and an exit code; anything else stays a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accounts.cli.text import SECRET_LENGTH, printable
from accounts.exits import Exit, Trouble
from accounts.sign_in.api_key import BadKey
from accounts.transfer.formats import NotImportable
from accounts.vault.errors import VaultError

if TYPE_CHECKING:
    from cyclopts import App


def explain(error: BaseException) -> tuple[str, int] | None:
    """The line or two for a person and the exit code; None for an error nobody foresaw.

    An empty message means that there is nothing to say.
    """
    if isinstance(error, Trouble):
        return str(error), error.exit_code
    if isinstance(error, VaultError):
        return str(error), error.exit_code
    if isinstance(error, BadKey | NotImportable):
        return str(error), Exit.USAGE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return "", Exit.FAILED
    return None


def run(app: App, words: Sequence[str]) -> int:
    """Run a command line and say what to exit with. Known trouble is told on stderr.

    `words` are the arguments after the program's name. Errors nobody foresaw are raised.
    """
    from cyclopts import CycloptsError

    try:
        result = app(words, result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _told(usage_message(error, words), Exit.USAGE)
    except SystemExit as ending:
        # cyclopts turns Ctrl-C into this
        code = ending.code if isinstance(ending.code, int) else Exit.FAILED
        return _told("interrupted" if code == Exit.INTERRUPTED else "", code)
    except BaseException as error:
        explained = explain(error)
        if explained is None:
            raise
        if isinstance(error, BrokenPipeError):
            sys.stdout = None  # or the interpreter flushes into the closed pipe at its end
        return _told(*explained)
    return result if isinstance(result, int) else Exit.OK


def usage_message(error: Exception, words: Sequence[str]) -> str:
    """What cyclopts says of a command line, without the words that could be secrets."""
    from cyclopts import UnusedCliTokensError

    message = " ".join(str(error).split())
    if isinstance(error, UnusedCliTokensError):
        message = "there is a word too many. A key is never given on the command line: see --help"
    for word in words:
        value = word.partition("=")[2] if word.startswith("-") else word
        if len(value) >= SECRET_LENGTH:
            message = message.replace(value, "…")
    return message


def _told(message: str, code: int) -> int:
    for number, line in enumerate(message.splitlines()):
        print(f"{'       ' if number else 'error: '}{printable(line)}", file=sys.stderr)  # noqa: T201 - told here only
    return code
