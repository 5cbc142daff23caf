"""`proxy models`: model ids a client may ask for, and who serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from cyclopts import App

from accounts.exits import Exit
from mcp_proxy.cli.client import Server, server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say, say_json

app = App(
    name="models",
    help_epilogue="""\
Examples:
  proxy models
  proxy models --json | jq -r '.models[].id'

The key is read from PROXY_API_KEY or PROXY_API_KEY_FILE.

Exit codes: 0; 4 the key is missing or refused; 6 no server answers.""",
)

MAX_PAGES = 100
"""Of a thousand models each; an end for a server whose list has none."""


@app.default
def models(*, json: Json = False, url: Url = None, config: ConfigFile = None, env_file: EnvFile = None) -> int:
    """List the models of the running server and the accounts that serve each."""
    server = server_at(url, config, env_file)
    accounts = server.ask("/account-limits").document().get("accounts", [])
    labels = {f"{each['provider']}/{each['id']}": f"{each['provider']}/{each['label']}" for each in accounts}
    found = [
        {
            "id": model["id"],
            "display_name": model.get("display_name", model["id"]),
            "served_by": [labels.get(name, name) for name in model.get("served_by", ())],
            "quota": model.get("quota"),
        }
        for model in _listed(server)
    ]
    if json:
        say_json({"models": found})
        return Exit.OK
    width = max((len(model["id"]) for model in found), default=0)
    for model in found:
        quota = model["quota"] or {}
        left = quota.get("remaining_fraction")
        share = "?" if left is None else f"{round(left * 100)}%"
        say(f"{model['id']:<{width}}  {share:>4}  {', '.join(model['served_by'])}".rstrip())
    return Exit.OK


def _listed(server: Server) -> Iterator[Mapping[str, Any]]:
    after: str | None = None
    for _ in range(MAX_PAGES):
        page = server.ask("/v1/models?" + urlencode({"limit": 1000, **({"after_id": after} if after else {})}))
        document = page.document()
        yield from document.get("data", [])
        after = document.get("last_id")
        if not document.get("has_more") or not after:
            return
