"""`proxy accounts import`"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import passphrase
from accounts.cli.consent import sealed_client
from accounts.cli.flags import Exit, NoInput, PassphraseStdin, Ports
from accounts.cli.identity import new_id
from accounts.cli.text import repeatable
from accounts.exits import Trouble
from accounts.model import Account, Entry, OAuthGrant, Secret
from accounts.transfer import READERS
from accounts.transfer.formats import Contents, NotImportable, Reader, Unseal, reader_for
from accounts.transfer.merge import Merged, merge

EXAMPLES = """Examples:

```
proxy accounts import backup.sealed
proxy accounts import backup.sealed --passphrase-stdin < passphrase.txt
proxy accounts import accounts.json
```"""

SIZE_LIMIT = 64 * 2**20
STORE_MARK = b'{"format":"multi-claude-proxy/accounts",'
ADVICE = "use --passphrase-stdin, or set MCP_PROXY_EXPORT_PASSPHRASE"


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(name="import", help_epilogue=EXAMPLES)
    def import_accounts(
        file: Annotated[Path, Parameter(help="The file with the accounts.")],
        /,
        *,
        passphrase_stdin: PassphraseStdin = False,
        no_input: NoInput = False,
    ) -> int:
        """Bring accounts from a file into the store.

        The file is an export, or an accounts.json of antigravity-claude-proxy or an older multi-claude-proxy.

        The same account (its id, or its provider, label and credential) is replaced; every other one is added,
        with a new label where its own is in use. The passphrase of an export is asked for, read from stdin, or
        taken from MCP_PROXY_EXPORT_PASSPHRASE.

        Exit status: 0; 2 where the file cannot be read; 3 where it holds no account that can be used here; 7 where
        it is damaged; 8 where the passphrase is another.
        """
        terminal = ports.terminal.asking_unless(no_input)
        content = read(file)
        reader = in_file(file, content)

        def secret() -> Secret:
            return passphrase.given(terminal, passphrase_stdin, ports.export_passphrase(), ADVICE)

        contents = usable(reader.read(content, unsealer(file, secret)), ports)
        merged = store(ports, contents.entries)
        added, replaced = len(merged.added), len(merged.replaced)
        terminal.show(f"Imported {counted(added + replaced)}: {added} added, {replaced} replaced.")
        for name in merged.added:
            terminal.show(f"  added {name}")
        for name in merged.replaced:
            terminal.show(f"  replaced {name}")
        if contents.left_out:
            terminal.show(f"Left out {counted(len(contents.left_out))}:")
        for line in contents.left_out:
            terminal.show(f"  {line}")
        if reader.plain:
            terminal.show(f"{file} still shows its credentials to whoever opens it: delete it once you are content.")
        return Exit.OK if contents.entries or not contents.left_out else Exit.NOTHING


def counted(number: int) -> str:
    """So many accounts, in words."""
    return "1 account" if number == 1 else f"{number} accounts"


def usable(contents: Contents, ports: Ports) -> Contents:
    """What is of a provider that there is; the others are left out, and that is said."""
    entries, left_out = [], list(contents.left_out)
    for entry in contents.entries:
        if entry.account.provider in ports.providers:
            entries.append(entry)
        else:
            left_out.append(f"{entry.account.label}: no provider here is called {repeatable(entry.account.provider)}")
    return Contents(tuple(entries), tuple(left_out))


def read(file: Path) -> bytes:
    """The file's content. Raises Trouble."""
    try:
        with file.open("rb") as opened:
            content = opened.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise Trouble(f"{file} cannot be read: {error.strerror}", Exit.USAGE) from None
    if len(content) > SIZE_LIMIT:
        raise Trouble(f"{file} is larger than {SIZE_LIMIT // 2**20} MiB, which is no accounts file", Exit.USAGE)
    return content


def in_file(file: Path, content: bytes) -> Reader:
    """Who reads this file. Raises Trouble naming the file."""
    if content.startswith(STORE_MARK):
        raise Trouble(
            f"{file} is a sealed store, not an export: put it where the store belongs, with its key, or export from it",
            Exit.USAGE,
        )
    try:
        return reader_for(content, READERS)
    except NotImportable as error:
        raise Trouble(f"{file}: {error}", Exit.USAGE) from None


def unsealer(file: Path, passphrase: Callable[[], Secret]) -> Unseal:
    """Opens our own export; asks for the passphrase only once the file is known to be a whole one."""

    def unseal(content: bytes) -> bytes:
        from accounts.vault import seal
        from accounts.vault.errors import VaultError, WrongKey

        try:
            header = seal.read_header(content, seal.Format.EXPORT)
            if header.stretch is None:
                raise Trouble(f"{file} is not sealed with a passphrase", Exit.USAGE)
            key = seal.stretched(passphrase(), header.stretch)
            return seal.unseal(content, key, seal.Format.EXPORT)
        except WrongKey:
            raise WrongKey(f"the passphrase is not the one that {file} was sealed with") from None
        except VaultError as error:
            raise type(error)(f"{file} cannot be opened: {error}") from None

    return unseal


def store(ports: Ports, incoming: tuple[Entry, ...]) -> Merged:
    """Merge the accounts into the store, in one step. Raises VaultError."""
    outcome: list[Merged] = []
    taken = labels_by_provider(ports.extra_accounts())

    def decide(stored: tuple[Entry, ...]) -> tuple[Entry, ...]:
        whole = tuple(with_client(entry, ports, stored) for entry in incoming)
        outcome.append(merge(stored, whole, new_id, taken))
        return outcome[-1].entries

    ports.open_vault().edit(decide)
    return outcome[-1]


def with_client(entry: Entry, ports: Ports, stored: Sequence[Entry]) -> Entry:
    """A grant that names no client gets the one that the provider's other accounts are signed in with.

    Not where the settings hold one, which may change and then is changed for all.
    """
    grant, provider = entry.credential, entry.account.provider
    if not isinstance(grant, OAuthGrant) or grant.client is not None or ports.oauth_client(provider) is not None:
        return entry
    return replace(entry, credential=replace(grant, client=sealed_client(provider, stored)))


def labels_by_provider(accounts: Sequence[Account]) -> dict[str, set[str]]:
    """Which labels are in use."""
    labels: dict[str, set[str]] = {}
    for account in accounts:
        labels.setdefault(account.provider, set()).add(account.label)
    return labels
