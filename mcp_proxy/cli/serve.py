"""`proxy serve`: run the server."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from accounts.exits import Exit, Trouble
from mcp_proxy.cli.options import ConfigFile, EnvFile
from mcp_proxy.settings import clear_framework_environment, from_process

app = App(
    name="serve",
    help_epilogue="""\
Examples:
  PROXY_API_KEY=choose-a-long-one proxy serve
  PROXY_API_KEY_FILE=key.txt proxy serve --port 9000 --fallback
  proxy serve --soft-limit 0.1 --env-file proxy.env

Needed: PROXY_API_KEY, the key that clients must show, or PROXY_API_KEY_FILE,
a file that holds it. A flag wins over the environment, then the env file, the
config file and the default. More variables, with their defaults:
  READ_TIMEOUT_SEC 30, WRITE_TIMEOUT_SEC 300, IDLE_TIMEOUT_SEC 120,
  LOG_LEVEL info, LOG_FORMAT text, ALLOWED_HOSTS, CORS_ENABLED false,
  CORS_ALLOW_ORIGIN, CORS_ALLOW_METHODS, CORS_ALLOW_HEADERS, CORS_MAX_AGE 600,
  ACCOUNTS_CONFIG_PATH, MCP_PROXY_HOME.
A changed config file is taken over by itself, and at once on SIGHUP.

Exit codes: 0 stopped; 2 settings that cannot be used, or a port in use;
7 and 8 an account store that cannot be opened; 130 interrupted.""",
)


@app.default
def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on (default 127.0.0.1; env BIND_ADDRESS).")] = None,
    port: Annotated[int | None, Parameter(name=["--port", "-p"], help="Port (default 8080; env PORT).")] = None,
    fallback: Annotated[
        bool | None,
        Parameter(help="Let another model of the same size class stand in (default off; env ENABLE_FALLBACK)."),
    ] = None,
    soft_limit: Annotated[
        str | None,
        Parameter(
            name="--soft-limit",
            metavar="X",
            help="Keep an account for last once this fraction of its quota or less is left, 0.0 to 1.0 "
            "(default 0.20; env SOFT_LIMIT_THRESHOLD).",
        ),
    ] = None,
    no_soft_limit: Annotated[
        bool, Parameter(name="--no-soft-limit", negative=(), show_default=False, help="Keep no account for last.")
    ] = False,
    debug: Annotated[bool | None, Parameter(help="Log everything (default off; env DEBUG).")] = None,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    workers: Annotated[int | None, Parameter(help="Processes (default 1; more is not possible yet).")] = None,
) -> int:
    """Run the server until it is told to stop."""
    if no_soft_limit and soft_limit is not None:
        raise Trouble("--soft-limit and --no-soft-limit cannot both be given", Exit.USAGE)
    settings = from_process(
        {
            "host": host,
            "port": port,
            "fallback": fallback,
            "soft_limit": False if no_soft_limit else soft_limit,
            "debug": debug,
            "config": config,
            "env_file": env_file,
            "workers": workers,
        }
    )
    settings.server.required_key()
    clear_framework_environment()
    from mcp_proxy.cli.compose import serve

    return serve(settings)
