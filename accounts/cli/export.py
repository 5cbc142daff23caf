"""`proxy accounts export`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from accounts.cli import passphrase
from accounts.cli.flags import Exit, NoInput, PassphraseStdin, Ports, Yes
from accounts.exits import Trouble
from accounts.model import Secret
from accounts.transfer import export as transfer

EXAMPLES = """Examples:

```
proxy accounts export backup.sealed
proxy accounts export backup.sealed --yes --passphrase-stdin < passphrase.txt
```"""

ADVICE = "use --passphrase-stdin, or set MCP_PROXY_EXPORT_PASSPHRASE"


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def export(
        file: Annotated[Path, Parameter(help="The file to write.")],
        /,
        *,
        passphrase_stdin: PassphraseStdin = False,
        yes: Yes = False,
        no_input: NoInput = False,
    ) -> int:
        """Write all stored accounts with their credentials to a sealed file.

        The passphrase is asked for, read from stdin, or taken from MCP_PROXY_EXPORT_PASSPHRASE. An existing
        file is replaced only if you confirm. `proxy accounts import` reads the file, here or elsewhere.

        Exit status: 0; 1 where you decided against it or the file cannot be written; 2 usage; 3 where there is
        nothing to export.
        """
        terminal = ports.terminal.asking_unless(no_input)
        vault = ports.open_vault()
        entries = vault.entries()
        if not entries:
            raise Trouble("no accounts are stored; nothing was written", Exit.NOTHING)
        if file.exists() and not terminal.confirm(f"{file} exists. Replace it?", yes):
            terminal.show("Nothing written.")
            return Exit.FAILED
        secret = passphrase.chosen(terminal, passphrase_stdin, ports.export_passphrase(), ADVICE)
        write(file, sealed(transfer.written(entries), secret, ports))
        terminal.show(f"Wrote {len(entries)} accounts to {file}, sealed with the passphrase.")
        return Exit.OK


def sealed(plain: bytes, secret: Secret, ports: Ports) -> bytes:
    """The content of the file."""
    from accounts.vault import seal

    stretch = seal.new_stretch(ports.open_vault().sources.cost)
    key = seal.stretched(secret, stretch)
    header = seal.header_for(key, seal.KeySource.PASSPHRASE, 1, stretch, seal.Format.EXPORT)
    return seal.seal(plain, key, header)


def write(file: Path, content: bytes) -> None:
    """Write the whole file or none of it, readable by its owner only. Raises Trouble."""
    from accounts.vault.files import SYSTEM, write_atomically

    if file.is_dir():
        raise Trouble(f"{file} is a folder; name a file", Exit.USAGE)
    try:
        write_atomically(SYSTEM, file, content)
    except OSError as error:
        raise Trouble(f"{file} cannot be written: {error.strerror}", Exit.FAILED) from None
