"""Which account a person means: by id, by label, or by `provider/label`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accounts.cli.text import repeatable
from accounts.exits import Exit, Trouble
from accounts.model import Account, Entry

if TYPE_CHECKING:
    from accounts.cli.ports import Ports


def find(name: str, accounts: Sequence[Account]) -> Account:
    """The one account with this name. Raises Trouble where there is none, or more than one."""
    matches = [account for account in accounts if name in (account.id, account.label, account.name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(f"{account.name} (id {account.id})" for account in matches)
        raise Trouble(f"{name} could be any of: {listed}", Exit.USAGE)
    raise Trouble(f"no account is called {repeatable(name)}{_suggestion(name, accounts)}", Exit.NOTHING)


def entry(name: str, entries: Sequence[Entry]) -> Entry:
    """The one account with this name, with its credential. Raises Trouble as `find` does."""
    account = find(name, [entry.account for entry in entries])
    return next(entry for entry in entries if entry.account is account)


def stored(name: str, entries: Sequence[Entry], ports: Ports) -> Entry:
    """The one stored account with this name. Raises Trouble as `find` does, and for one of the config file."""
    account = find(name, [*(entry.account for entry in entries), *ports.extra_accounts()])
    for entry in entries:
        if entry.account is account:
            return entry
    raise Trouble(f"{account.name} is set in the config file: change it there", Exit.USAGE)


def _suggestion(name: str, accounts: Sequence[Account]) -> str:
    if not accounts:
        return "; there are none yet: proxy accounts add"
    known = {word: account.name for account in accounts for word in (account.id, account.label, account.name)}
    near = dict.fromkeys(known[word] for word in difflib.get_close_matches(name, known, n=3))
    return f"; did you mean {' or '.join(near)}?" if near else "; see: proxy accounts list"
