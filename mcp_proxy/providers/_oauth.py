"""A new token from a refresh token, as RFC 6749 (6) has it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from accounts.model import Secret, Token
from mcp_proxy.core.failure import Blame, Failure, Refusal
from mcp_proxy.core.http import Headers, NetworkTrouble, Transport, UpstreamRequest, read_all
from mcp_proxy.core.provider import Mint, Minted, Minting
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.providers._times import retry_after

ANSWER_LIMIT = 256 * 1024
READ_SECONDS = 30.0
LONGEST_LIFE_SECONDS = 366 * 86_400.0
"""A token that is said to live longer counts as one of which nothing is said."""

MAX_SAID = 200
_HEADERS: Headers = (
    ("content-type", "application/x-www-form-urlencoded"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "multi-claude-proxy"),
)
_DEAD = ("invalid_grant",)
_DEAD_PROSE = ("token has been expired or revoked", "token revoked", "token_revoked", "credentials are invalid")
_CLIENT = ("invalid_client", "unauthorized_client")


def refreshing(token_url: str, url_name: str = "token_url") -> Mint:
    """Mints at `token_url`, or at the address that settings put in its place under `url_name`."""

    async def mint(transport: Transport, minting: Minting, now: Instant) -> Minted | Failure:
        client = minting.client
        if client is None:
            return Failure(Blame.CONFIG, 500, "api_error", "no OAuth client is configured")
        form = {
            "grant_type": "refresh_token",
            "refresh_token": minting.grant.refresh_token.reveal(),
            "client_id": client.id,
            **({"client_secret": client.secret.reveal()} if client.secret is not None else {}),
        }
        url = minting.urls.get(url_name, token_url)
        request = UpstreamRequest("POST", url, _HEADERS, urlencode(form).encode(), read_timeout=READ_SECONDS)
        try:
            response = await transport.send(request)
            body = await read_all(response, ANSWER_LIMIT)
        except NetworkTrouble as trouble:
            text = f"the token endpoint cannot be reached: {trouble}"
            return Failure(Blame.NETWORK, 502, "api_error", text, reached=trouble.sent)
        return read_minted(Refusal(response.status, response.headers, body), now)

    return mint


def read_minted(answer: Refusal, now: Instant) -> Minted | Failure:
    """The token in an answer, or why there is none. Never raises, whatever the bytes."""
    document = loads(answer.body)
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    value = _secret(fields.get("access_token"))
    if answer.status == 200 and value is not None:
        return Minted(Token(value, _until(fields.get("expires_in"), now)), _secret(fields.get("refresh_token")))
    return _refused(answer, fields, now)


def _secret(value: object) -> Secret | None:
    """What can go into a header; None for anything else."""
    good = isinstance(value, str) and value and value.isascii() and value.isprintable() and " " not in value
    return Secret(value) if good and isinstance(value, str) else None


def _until(seconds: object, now: Instant) -> float | None:
    """When a token ends that lives this many seconds, also where they are text; None where they say no sense."""
    if isinstance(seconds, str) and len(seconds) <= 20:
        try:
            seconds = float(seconds)
        except ValueError:
            return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return now + seconds if 0 < seconds <= LONGEST_LIFE_SECONDS else None


def _refused(answer: Refusal, fields: dict[str, Any], now: Instant) -> Failure:
    code, said = _code(fields), _said(fields)
    prose = answer.body.decode("utf-8", "replace").lower()
    text = " ".join(part for part in (code, said) if part) or f"status {answer.status}, and no token"
    if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
        # the codes count before the prose: a wrong client's description may speak of credentials
        if code in _CLIENT or (not code and any(word in prose for word in _CLIENT)):
            return Failure(Blame.CONFIG, 500, "api_error", f"the OAuth client is refused: {text}")
        if code in _DEAD or any(word in prose for word in (*_DEAD, *_DEAD_PROSE)):
            return Failure(Blame.ACCOUNT, 401, "authentication_error", f"the sign-in is no longer good: {text}")
    status = answer.status if answer.status == 429 or 500 <= answer.status < 600 else 502
    kind = "rate_limit_error" if status == 429 else "api_error"
    until = retry_after(answer.headers, now)
    return Failure(Blame.PROVIDER, status, kind, f"the token endpoint refuses: {text}", retry_at=until)


def _code(fields: dict[str, Any]) -> str:
    code = fields.get("error")
    return _line(code).lower() if isinstance(code, str) else ""


def _said(fields: dict[str, Any]) -> str:
    said = fields.get("error_description")
    return _line(said) if isinstance(said, str) else ""


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_SAID])
