"""Signing in on a provider's page, from the command line: terms, OAuth client, browser or paste."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accounts.cli.ports import Ports, ProviderInfo
from accounts.cli.terminal import StandardTerminal
from accounts.exits import Exit, Trouble
from accounts.model import BrowserSignIn, Entry, OAuthClient, OAuthGrant, Secret

if TYPE_CHECKING:
    from accounts.sign_in.browser import SignedIn


def consented(
    ports: Ports,
    terminal: StandardTerminal,
    provider: ProviderInfo,
    recipe: BrowserSignIn,
    stored: Sequence[Entry],
    *,
    yes: bool,
    browse: bool,
) -> SignedIn:
    """A person's consent, and who it is. Raises Trouble."""
    client = ports.oauth_client(provider.name) or sealed_client(provider.name, stored)
    if client is None and not terminal.interactive:
        raise Trouble(missing(provider, recipe), Exit.USAGE)
    agree(terminal, recipe.terms, yes)
    client = client or asked_client(terminal, provider, recipe)

    from accounts.sign_in import browser  # loads Authlib and an HTTP client

    opener = ports.open_page if browse else None
    return asyncio.run(browser.sign_in(recipe, provider.title, client, terminal, ports.now, open_page=opener))


def agree(terminal: StandardTerminal, terms: str | None, yes: bool) -> None:
    """Have the person agree to what the provider's terms forbid. Raises Trouble where that is not done."""
    if terms is None:
        return
    terminal.show(terms)
    if not terminal.confirm("Go on all the same?", yes):
        raise Trouble("you decided against it; nothing was stored", Exit.FAILED)


def sealed_client(provider: str, stored: Sequence[Entry]) -> OAuthClient | None:
    """The client that another account of the provider was signed in with."""
    for entry in stored:
        if entry.account.provider == provider and isinstance(entry.credential, OAuthGrant) and entry.credential.client:
            return entry.credential.client
    return None


def asked_client(terminal: StandardTerminal, provider: ProviderInfo, recipe: BrowserSignIn) -> OAuthClient:
    """The client as the person types it; it is sealed in the store with the grant. Raises Trouble."""
    terminal.show(f"{provider.title} has to know which OAuth client asks. It is sealed in the store with the sign-in.")
    if recipe.client_names:
        terminal.show(f"Whoever sets {' and '.join(recipe.client_names)} is not asked for it.")
    client = terminal.ask("OAuth client id: ")
    secret = terminal.ask_hidden("OAuth client secret (not shown): ").reveal().strip()
    if not all(text and text.isascii() and text.isprintable() and " " not in text for text in (client, secret)):
        raise Trouble("an OAuth client has an id and a secret, without spaces; nothing was stored", Exit.USAGE)
    return OAuthClient(client, Secret(secret))


def missing(provider: ProviderInfo, recipe: BrowserSignIn) -> str:
    """The two lines about a client that nobody named."""
    names = " and ".join(recipe.client_names or ("its id", "its secret"))
    return (
        f"{provider.name} is signed in to with an OAuth client of your own, and none is set here or stored.\n"
        f"Set {names}, or run this in a terminal to be asked for them"
    )
