"""How these tests talk to the simulated Google."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from mcp_proxy.sandbox import GoogleAccount, Sandbox
from mcp_proxy.sandbox.google.oauth import SCOPES
from tests.mcp_proxy.sandbox.asking import client

AGENT = "antigravity/hub/2.9.1 darwin/arm64"
CLAUDE, GEMINI, GPT = "claude-sonnet-4-6", "gemini-3.8-flash-high", "gpt-oss-120b-medium"
VERIFIER = "v" * 43
REDIRECT = "http://localhost:51121/oauth-callback"
WEATHER = {
    "name": "get_weather",
    "description": "Weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def page(box: Sandbox, **other: str | None) -> dict[str, str]:
    """What the sign-in page is told; None leaves a parameter out."""
    challenge = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
    asked: dict[str, str | None] = {
        "client_id": box.settings("antigravity")["GOOGLE_CLIENT_ID"],
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "scope": " ".join(sorted(SCOPES)),
        "access_type": "offline",
        "prompt": "consent",
        "state": "0123456789abcdef" * 2,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **other,
    }
    return {name: value for name, value in asked.items() if value is not None}


async def visit(box: Sandbox, **other: str | None) -> httpx.Response:
    """The person's browser goes to the page."""
    async with client() as browser:
        return await browser.get(f"{box.url('antigravity')}/o/oauth2/v2/auth?{urlencode(page(box, **other))}")


def told(answer: httpx.Response) -> dict[str, str]:
    """What the browser is sent back with."""
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def token(box: Sandbox, how: dict[str, str] | None = None, **form: str | None) -> httpx.Response:
    """A request to the token endpoint; None leaves a field out."""
    settings = box.settings("antigravity")
    filled = {"client_id": settings["GOOGLE_CLIENT_ID"], "client_secret": settings["GOOGLE_CLIENT_SECRET"], **form}
    sent = {name: value for name, value in filled.items() if value is not None}
    async with client() as asking:
        return await asking.post(settings["MCP_PROXY_PROVIDERS__ANTIGRAVITY__TOKEN_URL"], data=sent, headers=how)


async def exchanged(box: Sandbox, code: str, **other: str | None) -> httpx.Response:
    asked = {"code": code, "code_verifier": VERIFIER, "redirect_uri": REDIRECT, "grant_type": "authorization_code"}
    return await token(box, **{**asked, **other})


async def refreshed(box: Sandbox, account: GoogleAccount, **other: str | None) -> httpx.Response:
    given = account.grant().refresh_token.reveal()
    return await token(box, **{"grant_type": "refresh_token", "refresh_token": given, **other})


async def call(
    box: Sandbox, account: GoogleAccount | str, method: str, body: Any, agent: str = AGENT, **headers: str
) -> httpx.Response:
    """One call of the API, with a fresh access token."""
    value = account if isinstance(account, str) else box.google().access(account)
    named = {
        "authorization": f"Bearer {value}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": agent,
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    query = "?alt=sse" if method == "streamGenerateContent" else ""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client() as asking:
        return await asking.post(f"{box.url('antigravity')}/v1internal:{method}{query}", content=data, headers=named)


def request(text: str = "How tall is a giraffe?", **more: Any) -> dict[str, Any]:
    return {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 8000},
        "sessionId": "-3750763034362895579",
        **more,
    }


def tools(*declared: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"functionDeclarations": list(declared or (WEATHER,))}]


def thinking(budget: int = 4000, **more: Any) -> dict[str, Any]:
    return {"maxOutputTokens": 8000, "thinkingConfig": {"includeThoughts": True, "thinkingBudget": budget}, **more}


def envelope(account: GoogleAccount, asked: Any = None, model: str = CLAUDE, **more: Any) -> dict[str, Any]:
    body = {
        "project": account.project,
        "model": model,
        "userAgent": "antigravity",
        "requestType": "agent",
        "requestId": f"agent-{uuid.uuid4()}",
        "request": request() if asked is None else asked,
        **more,
    }
    return {name: value for name, value in body.items() if value is not None}


async def ask(
    box: Sandbox, account: GoogleAccount, asked: Any = None, model: str = CLAUDE, **more: Any
) -> httpx.Response:
    """One streamed generate request."""
    return await call(box, account, "streamGenerateContent", envelope(account, asked, model, **more))


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    """The responses of a stream."""
    assert answer.status_code == 200, answer.text
    frames = answer.text.split("\n\n")
    assert frames.pop() == ""
    return [json.loads(frame.removeprefix("data: "))["response"] for frame in frames]


def parts(answer: httpx.Response) -> list[dict[str, Any]]:
    return [part for chunk in chunks(answer) for part in chunk["candidates"][0]["content"]["parts"]]


def said(answer: httpx.Response) -> str:
    return "".join(part.get("text", "") for part in parts(answer) if not part.get("thought"))


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, Google's word for it and the message, all of which agree."""
    told = answer.json()["error"]
    assert told["code"] == answer.status_code
    return told["code"], told["status"], told["message"]
