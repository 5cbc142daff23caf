"""The provider's side of a browser sign-in, spoken by Authlib: its page, its token endpoint, and who signed in.

Wire: RFC 6749, 4.1 and 5; RFC 7636; developers.google.com/identity/protocols/oauth2/native-app. Authlib is handed a
code that was checked, never an address that came back: from one it would take a token out of the fragment, or guess
`client_credentials` where the person had refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import certifi
import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.client import OAuth2Client

from accounts.exits import Exit, Trouble
from accounts.model import BrowserSignIn, OAuthClient, OAuthGrant, Secret, Token

SECONDS = 30.0
BODY_LIMIT = 256 * 1024
SAID_LIMIT = 200
WRONG_CLIENT = frozenset({"invalid_client", "unauthorized_client"})
NOT_TO_LAST = (
    "{title} gave no refresh token, so the sign-in would end within the hour. Nothing was stored.\n"
    "Remove this program's access on the account's security page, then sign in again"
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who gives out the tokens, and to which program."""

    recipe: BrowserSignIn
    title: str
    client: OAuthClient


def page(recipe: BrowserSignIn, client: OAuthClient, redirect: str, state: str, verifier: str) -> str:
    """The address on which a person agrees."""
    form = OAuth2Client(None, client.id, redirect_uri=redirect, scope=list(recipe.scopes), code_challenge_method="S256")
    address, _ = form.create_authorization_url(
        recipe.authorize_url, state=state, code_verifier=verifier, **recipe.parameters
    )
    return str(address)


@cache
def _roots() -> ssl.SSLContext:
    """Certifi's roots and the system's."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


@contextlib.asynccontextmanager
async def connected(client: OAuthClient, redirect: str) -> AsyncIterator[AsyncOAuth2Client]:
    """The HTTP side. Follows nobody elsewhere, heeds no variables, reads no long answers."""
    http = AsyncOAuth2Client(
        client.id,
        client.secret.reveal() if client.secret else None,
        redirect_uri=redirect,
        token_endpoint_auth_method="client_secret_post" if client.secret else "none",
        transport=_Bounded(verify=_roots(), trust_env=False),
        timeout=SECONDS,
        trust_env=False,
        follow_redirects=False,
    )
    async with http:
        yield http


async def exchanged(
    issuer: Issuer, http: AsyncOAuth2Client, code: Secret, verifier: str, now: Callable[[], float]
) -> OAuthGrant:
    """The code for a grant; once, whatever comes of it. Raises Trouble."""
    hidden = (code, Secret(verifier), *([issuer.client.secret] if issuer.client.secret else []))
    with _told(issuer, hidden):
        async with asyncio.timeout(SECONDS):
            answer: dict[str, Any] = await http.fetch_token(
                issuer.recipe.token_url,
                grant_type="authorization_code",
                code=code.reveal(),
                code_verifier=verifier,
            )
    value, refresh = answer.get("access_token"), answer.get("refresh_token")
    if not isinstance(value, str) or not value:
        raise Trouble(f"{issuer.title} answered without a token. Nothing was stored", Exit.UNREACHABLE)
    if not isinstance(refresh, str) or not refresh:
        raise Trouble(NOT_TO_LAST.format(title=issuer.title), Exit.SIGN_IN)
    return OAuthGrant(Secret(refresh), issuer.client, Token(Secret(value), expiry(answer.get("expires_in"), now())))


async def email(issuer: Issuer, http: AsyncOAuth2Client, grant: OAuthGrant) -> str:
    """Who signed in. Raises Trouble."""
    held = grant.token
    assert held is not None  # noqa: S101 - `exchanged` made it
    with _told(issuer, (held.value, grant.refresh_token)):
        async with asyncio.timeout(SECONDS):
            # Authlib would renew a token that is short of life before it asks
            said = await http.request(
                "GET",
                issuer.recipe.userinfo_url,
                withhold_token=True,
                headers={"authorization": f"Bearer {held.value.reveal()}", "accept": "application/json"},
            )
        said.raise_for_status()
        answer = said.json()
    address = answer.get("email") if isinstance(answer, dict) else None
    if not isinstance(address, str) or "@" not in address:
        raise Trouble(f"{issuer.title} does not say whose account it is. Nothing was stored", Exit.SIGN_IN)
    return address.strip()


def expiry(lasts: object, now: float) -> float | None:
    """When a token ends that lasts so many seconds; None where that is not said."""
    if isinstance(lasts, bool) or not isinstance(lasts, int | float | str):
        return None
    try:
        seconds = float(lasts)
    except (ValueError, OverflowError):
        return None
    return now + max(0.0, seconds) if math.isfinite(seconds) else None


@contextlib.contextmanager
def _told(issuer: Issuer, hidden: tuple[Secret, ...]) -> Iterator[None]:
    """What goes wrong on the way becomes Trouble, with nothing hidden in it."""
    title = issuer.title
    try:
        yield
    except OAuthError as error:
        raise _refused(issuer, str(error.error), str(error.description or ""), hidden) from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        kind = Exit.SIGN_IN if status in (401, 403) else Exit.UNREACHABLE
        raise Trouble(f"{title} answered with status {status}. Nothing was stored; try again later", kind) from None
    except (TimeoutError, httpx2.TimeoutException):
        raise Trouble(f"{title} did not answer in {SECONDS:g} s. Nothing was stored", Exit.UNREACHABLE) from None
    except httpx2.HTTPError as error:
        name = type(error).__name__  # its text may quote what was sent
        raise Trouble(f"{title} could not be reached ({name}). Nothing was stored", Exit.UNREACHABLE) from None
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Trouble(f"{title} answered what cannot be read. Nothing was stored", Exit.UNREACHABLE) from None


def _refused(issuer: Issuer, error: str, description: str, hidden: tuple[Secret, ...]) -> Trouble:
    said = f"{error}: {description}" if description else error
    for secret in hidden:
        said = said.replace(secret.reveal(), "…")
    said = said[:SAID_LIMIT]
    if error in WRONG_CLIENT:
        names = f" ({' and '.join(issuer.recipe.client_names)})" if issuer.recipe.client_names else ""
        told = f"{issuer.title} does not know the OAuth client ({said})"
        return Trouble(f"{told}.\nNothing was stored; check its id and its secret{names}", Exit.USAGE)
    return Trouble(f"{issuer.title} refused the code ({said}). Nothing was stored; sign in again", Exit.SIGN_IN)


class _Bounded(httpx2.AsyncHTTPTransport):
    """Reads no answer that is longer than a token's could be."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange. Raises httpx2.ReadError."""
        request.headers["accept-encoding"] = "identity"
        answer = await super().handle_async_request(request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            await answer.aclose()
            raise httpx2.ReadError("compressed, though asked not to be")
        assert isinstance(answer.stream, httpx2.AsyncByteStream)  # noqa: S101 - an asynchronous transport's is one
        answer.stream = _Counted(answer.stream)
        return answer


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, below: httpx2.AsyncByteStream) -> None:
        self._below = below

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._below:
            size += len(part)
            if size > BODY_LIMIT:
                raise httpx2.ReadError("the answer is too long")
            yield part

    async def aclose(self) -> None:
        await self._below.aclose()
