"""`proxy limits`: what is left of every account's limits."""

from __future__ import annotations

from cyclopts import App

from accounts.exits import Exit
from mcp_proxy.cli.client import server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say_json

app = App(
    name="limits",
    help_epilogue="""\
Examples:
  proxy limits
  proxy limits --json | jq '.accounts[] | select(.status == "rate_limited")'

The key is read from PROXY_API_KEY or PROXY_API_KEY_FILE.

Exit codes: 0; 4 the key is missing or refused; 6 no server answers.""",
)


@app.default
def limits(*, json: Json = False, url: Url = None, config: ConfigFile = None, env_file: EnvFile = None) -> int:
    """Show what the running server knows of every account's limits; asks no provider."""
    server = server_at(url, config, env_file)
    if json:
        say_json(server.ask("/account-limits").document())
        return Exit.OK
    import sys

    sys.stdout.write(server.ask("/account-limits?format=table").body.decode("utf-8", "replace"))
    return Exit.OK
