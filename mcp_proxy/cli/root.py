"""The root of the command line. Names only: a command's module is imported when it is used."""

from __future__ import annotations

from cyclopts import App, Group

SERVE = Group("Serve", sort_key=1)
ACCOUNTS = Group("Accounts", sort_key=2)
RUNNING = Group("The running server", sort_key=3)
SETTINGS = Group("Settings", sort_key=4)
HELP = Group("Help", sort_key=5)

# Not an epilogue: that would show under every command's help as well.
HELP_TEXT = """\
One Anthropic Messages API in front of all your accounts.

First steps:
  proxy demo                                  see it work, without any account
  proxy accounts add                          store your first account
  PROXY_API_KEY=choose-a-long-one proxy serve

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 nothing matched,
4 sign-in needed or refused, 5 quota exhausted, 6 unreachable,
7 store locked or damaged, 8 wrong store key, 130 interrupted."""


def version() -> str:
    """Of the installed distribution."""
    from importlib.metadata import version

    return version("multi-claude-proxy")


app = App(
    name="proxy",
    help=HELP_TEXT,
    help_format="plaintext",
    version=version,
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = HELP
app.command("mcp_proxy.cli.serve:app", name="serve", help="Run the server.", group=SERVE)
app.command("mcp_proxy.cli.demo:app", name="demo", help="Show it at work on simulated providers.", group=SERVE)
app.command("mcp_proxy.cli.accounts:app", name="accounts", help="Add, list and look after accounts.", group=ACCOUNTS)
app.command("mcp_proxy.cli.config:app", name="config", help="Show and check what is set, and where.", group=SETTINGS)
app.command("mcp_proxy.cli.status:app", name="status", help="Health of the running server.", group=RUNNING)
app.command("mcp_proxy.cli.limits:app", name="limits", help="What is left of every account's limits.", group=RUNNING)
app.command(
    "mcp_proxy.cli.models:app", name="models", help="Models a client may ask for, and who serves.", group=RUNNING
)
app.command("mcp_proxy.cli.usage:app", name="usage", help="Tokens, cost and times, summed up.", group=RUNNING)
app.command("mcp_proxy.cli.why:app", name="why", help="Why a request went where it went.", group=RUNNING)
app.command("mcp_proxy.cli.reset:app", name="reset", help="Close breakers and forget limits.", group=RUNNING)
app.command("mcp_proxy.cli.doctor:app", name="doctor", help="Check the installation and the settings.", group=SETTINGS)
