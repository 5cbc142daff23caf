"""The real server on a loopback port, its accounts in a real vault, the sandbox behind it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from accounts.model import Account, AccountId, ApiKey, Credential, Secret
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.cli.compose import serving
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.sandbox import Account as Upstream
from mcp_proxy.sandbox import GoogleAccount, Received, Sandbox
from mcp_proxy.server.serving import Server
from mcp_proxy.settings import Settings, load
from tests.faults.secrets import MARK
from tests.faults.upstream import Upstream as Scripted
from tests.faults.watch import WatchedClient

KEY = f"{MARK}-proxy-key-of-the-tests"
FIXTURES = Path(__file__).parents[1] / "fixtures" / "claude-code"


@dataclass
class Proxy:
    """A running proxy and a client that has its key."""

    url: str
    gateway: Gateway
    server: Server
    client: httpx.AsyncClient
    ids: dict[str, str] = field(default_factory=dict)
    box: Sandbox | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def named(self, response: httpx.Response) -> str:
        """The label of the account that served."""
        account = response.headers["x-proxy-account"].partition("/")[2]
        return next(label for label, held in self.ids.items() if held == account)

    async def ask(self, text: str = "hello", *, session: str | None = None, **fields: Any) -> httpx.Response:
        """One message, not streamed unless `stream=True`; read whole."""
        headers = {"x-claude-code-session-id": session} if session else {}
        headers |= fields.pop("headers", {})
        return await self.client.post("/v1/messages", json=message(text, **fields), headers=headers)

    async def limits(self) -> dict[str, Any]:
        answer = await self.client.get("/account-limits")
        return {account["label"]: account for account in answer.json()["accounts"]}


def last_message(account: Upstream) -> Received:
    """The last request for a message that an account of the sandbox got; questions in the background come any time."""
    return next(each for each in reversed(account.received) if "/v1/messages" in each.path)


def message(text: str = "hello", model: str = "claude-sonnet-5", **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}


def post(stream: bool = True, **fields: Any) -> bytes:
    """The bytes of a request with the key."""
    body = json.dumps(message(stream=stream, **fields)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def nothing_is_held(proxy: Proxy) -> bool:
    """No visit, and no account in use."""
    pool = proxy.gateway.pool
    return not proxy.server._edge.visits and not any(seat.in_flight for seat in (*pool.seats, *pool.callers))


def settings(home: Path, toml: str = "", **environ: str) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(toml)
    return load({}, {"MCP_PROXY_HOME": str(home), "PROXY_API_KEY": KEY, **environ})


Stored: TypeAlias = tuple[str, "str | Credential", dict[str, Any]]
"""An account as the vault gets it: provider, key or grant, and the fields of `Account` besides; among them `label`."""


def store(at: Settings, accounts: Sequence[Stored]) -> dict[str, str]:
    """Put accounts into the vault; their ids by label."""
    vault = open_vault(at)
    ids = {}
    for number, (provider, given, fields) in enumerate(accounts):
        account = Account(id=AccountId(f"{number:06x}"), provider=provider, **fields)
        vault.add(account, ApiKey(Secret(given)) if isinstance(given, str) else given)
        ids[account.label] = str(account.id)
    return ids


@contextlib.asynccontextmanager
async def serving_accounts(
    home: Path, accounts: Sequence[Stored], toml: str = "", grace: float = 2.0, environ: dict[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """The proxy with these accounts. When it has ended, nothing may be under way any more."""
    at = settings(home, toml, **(environ or {}))
    ids = store(at, accounts)
    async with serving(at, grace) as (url, gateway, server):
        how = {"timeout": 30, "trust_env": False, "verify": False}  # it speaks http, and to load the roots takes 25 ms
        async with WatchedClient(base_url=url, headers={"x-api-key": KEY}, **how) as client:
            yield Proxy(url, gateway, server, client, ids)
    seats = (*gateway.pool.seats, *gateway.pool.callers)
    assert [seat.id for seat in seats if seat.in_flight] == [], "an account is still counted as in use"


Held: TypeAlias = tuple[str, Upstream] | tuple[str, Upstream, dict[str, Any]]
"""An account of the sandbox: its provider, itself, and what the proxy's account says besides."""


@contextlib.asynccontextmanager
async def running(
    home: Path,
    box: Sandbox,
    *upstreams: Held,
    toml: str = "",
    grace: float = 2.0,
    environ: dict[str, str] | None = None,
) -> AsyncIterator[Proxy]:
    """The proxy in front of accounts of the sandbox, labelled by their aliases.

    An account that signs in on a page is stored as its grant, and its provider's addresses are set to the sandbox's.
    """
    accounts: list[Stored] = []
    around: dict[str, str] = {}
    for host, upstream, *more in upstreams:
        fields = {"label": upstream.alias, **(more[0] if more else {})}
        if isinstance(upstream, GoogleAccount):
            accounts.append((host, upstream.grant(), fields))
            around |= box.settings(host)
        else:
            accounts.append((host, upstream.key, {"base_url": box.url(host), **fields}))
    async with serving_accounts(home, accounts, toml, grace, {**around, **(environ or {})}) as proxy:
        proxy.box = box
        yield proxy


@contextlib.asynccontextmanager
async def in_front_of(
    home: Path,
    *upstreams: Scripted,
    toml: str = "",
    grace: float = 2.0,
    environ: dict[str, str] | None = None,
    provider: str = "anthropic",
) -> AsyncIterator[Proxy]:
    """The proxy in front of scripted upstreams: accounts `a0`, `a1` …, asked in that order."""
    accounts = [
        (provider, f"key-of-a{n}-{MARK}", {"label": f"a{n}", "base_url": each.url(""), "tier": n + 1})
        for n, each in enumerate(upstreams)
    ]
    async with serving_accounts(home, accounts, toml, grace, environ) as proxy:
        yield proxy


def fixture(name: str) -> tuple[bytes, list[tuple[str, str]]]:
    """A recorded request: its body as on the wire, its headers without what the client's library adds."""
    headers = json.loads((FIXTURES / "headers" / f"{name}.json").read_text())
    skipped = {"host", "content-length", "connection", "x-api-key", "authorization"}
    return (FIXTURES / f"{name}.json").read_bytes(), [pair for pair in headers if pair[0].lower() not in skipped]
