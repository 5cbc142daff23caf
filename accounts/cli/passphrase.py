"""Where the passphrase of an export, or of a store, comes from: stdin, the environment, or the person."""

from __future__ import annotations

from accounts.cli.terminal import StandardTerminal
from accounts.exits import Exit, Trouble
from accounts.model import Secret


def given(terminal: StandardTerminal, from_stdin: bool, from_environment: Secret | None, advice: str) -> Secret:
    """The passphrase of something that exists. Raises Trouble with the advice where nobody can be asked."""
    if from_stdin:
        return terminal.read_secret("passphrase")
    if from_environment is not None:
        return _not_empty(from_environment)
    if not terminal.interactive:
        raise Trouble(f"cannot ask for the passphrase here: {advice}", Exit.USAGE)
    return _not_empty(terminal.ask_hidden("Passphrase (not shown): "))


def chosen(terminal: StandardTerminal, from_stdin: bool, from_environment: Secret | None, advice: str) -> Secret:
    """A new passphrase: a person types it twice. Raises Trouble."""
    first = given(terminal, from_stdin, from_environment, advice)
    if from_stdin or from_environment is not None:
        return first
    if terminal.ask_hidden("The same again: ") != first:
        raise Trouble("the two passphrases differ; nothing was changed", Exit.USAGE)
    return first


def _not_empty(passphrase: Secret) -> Secret:
    if not passphrase.reveal().strip():
        raise Trouble("the passphrase is empty", Exit.USAGE)
    return passphrase
