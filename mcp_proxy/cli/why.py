"""`proxy why`: why a request went where it went."""

from __future__ import annotations

import json as jsonlib
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.client import Server, server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say, say_json, table, width

app = App(
    name="why",
    help_epilogue="""\
Examples:
  proxy why
  proxy why req_0123456789
  proxy why --json | jq '.accounts[] | select(.verdict == "refused")'

Takes the `request-id` of an answer, or its `x-upstream-request-id`. Requests
are remembered for 90 days ([journal] in the config file); of what was asked and
answered not a word is.

The key is read from PROXY_API_KEY or PROXY_API_KEY_FILE.

Exit codes: 0; 2 a request and --last, or an empty one; 3 no such request;
4 the key is missing or refused; 6 no server answers.""",
)

REASONS = {
    "step": "a fallback model",
    "probation": "its upstream failed a moment ago",
    "soft_limited": "kept for last",
    "substitute": "another model of the same size",
    "cold": "the conversation's cache is not there",
    "tier": "a later tier",
    "crowding": "more crowded",
    "lot": "equal; the draw decided",
}
"""What a candidate was behind in, for people."""


@app.default
def why(
    request: str | None = None,
    /,
    *,
    last: Annotated[
        bool, Parameter(name="--last", negative=(), show_default=False, help="The newest request (the default).")
    ] = False,
    json: Json = False,
    url: Url = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Tell of a request who was chosen, who was not, and why.

    Parameters
    ----------
    request
        Its id, ours or its upstream's; without it the newest.
    """
    if last and request is not None:
        raise Trouble("--last and a request id exclude each other", Exit.USAGE)
    if request is not None and not request.strip():
        raise Trouble("the request id is empty; without one it is the newest", Exit.USAGE)
    server = server_at(url, config, env_file)
    found = _asked(server, request or "last")
    if json:
        say_json(found)
        return Exit.OK
    for line in shown(found, width()):
        say(line)
    return Exit.OK


def _asked(server: Server, request: str) -> Mapping[str, Any]:
    reply = server.get(f"/why/{quote(request, safe='')}")
    if reply.status == 404:
        try:
            message = str(jsonlib.loads(reply.body)["error"]["message"])
        except (ValueError, LookupError, TypeError):
            message = "no such request"
        raise Trouble(message, Exit.NOTHING)
    return server.checked(reply, "/why").document()


def shown(found: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """The document, for people: what was asked, how it ended, then the accounts, the chosen one first.

    width  that the table has to fit into: where it does not, what is told of an account stands below it
    """
    seconds, tokens = found["seconds"], found["tokens"]
    first = "" if seconds["first_content"] is None else f", first content after {seconds['first_content']:.2f} s"
    yield f"{found['request_id']}  {found['begun']}  {found['asked']}"
    if found["upstream_request_id"]:
        yield f"upstream: {found['upstream_request_id']}"
    asked = any(account["verdict"] not in ("candidate", "refused") for account in found["accounts"])
    how = [found["reason"]] if asked else []
    how += ["waited"] if found["waited"] and found["reason"] != "waited" else []
    ended = found["outcome"] if found["status"] == 200 else f"{found['outcome']}, HTTP {found['status']}"
    yield f"{ended} after {seconds['total']:.2f} s{first}{''.join(f'; {each}' for each in how)}"
    if tokens["output"] is not None:
        names = ("input", "cache_read", "cache_write", "output", "reasoning")
        yield "tokens: " + ", ".join(f"{name} {tokens[name]}" for name in names if tokens[name] is not None)
    yield ""
    head, rows = ("Account", "Model", "Verdict", "Reason", "Detail"), [_row(account) for account in found["accounts"]]
    lines = list(table(head, rows))
    if width is None or max(map(len, lines)) <= width:
        yield from lines
        return
    for line, told in zip(table(head[:4], [row[:4] for row in rows]), ["", *(row[4] for row in rows)], strict=True):
        yield line
        yield from textwrap.wrap(told, width, initial_indent="    ", subsequent_indent="    ")


def _row(account: Mapping[str, Any]) -> tuple[str, ...]:
    name = account["label"] or account["account"]
    words = [account["detail"], REASONS.get(account["reason"]) if account["verdict"] == "candidate" else None]
    if account["until"]:
        words.append(f"until {account['until']}")
    if account["rank"]:
        words.append(
            " ".join(f"{field}={value}" for field, value in account["rank"].items() if value and field != "lot")
        )
    told = "; ".join(word for word in words if word)
    provider = f"{account['provider']}/" if account["provider"] else ""
    return (f"{provider}{name}", account["model"] or "-", account["verdict"], account["reason"], told)
