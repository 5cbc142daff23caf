"""What the commands need of the rest of the program, handed in by whoever builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accounts.cli import pages
from accounts.cli.terminal import StandardTerminal
from accounts.model import Account, AccountId, ClaudeCodeLogin, Credential, Entry, OAuthClient, Secret, SignIn, Verdict

if TYPE_CHECKING:
    from accounts.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider as the commands see it.

    base_url        its own address; None where an account must name one
    needs_base_url  whether an account must name one
    """

    name: str
    title: str
    sign_in: SignIn
    needs_base_url: bool = False
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the server last knew of an account.

    status     ok, soft_limited, rate_limited or unknown
    limits     the limits in force, a line each
    last_used  ISO 8601 with its zone; None: never, or not known
    """

    status: str
    limits: tuple[str, ...] = ()
    last_used: str | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside that the commands use.

    verify             asks the provider whether a credential works; blocks, spends no tokens
    limits             a snapshot from disk; empty where no server ever ran
    server_running     whether a server is using the store
    extra_entries      accounts that the config file describes: shown and verified, never changed here
    now                unix seconds
    export_passphrase  the text of MCP_PROXY_EXPORT_PASSPHRASE; None where it is not set
    recipe             how a provider is signed in to, its addresses replaced where settings say so
    oauth_client       the OAuth client that settings name for a provider; None where they name none, or half of one
    refresh            mints a new token and stores it; blocks. None: done, else why not
    address            where an account is asked, with what settings say; None where they say nothing of it
    claude_login       where Claude Code keeps its user's login here; None where there is none
    open_page          shows a web page to the person; returns at once
    """

    open_vault: Callable[[], Vault]
    providers: Mapping[str, ProviderInfo]
    verify: Callable[[Account, Credential], Verdict]
    limits: Callable[[], Mapping[AccountId, AccountState]]
    server_running: Callable[[], bool]
    extra_entries: Callable[[], tuple[Entry, ...]]
    now: Callable[[], float]
    terminal: StandardTerminal = field(default_factory=StandardTerminal)
    export_passphrase: Callable[[], Secret | None] = lambda: None
    recipe: Callable[[ProviderInfo], SignIn] = lambda provider: provider.sign_in
    oauth_client: Callable[[str], OAuthClient | None] = lambda _: None
    refresh: Callable[[Account, Credential], str | None] = lambda *_: "tokens are not renewed here"
    address: Callable[[Account], str | None] = lambda account: account.base_url
    claude_login: Callable[[], ClaudeCodeLogin | None] = lambda: None
    open_page: Callable[[str], None] = pages.open_page

    def extra_accounts(self) -> tuple[Account, ...]:
        """The accounts of the config file, without their credentials."""
        return tuple(entry.account for entry in self.extra_entries())
