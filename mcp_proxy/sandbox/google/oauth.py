"""Google's sign-in: the page that asks a person, the endpoint that gives tokens, and who somebody is.

Source: developers.google.com/identity/protocols/oauth2/native-app, RFC 6749 and RFC 7636.
"""

from __future__ import annotations

import hashlib
import html
import ipaddress
import itertools
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from accounts.model import OAuthClient, Secret
from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.account import GoogleAccount
from mcp_proxy.sandbox.google.wrongs import Misled, OAuthDenied
from mcp_proxy.sandbox.replies import Reply, document, page
from mcp_proxy.sandbox.wire import Heard

AUTHORIZE, TOKEN = "/o/oauth2/v2/auth", "/token"
USERINFO = ("/oauth2/v1/userinfo", "/oauth2/v2/userinfo")
CLIENT = OAuthClient("sandbox-client.apps.example.com", Secret("sk-fake-secret-of-the-sandbox-client"))
SCOPES = frozenset(
    f"https://www.googleapis.com/auth/{name}"
    for name in ("cloud-platform", "userinfo.email", "userinfo.profile", "cclog", "experimentsandconfigs")
)
PAGE_ASKS = ("client_id", "redirect_uri", "response_type", "scope", "access_type", "prompt", "state")
PKCE = ("code_challenge", "code_challenge_method")
CODE_LIFE = 600.0
"""Seconds until a code that nobody exchanged is dead."""
SHORTEST_STATE = 16
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
GIVEN_UP = "Token has been expired or revoked."


@dataclass(slots=True, eq=False)
class Consent:
    """A code that was given out. used: it was exchanged, once and for all."""

    account: GoogleAccount
    redirect_uri: str
    challenge: str
    expires_at: float
    used: bool = False


