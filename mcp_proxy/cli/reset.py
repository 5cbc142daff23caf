"""`proxy reset`: close breakers and forget limits in the running server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.client import server_at
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, Url, say, say_json

app = App(
    name="reset",
    help_epilogue="""\
Examples:
  proxy reset                       every account
  proxy reset --provider zai
  proxy reset --account zai/work    by id, label, or provider/label

Limits are learnt again from the next refusal. Token budgets stay: they are
counts.
The key is read from PROXY_API_KEY or PROXY_API_KEY_FILE.

Exit codes: 0; 2 a label that several accounts have; 3 nothing matched; 4 the
key is missing or refused; 6 no server answers.""",
)


@app.default
def reset(
    *,
    provider: Annotated[str | None, Parameter(name="--provider", help="Only this provider's accounts.")] = None,
    account: Annotated[str | None, Parameter(name="--account", help="Only this account.")] = None,
    json: Json = False,
    url: Url = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Close circuit breakers and forget limits, so that accounts are tried again at once."""
    server = server_at(url, config, env_file)
    named = {name: value for name, value in (("provider", provider), ("account", account)) if value is not None}
    reply = server.post("/reset", named)
    document = reply.document()
    if reply.status == 404 and "reset" not in document:
        raise Trouble(f"nothing matched {' and '.join(named.values()) or 'at ' + server.base}", Exit.NOTHING)
    if reply.status == 400:
        error = document.get("error")
        raise Trouble(str(error.get("message") if isinstance(error, Mapping) else error), Exit.USAGE)
    if json:
        say_json(document)
    else:
        for line in document.get("reset", ()):
            say(_line(line))
    return Exit.OK


def _line(told: Mapping[str, Any]) -> str:
    forgotten = ", ".join(str(name) for name in told.get("forgotten", ())) or "nothing to forget"
    return f"{told.get('provider')}/{told.get('label')}: {forgotten}"
