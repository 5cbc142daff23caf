"""`proxy status`: health of the running server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.client import Reply, Server, server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say, say_json

app = App(
    name="status",
    help_epilogue="""\
Examples:
  proxy status
  proxy status --json
  proxy status --live    for a container's health check: needs no key

Exit codes: 0 healthy; 1 degraded or down; 4 the key is refused; 6 not
reachable.""",
)

LIVE_SECONDS = 4.0
"""A health check that takes longer has failed."""

CODES = {"ok": Exit.OK, "degraded": Exit.FAILED, "down": Exit.FAILED}


@app.default
def status(
    *,
    live: Annotated[
        bool, Parameter(name="--live", negative=(), show_default=False, help="Only whether the process answers.")
    ] = False,
    json: Json = False,
    url: Url = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Ask the running server how it is."""
    server = server_at(url, config, env_file)
    if live:
        return _live(server, json=json)
    reply = server.get("/health")
    if reply.status == 401:
        raise Trouble(f"the server at {server.base} refused the key in PROXY_API_KEY", Exit.SIGN_IN)
    document = reply.document()
    state = str(document.get("status"))
    if state not in CODES:
        raise Trouble(f"the server at {server.base} answered HTTP {reply.status} without a status", Exit.FAILED)
    if json:
        say_json({"url": server.base, **document})
    else:
        say(f"{state}: {server.base}{_counts(document)}")
        for line in unwell(document):
            say(line)
    return CODES[state]


def _live(server: Server, *, json: bool) -> int:
    reply: Reply = Server(server.base, None, LIVE_SECONDS).get("/livez", with_key=False)
    alive = reply.status == 200
    if json:
        say_json({"url": server.base, "live": alive})
    else:
        say(f"{'live' if alive else f'answers HTTP {reply.status}'}: {server.base}")
    return Exit.OK if alive else Exit.FAILED


def unwell(document: Mapping[str, Any]) -> Iterator[str]:
    """A line for each breaker that is not closed: whose it is, since when, and until when it is left alone."""
    accounts = document.get("accounts", ())
    found = [(f"{each.get('provider')}/{each.get('label')}", each.get("breaker") or {}) for each in accounts]
    found += [(str(each.get("name")), each) for each in document.get("upstreams", ())]
    for name, breaker in found:
        if breaker.get("state") not in (None, "closed"):
            until = f", until {breaker['until']}" if breaker.get("until") else ""
            why = f": {breaker['error']}" if breaker.get("error") else ""
            word = str(breaker["state"]).replace("_", "-")
            yield f"  {name}: {word} since {breaker.get('since')}{until}{why}"


def _counts(document: Mapping[str, Any]) -> str:
    """How many accounts there are in which state, where the server says so."""
    totals = document.get("totals") or document.get("counts")
    if not isinstance(totals, Mapping):
        return ""
    counts = [
        f"{count} {'account' if name == 'accounts' and count == 1 else str(name).replace('_', ' ')}"
        for name, count in totals.items()
        if isinstance(count, int) and count
    ]
    return f" ({', '.join(counts)})" if counts else ""
