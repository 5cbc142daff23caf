"""`proxy accounts rekey`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from accounts.cli import passphrase
from accounts.cli.flags import Exit, Flag, NoInput, Ports
from accounts.model import Secret

if TYPE_CHECKING:
    from accounts.cli.terminal import StandardTerminal
    from accounts.vault.seal import KeySource
    from accounts.vault.vault import Vault

EXAMPLES = """Examples:

```
proxy accounts rekey --to keychain
proxy accounts rekey --to file
proxy accounts rekey --to passphrase
export MCP_PROXY_VAULT_KEY=…   # 32 bytes in base64, kept where the server gets it too
proxy accounts rekey --to env
```"""


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def rekey(
        *,
        to: Annotated[
            Literal["file", "keychain", "passphrase", "env"], Parameter(help="Where the new key shall be kept.")
        ],
        passphrase_stdin: Annotated[
            Flag, Parameter(help="Read the new passphrase, or with --to env the new key, from one line of stdin.")
        ] = False,
        no_input: NoInput = False,
    ) -> int:
        """Seal the store and its backup with a new key.

        Safe to interrupt: the old or the new key opens what is there.

        file: a new key in the key file. keychain: a new key in the system's keychain (needs the `keyring` extra).
        passphrase: MCP_PROXY_VAULT_PASSPHRASE, or asked for. env: the key in MCP_PROXY_VAULT_KEY. An old key in
        the key file or the keychain is deleted at the end.

        Exit status: 0; 2 usage; 7 where a running server could not read the new key, or the keychain keeps
        nothing; 8 where the store cannot be opened.
        """
        from accounts.vault.errors import ServerRunning
        from accounts.vault.seal import KeySource

        target = KeySource(to)
        if target in (KeySource.ENV, KeySource.PASSPHRASE) and ports.server_running():
            raise ServerRunning(
                "a running server could not read the new key: its environment was set when it started.\nStop it first"
            )
        vault = ports.open_vault()
        terminal = ports.terminal.asking_unless(no_input)
        before = vault.key_source() if vault.generation() else None
        vault.rekey(target, new_secret(target, vault, terminal, passphrase_stdin))
        terminal.show(told(target))
        if before in (KeySource.FILE, KeySource.KEYCHAIN):
            terminal.show("The old key is deleted: no other copy that was sealed with it can be opened any more.")
        return Exit.OK


def new_secret(target: KeySource, vault: Vault, terminal: StandardTerminal, from_stdin: bool) -> Secret | None:
    """The new passphrase or key, where a person brings it; None where we make it. Raises Trouble.

    What the environment holds is taken, unless it is what opens the store now.
    """
    from accounts.vault.seal import KeySource

    if target not in (KeySource.ENV, KeySource.PASSPHRASE):
        return None
    sources = vault.sources
    held, variable = (
        (sources.key, "MCP_PROXY_VAULT_KEY")
        if target is KeySource.ENV
        else (sources.passphrase, "MCP_PROXY_VAULT_PASSPHRASE")
    )
    fresh = held if vault.key_source() is not target or vault.generation() == 0 else None
    return passphrase.chosen(terminal, from_stdin, fresh, f"set {variable}, or use --passphrase-stdin")


def told(target: KeySource) -> str:
    """What the person has to know now."""
    return {
        "file": "The store is sealed with a new key in the key file.",
        "keychain": "The store is sealed with a new key in the system's keychain.",
        "passphrase": "The store is sealed with the new passphrase: set MCP_PROXY_VAULT_PASSPHRASE to it from now on.",
        "env": "The store is sealed with the new key: set MCP_PROXY_VAULT_KEY to it from now on.",
    }[target]
