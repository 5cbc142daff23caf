"""Sign in on the provider's own page (RFC 6749, 4.1, with PKCE); the answer comes by the browser or by a paste."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from accounts.exits import Exit, Trouble
from accounts.model import BrowserSignIn, OAuthClient, OAuthGrant
from accounts.sign_in import tokens
from accounts.sign_in.callback import Answer, Denied, Unusable, of_paste
from accounts.sign_in.listener import listening
from accounts.sign_in.terminal import Paster

PATIENCE = 300.0
"""Seconds until nobody is waited for any more."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in brings: a person's consent, and who that person is."""

    grant: OAuthGrant
    email: str


async def sign_in(
    recipe: BrowserSignIn,
    title: str,
    client: OAuthClient,
    person: Paster,
    now: Callable[[], float],
    *,
    open_page: Callable[[str], None] | None,
    patience: float = PATIENCE,
) -> SignedIn:
    """Take a person through the provider's page. Raises Trouble.

    title      what the provider is called
    now        unix seconds
    open_page  opens the page for the person; None: no browser here, so the answer can only be pasted
    """
    state, verifier = secrets.token_hex(16), secrets.token_urlsafe(32)
    found: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as stack:
        port = recipe.port
        if open_page is not None:
            port = await stack.enter_async_context(listening(port, recipe.path, state, found))
        redirect = f"http://localhost:{port}{recipe.path}"
        page = tokens.page(recipe, client, redirect, state, verifier)
        person.show(f"Sign in to {title} on this page:")
        person.show(page)
        if open_page is not None:
            open_page(page)
        else:
            person.show("The browser ends on an address at localhost, where no page may come up: that is the answer.")
        try:
            async with asyncio.timeout(patience), _pasting(person, state, found, alone=open_page is None):
                await asyncio.wait({found})
        except TimeoutError:
            raise Trouble(
                f"nobody signed in within {patience / 60:g} minutes. Nothing was stored", Exit.SIGN_IN
            ) from None
    answer = found.result()
    if isinstance(answer, Denied):
        raise Trouble(f"{title} did not let you in: {answer.said}. Nothing was stored", Exit.SIGN_IN)
    if isinstance(answer, Unusable):
        raise Trouble(f"{answer.why}. Nothing was stored", Exit.USAGE)
    issuer = tokens.Issuer(recipe, title, client)
    async with tokens.connected(client, redirect) as http:
        grant = await tokens.exchanged(issuer, http, answer.code, verifier, now)
        return SignedIn(grant, await tokens.email(issuer, http, grant))


@contextlib.asynccontextmanager
async def _pasting(person: Paster, state: str, found: asyncio.Future[Answer], *, alone: bool) -> AsyncIterator[None]:
    """While this lasts, a usable paste becomes the result of `found`, if nothing else did before."""
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_pastes(person, state, found, alone=alone))
        try:
            yield
        finally:
            reading.cancel()


async def _pastes(person: Paster, state: str, found: asyncio.Future[Answer], *, alone: bool) -> None:
    """Read what is pasted until it is an answer.

    alone  nobody else brings one: the end of the input ends the sign-in too
    """
    question = "Then paste the code, or the whole address that the browser ends on: "
    if not alone:
        question = "Waiting. You may also paste the code, or the whole address that the browser ends on: "
    missing = Unusable("no code was pasted: give it on stdin, or sign in without --no-browser")
    while (line := await person.pasted(question)) is not None:
        if not line.strip():
            continue
        answer = of_paste(line, state)
        if not isinstance(answer, Unusable):
            if not found.done():
                found.set_result(answer)
            return
        missing = Unusable(f"what was pasted cannot be used: {answer.why}")
        person.show(f"That cannot be used: {answer.why}.")
    if alone and not found.done():
        found.set_result(missing)
