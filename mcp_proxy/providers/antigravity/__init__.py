"""Antigravity: Google's Cloud Code API, where Gemini, Claude and GPT answer in Gemini's form to a Google sign-in.

Wire: undocumented. Observed, 2026-01 to 2026-10, and tests/wire/antigravity. It changes monthly: what may be raised
by a setting is one. Two pools of quota an account, one for Gemini, one for the others, each with two windows.
"""

from __future__ import annotations

from accounts.model import BrowserSignIn
from mcp_proxy.core.ids import ProviderName
from mcp_proxy.core.provider import Provider
from mcp_proxy.providers._oauth import refreshing
from mcp_proxy.providers.antigravity.errors import read_failure
from mcp_proxy.providers.antigravity.models import SERVES, discover
from mcp_proxy.providers.antigravity.project import verify
from mcp_proxy.providers.antigravity.quota import quotas
from mcp_proxy.providers.antigravity.request import request

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

_SCOPES = ("cloud-platform", "userinfo.email", "userinfo.profile", "cclog", "experimentsandconfigs")

SIGN_IN = BrowserSignIn(
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url=TOKEN_URL,
    userinfo_url="https://www.googleapis.com/oauth2/v1/userinfo",
    scopes=tuple(f"https://www.googleapis.com/auth/{scope}" for scope in _SCOPES),
    # Without both, Google gives no refresh token, or none at a second sign-in.
    parameters={"access_type": "offline", "prompt": "consent"},
    port=51121,
    path="/oauth-callback",
    client_names=("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
    terms="Google forbids the use of Antigravity through other programs and disables accounts for it.",
)

PROVIDER = Provider(
    name=ProviderName("antigravity"),
    title="Antigravity (Google)",
    # Personal accounts are served here only: the production host answers them with a 429 that says nothing.
    base_url="https://daily-cloudcode-pa.googleapis.com",
    auth="bearer",
    sign_in=SIGN_IN,
    serves=SERVES,
    request=request,
    read_failure=read_failure,
    verify=verify,
    quotas=quotas,
    discover=discover,
    mint=refreshing(TOKEN_URL, url_name="token_url"),
    needs=("project",),
    listed_only=True,
)