@dataclass(slots=True, eq=False)
class SignIn:
    """The sign-in of one Google, with what it gave out.

    person   who sits before the page; None: whoever is asked for, or the only one there is
    denies   the person says no
    client   the one program that may ask
    lenient  asks for no more than RFC 6749 does
    """

    client: OAuthClient = CLIENT
    person: GoogleAccount | None = None
    denies: bool = False
    lenient: bool = False
    codes: dict[str, Consent] = field(default_factory=dict)
    holders: dict[str, GoogleAccount] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def grant(self, account: GoogleAccount, token: str | None = None) -> str:
        """A new refresh token of an account."""
        given = token or f"1//sk-fake-refresh-{account.alias}-{next(self._ids)}"
        account.refreshes.append(given)
        self.holders[given] = account
        return given

    def access(self, account: GoogleAccount, now: float) -> str:
        """A new access token of an account."""
        return account.mint(f"ya29.sk-fake-access-{account.alias}-{next(self._ids)}", now).value

    # The page

    def check_page(self, heard: Heard) -> dict[str, str]:
        """What the page was told. Raises `Misled`."""
        asked = _fields(heard.target.partition("?")[2], Misled)
        strict = not self.lenient
        for name in (*PAGE_ASKS, *PKCE) if strict else PAGE_ASKS[:4]:
            if not asked.get(name):
                raise Misled(f"Missing required parameter: {name}")
        for name in asked:
            if strict and name not in (*PAGE_ASKS, *PKCE, "login_hint", "include_granted_scopes", "as"):
                raise Misled(f"Parameter not allowed for this message type: {name}")
        if asked["client_id"] != self.client.id:
            raise Misled("The OAuth client was not found.", 401, kind="invalid_client")
        if asked["response_type"] != "code":
            raise Misled(f"Invalid response_type: {asked['response_type']}", kind="unsupported_response_type")
        _check_redirect(asked["redirect_uri"])
        self._check_scopes(asked["scope"].split(" "))
        if strict:
            _check_manner(asked)
        return asked

    def _check_scopes(self, scopes: list[str]) -> None:
        if odd := [scope for scope in scopes if scope not in SCOPES]:
            raise Misled(f"Some requested scopes were invalid: {odd}", kind="invalid_scope")
        if not self.lenient and (len(set(scopes)) != len(scopes) or set(scopes) != SCOPES):
            raise Misled("scope: not what the client's own program asks for", kind="invalid_scope")

    def ask_person(self, asked: dict[str, str], accounts: list[GoogleAccount], target: str, now: float) -> Reply:
        """The person's decision, at once; where nobody knows who it is, a page to choose on."""
        if self.denies or asked.get("as") == "nobody":
            return _back(asked, error="access_denied")
        chosen = self.chosen(asked, accounts)
        if chosen is None:
            return _chooser(accounts, target)
        code = f"4/0sk-fake-code-{next(self._ids)}"
        self.codes[code] = Consent(chosen, asked["redirect_uri"], asked.get("code_challenge", ""), now + CODE_LIFE)
        return _back(asked, code=code, scope=asked["scope"])

    def chosen(self, asked: dict[str, str], accounts: list[GoogleAccount]) -> GoogleAccount | None:
        if self.person is not None:
            return self.person
        named = asked.get("as") or asked.get("login_hint")
        if named is not None:
            return next((account for account in accounts if account.email == named), None)
        return accounts[0] if len(accounts) == 1 else None

    # The token endpoint

    def about(self, heard: Heard) -> GoogleAccount | None:
        """Whose tokens a request is about."""
        form = dict(parse_qsl(heard.body.decode("latin-1")))
        consent = self.codes.get(form.get("code", ""))
        return consent.account if consent else self.holders.get(form.get("refresh_token", ""))

    def check_form(self, heard: Heard, now: float) -> dict[str, str]:
        """A form that is in order, and what it holds is good. Raises `OAuthDenied`."""
        kind = (heard.value("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise OAuthDenied(f"content-type: must be a form, not {kind or 'absent'}")
        if heard.value("authorization") is not None and not self.lenient:
            raise OAuthDenied("The client's secret belongs into the form.")
        form = _fields(heard.body.decode("utf-8", "replace"), OAuthDenied)
        for name in ("client_id", "grant_type"):
            if not form.get(name):
                raise OAuthDenied(f"Missing required parameter: {name}")
        if form["client_id"] != self.client.id:
            raise OAuthDenied("The OAuth client was not found.", 401, kind="invalid_client")
        if self.client.secret is not None and form.get("client_secret") != self.client.secret.reveal():
            raise OAuthDenied("Unauthorized", 401, kind="invalid_client")
        match form["grant_type"]:
            case "authorization_code":
                self._check_code(form, now)
            case "refresh_token":
                self._check_refresh(form)
            case other:
                raise OAuthDenied(f"Invalid grant_type: {other}", kind="unsupported_grant_type")
        return form

    def _check_code(self, form: dict[str, str], now: float) -> None:
        _only(form, "code", "redirect_uri", "code_verifier")
        consent = self.codes.get(form.get("code", ""))
        if consent is None or consent.used or now >= consent.expires_at:
            raise OAuthDenied("Malformed auth code." if consent is None else "Bad Request", kind="invalid_grant")
        if form.get("redirect_uri") != consent.redirect_uri:
            raise OAuthDenied("Bad Request", kind="redirect_uri_mismatch")
        verifier = form.get("code_verifier", "")
        if consent.challenge and not VERIFIER.fullmatch(verifier):
            raise OAuthDenied("Missing code verifier.", kind="invalid_grant")
        if consent.challenge and challenge_of(verifier) != consent.challenge:
            raise OAuthDenied("Invalid code verifier.", kind="invalid_grant")

    def _check_refresh(self, form: dict[str, str]) -> None:
        _only(form, "refresh_token")
        given = form.get("refresh_token", "")
        if not given:
            raise OAuthDenied("Missing required parameter: refresh_token")
        account = self.holders.get(given)
        if account is not None and account.banned:
            raise OAuthDenied("Bad Request", kind="invalid_grant", dead=True)
        if account is None or account.revoked or given not in account.refreshes:
            raise OAuthDenied(GIVEN_UP, kind="invalid_grant", dead=True)

    def give(self, form: dict[str, str], account: GoogleAccount, now: float) -> Reply:
        """The tokens that a good form asks for."""
        told: Json = {"access_token": self.access(account, now), "expires_in": max(0, int(account.lifetime) - 1)}
        account.minted += 1
        if form["grant_type"] == "authorization_code":
            self.codes[form["code"]].used = True
            if not account.withholds:
                told["refresh_token"] = self.grant(account)
            told["id_token"] = "eyJhbGciOiJub25lIn0.e30."  # noqa: S105 - says nothing
        elif account.rotates:
            account.refreshes.remove(form["refresh_token"])
            told["refresh_token"] = self.grant(account)
        told |= {"scope": " ".join(sorted(SCOPES)), "token_type": "Bearer"}
        return document(200, told, (("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),))


def userinfo(account: GoogleAccount) -> Reply:
    number = 103_000_000_000_000_000_000 + int(hashlib.sha256(account.email.encode()).hexdigest()[:12], 16)
    return document(
        200, {"id": str(number), "email": account.email, "verified_email": True, "name": account.alias, "picture": ""}
    )


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _fields(text: str, wrong: type[Misled] | type[OAuthDenied]) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise wrong(f"OAuth 2 parameters can only have a single value: {twice}")
    return found


def _only(form: dict[str, str], *names: str) -> None:
    for name in form:
        if name not in ("client_id", "client_secret", "grant_type", *names):
            raise OAuthDenied(f"Parameter not allowed for this message type: {name}")


def _check_redirect(uri: str) -> None:
    """This kind of client is answered on the person's own machine."""
    parts = urlsplit(uri)
    try:
        own = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
        port = parts.port
    except ValueError:
        own, port = False, None
    if parts.scheme != "http" or not own or port is None or parts.fragment or parts.query:
        raise Misled(f"The redirect URI in the request, {uri}, is not registered.", kind="redirect_uri_mismatch")


def _check_manner(asked: dict[str, str]) -> None:
    """What a program needs that wants to keep its grant, and not be given somebody else's."""
    if asked["access_type"] != "offline":
        raise Misled("access_type: without offline there is no refresh token")
    if asked["prompt"] != "consent":
        raise Misled("prompt: without consent a second sign-in gets no refresh token")
    if len(asked["state"]) < SHORTEST_STATE:
        raise Misled("state: too short to be a secret")
    if asked["code_challenge_method"] != "S256":
        raise Misled(f"code_challenge_method: {asked['code_challenge_method']} is not S256")
    if not CHALLENGE.fullmatch(asked["code_challenge"]):
        raise Misled("code_challenge: is no SHA-256 in base64url")


def _back(asked: dict[str, str], **told: str) -> Reply:
    """The person's browser goes back to the program."""
    if "state" in asked:
        told = {"state": asked["state"], **told}
    return Reply(302, (("location", f"{asked['redirect_uri']}?{urlencode(told, quote_via=quote)}"),))


def _chooser(accounts: list[GoogleAccount], target: str) -> Reply:
    links = "".join(
        f'<li><a href="{html.escape(f"{target}&as={quote(account.email)}")}">{html.escape(account.email)}</a></li>'
        for account in accounts
    )
    no = f'<li><a href="{html.escape(f"{target}&as=nobody")}">Cancel</a></li>'
    return page(200, f"<!doctype html><title>Choose an account</title><h1>Simulated Google</h1><ul>{links}{no}</ul>")
