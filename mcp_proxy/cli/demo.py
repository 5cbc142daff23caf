"""`proxy demo`: the whole proxy in front of simulated providers, with nothing of the user's touched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from accounts.exits import Exit

if TYPE_CHECKING:
    from mcp_proxy.core.ids import AccountId
    from mcp_proxy.sandbox import Account as Upstream
    from mcp_proxy.sandbox import Sandbox
    from mcp_proxy.settings import Settings

app = App(
    name="demo",
    help_epilogue="""\
Examples:
  proxy demo           the tour, then a server to try a client on, until Ctrl-C
  proxy demo --once    only the tour

Needs no account, no key and no network, and touches none of your files.""",
)

DEMO_KEY = "demo-key"
MODELS = {
    "anthropic": ("claude-opus-5-5", "claude-sonnet-5", "claude-haiku-5-5"),
    "zai": ("glm-5.2", "glm-4.7", "glm-4.5-air"),
    "antigravity": ("claude-sonnet-4-6", "gemini-3-flash", "gpt-oss-120b-medium"),
}
"""A few, so that the tables fit a screen; Claude Code's own choices are among them."""

LOW = {"work": ("5h", 0.15), "one@example.com": ("3p-5h", 0.1)}
"""What little is left, by label: a window of the account's and the fraction."""


@app.default
def demo(
    *,
    once: Annotated[bool, Parameter(negative=(), help="End after the tour, also on a terminal.")] = False,
    port: Annotated[int, Parameter(name=["--port", "-p"], help="Port to serve on; any free one if not given.")] = 0,
) -> int:
    """Show the proxy at work on simulated providers.

    Exit code: 0 if everything went as promised, else 1.
    """
    import asyncio
    import contextlib

    from mcp_proxy.cli.logs import configure

    configure("silent", "text")
    stays = not once and sys.stdin.isatty() and sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_demo(port, stays=stays))
    return Exit.OK if stays else Exit.INTERRUPTED


async def _demo(port: int, *, stays: bool) -> int:
    import tempfile

    import httpx
    from rich.console import Console

    from mcp_proxy.cli.compose import serving
    from mcp_proxy.cli.reload import reconfigure
    from mcp_proxy.cli.tour import Tour
    from mcp_proxy.sandbox import Sandbox

    console = Console()
    with tempfile.TemporaryDirectory(prefix="mcp-proxy-demo-") as home:
        async with Sandbox(("anthropic", "zai", "antigravity")) as box:
            settings = demo_settings(Path(home), box)
            upstreams = demo_accounts(settings, box)
            async with serving(settings, grace=1.0, port=port) as (url, gateway, _):
                console.print(
                    f"[bold]multi-claude-proxy[/bold] at {url}, in front of {len(upstreams)} accounts of three "
                    f"simulated providers ({', '.join(map(box.url, MODELS))}).",
                    highlight=False,
                    soft_wrap=True,
                )

                def reload(fallback: bool) -> None:
                    reconfigure(gateway, demo_settings(Path(home), box, fallback=fallback))

                client = httpx.AsyncClient(base_url=url, headers={"x-api-key": DEMO_KEY}, timeout=60, trust_env=False)
                async with client:
                    good = await Tour(client, gateway, box, upstreams, console, reload).run()
                if stays:
                    await _stay(console, url)
    return Exit.OK if good else Exit.FAILED


def demo_settings(home: Path, box: Sandbox, *, fallback: bool = False) -> Settings:
    """Settings that see nothing of the user's environment and files."""
    from mcp_proxy.settings import load

    own = {"MCP_PROXY_HOME": str(home), "PROXY_API_KEY": DEMO_KEY, "LOG_LEVEL": "silent"}
    return load({"fallback": fallback}, {**own, **box.settings("antigravity")})


def demo_accounts(settings: Settings, box: Sandbox) -> dict[AccountId, Upstream]:
    """Seven accounts of three providers in a fresh vault; the sandbox's by the id the proxy knows them under."""
    from accounts.model import Account, AccountId, ApiKey, Secret
    from mcp_proxy.cli.adapters import open_vault
    from mcp_proxy.sandbox.google.account import GoogleAccount

    vault = open_vault(settings)
    upstreams = {}
    for number, (provider, label, tier) in enumerate(
        (
            ("anthropic", "team", 1),
            ("anthropic", "personal", 1),
            ("anthropic", "spare", 2),
            ("zai", "work", 1),
            ("zai", "home", 2),
            ("antigravity", "one@example.com", 1),
            ("antigravity", "two@example.com", 1),
        )
    ):
        upstream = box.account(provider, alias=f"{provider}/{label}")
        grant = upstream.grant() if isinstance(upstream, GoogleAccount) else None
        account = Account(
            AccountId(f"demo{number}"),
            provider,
            label,
            tier=tier,
            base_url=None if grant else box.url(provider),
            models=MODELS[provider],
        )
        vault.add(account, grant or ApiKey(Secret(upstream.key)))
        upstreams[account.id] = upstream
        if label in LOW:
            window, left = LOW[label]
            upstream.drain(window, to=left)
    return upstreams


async def _stay(console: object, url: str) -> None:
    import asyncio

    from rich.console import Console

    assert isinstance(console, Console)  # noqa: S101 - typed late, so that --help imports no rich
    console.print("\n[bold]Still serving. Point a client at it from another terminal:[/bold]", highlight=False)
    console.print(
        f"  export ANTHROPIC_BASE_URL={url}\n  export ANTHROPIC_AUTH_TOKEN={DEMO_KEY}\n  claude\n\n"
        f"  curl -s '{url}/account-limits?format=table' -H 'x-api-key: {DEMO_KEY}'\n"
        f"  PROXY_API_KEY={DEMO_KEY} proxy why --url {url}\n\n"
        "[dim]The simulated models only chat. Ctrl-C ends it.[/dim]",
        highlight=False,
        soft_wrap=True,
    )
    await asyncio.Event().wait()
