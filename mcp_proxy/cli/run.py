"""From a command line to an exit code: known trouble is a line or two on stderr, never a traceback."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, UnknownCommandError, UnusedCliTokensError

from accounts.exits import Exit

SECRET_LENGTH = 12
"""A mistyped word at least this long may be a key pasted in the wrong place; it is not repeated."""


def run(app: App, words: Sequence[str]) -> int:
    """Run a command line; `words` are what stands after the program's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a label that this terminal cannot show is no reason to fail
    try:
        result = app(list(words), result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _told(f"{_usage(error, words)}\nSee: {_where(error)} --help", Exit.USAGE)
    except KeyboardInterrupt:
        return _told("interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:
        _close_quietly()
        return Exit.FAILED
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else Exit.OK if ending.code is None else Exit.FAILED
    except Exception as error:
        return _explained(error)
    return result if isinstance(result, int) else Exit.OK


def _explained(error: Exception) -> int:
    """What went wrong, as far as a person can use it."""
    if _debugging():
        traceback.print_exception(error)
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return _told(str(error), code)
    if "accounts.cli.errors" in sys.modules:
        from accounts.cli.errors import explain

        if known := explain(error):
            return _told(*known)
    # The text of an unforeseen exception may hold anything, a header with a key among it.
    hint = "" if _debugging() else "; run with DEBUG=1 for the traceback"
    return _told(f"internal error: {type(error).__name__}{_place(error)}{hint}", Exit.FAILED)


def _place(error: Exception) -> str:
    """The innermost line of ours that it passed through."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parts[-3:-1] and {"mcp_proxy", "accounts"} & set(Path(frame.filename).parts)
    ]
    return f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _usage(error: CycloptsError, words: Sequence[str]) -> str:
    """What is wrong with a command line, without the words that could be secrets."""
    if isinstance(error, UnknownCommandError) and error.app is not None and error.unused_tokens:
        # cyclopts' own text would import every command to list them.
        typed, names = error.unused_tokens[0], [name for name in error.app if not name.startswith("-")]
        near = difflib.get_close_matches(typed, names, n=1)
        message = f'there is no command "{typed}"' + (f'; did you mean "{near[0]}"?' if near else "")
    elif isinstance(error, UnusedCliTokensError):
        if provider := _provider_in(words):
            return f"there is a word too many: did you mean --provider {provider}?"
        message = "there is a word too many"
        if words[0] == "accounts":
            message += ". A key is never given on the command line"
    else:
        message = " ".join(str(error).split())
    for word in words:
        value = word.partition("=")[2] if word.startswith("-") else word
        if len(value) >= SECRET_LENGTH:
            message = message.replace(value, "…")
    return message


def _provider_in(words: Sequence[str]) -> str | None:
    """The provider that was named without its flag, by a command that has one."""
    from mcp_proxy.settings import PROVIDERS

    named = tuple(words[:2]) in (("accounts", "add"), ("accounts", "list")) or words[0] in ("usage", "reset")
    if not named or "--provider" in words:
        return None
    return next((word for word in words if word in PROVIDERS), None)


def _where(error: CycloptsError) -> str:
    return " ".join(("proxy", *(error.command_chain or ())))


def _told(message: str, code: int) -> int:
    if message:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"proxy: {message}\n")
    return int(code)


def _close_quietly() -> None:
    """Whoever read our output has left; the interpreter shall not complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _debugging() -> bool:
    from mcp_proxy.settings import debug_wanted

    return debug_wanted()
