"""`proxy doctor`: is everything in place? Looks, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from accounts.exits import Exit
from mcp_proxy.cli.checks import Finding, everything
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, say, say_json
from mcp_proxy.settings import Settings, SettingsError, load

app = App(
    name="doctor",
    help_epilogue="""\
Examples:
  proxy doctor
  proxy doctor --json | jq '.checks[] | select(.state == "wrong")'

Exit codes: 0 all is well; 1 something is wrong; 2 the settings cannot be used;
7 the account store is locked or damaged; 8 its key is wrong.""",
)

MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@app.default
def doctor(
    *,
    json: Json = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
    port: Annotated[int | None, Parameter(name=["--port", "-p"], help="Port to try (default: the configured).")] = None,
) -> int:
    """Check Python, packages, settings, folders, the account store and its key, the state file and the port."""
    settings: Settings | SettingsError
    try:
        settings = load({"config": config, "env_file": env_file, "port": port}, os.environ)
    except SettingsError as error:
        settings = error
    findings = everything(settings)
    if json:
        say_json(_document(findings, settings))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            say(f"{MARKS[finding.state]} {finding.name:<{width}}  {finding.detail}")
    return verdict(findings)


def verdict(findings: tuple[Finding, ...]) -> int:
    """The gravest thing found: a wrong key, a store in trouble, unusable settings, anything else."""
    codes = {finding.exit_code for finding in findings if finding.state == "wrong"}
    for code in (Exit.WRONG_KEY, Exit.STORE, Exit.USAGE):
        if code in codes:
            return code
    return Exit.FAILED if codes else Exit.OK


def _document(findings: tuple[Finding, ...], settings: Settings | SettingsError) -> Mapping[str, Any]:
    origin = {} if isinstance(settings, SettingsError) else dict(settings.origin)
    checks = [{"name": finding.name, "state": finding.state, "detail": finding.detail} for finding in findings]
    return {"ok": verdict(findings) == Exit.OK, "checks": checks, "set": origin}
