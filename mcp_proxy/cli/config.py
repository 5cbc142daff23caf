"""`proxy config`: what is set and where, and whether a config file can be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from accounts.exits import Exit
from mcp_proxy.cli.options import ConfigFile, EnvFile, Json, say, say_json
from mcp_proxy.settings import SettingsError, config_file_of, from_process, load

app = App(
    name="config",
    help_epilogue="""\
Examples:
  proxy config show --origin
  proxy config validate new.toml && mv new.toml "$(proxy config path)"

A running server takes over a changed file by itself, and at once on SIGHUP; one
that cannot be used is named in its log, and the old settings stay in force.

Exit codes: 0; 2 settings that cannot be used.""",
)


@app.command(
    help_epilogue="""\
Examples:
  proxy config show
  proxy config show --origin
  proxy config show --json | jq '.settings["routing.soft_limit"]'

Exit codes: 0; 2 settings that cannot be used."""
)
def show(
    *,
    origin: Annotated[
        bool, Parameter(name="--origin", negative=(), show_default=False, help="Also where each value comes from.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Show every setting in force, secrets masked. The flags of `proxy serve` are not known here."""
    from mcp_proxy.settings.shown import shown

    settings = from_process({"config": config, "env_file": env_file})
    found = shown(settings)
    if json:
        say_json({"settings": {each.key: {"value": each.value, "origin": each.origin} for each in found}})
        return Exit.OK
    texts = [f"{each.key} = {each.text()}" for each in found]
    width = min(max(map(len, texts)), 60)
    for each, text in zip(found, texts, strict=True):
        say(f"{text:<{width}}  # {each.origin}" if origin else text)
    return Exit.OK


@app.command(
    help_epilogue="""\
Examples:
  proxy config path
  $EDITOR "$(proxy config path)"

Exit codes: 0, whether or not the file is there."""
)
def path(*, json: Json = False, config: ConfigFile = None, env_file: EnvFile = None) -> int:
    """Show where the config file is looked for."""
    found = config_file_of({"config": config, "env_file": env_file}, os.environ)
    if json:
        say_json({"path": str(found), "exists": found.exists()})
    else:
        say(str(found))
    return Exit.OK


@app.command(
    help_epilogue="""\
Examples:
  proxy config validate
  proxy config validate new.toml
  proxy config validate --json | jq -r '.problems[]'

Exit codes: 0 it can be used; 2 it cannot, and everything that is wrong is listed."""
)
def validate(
    file: Annotated[str | None, Parameter(help="The file (default: the one that `proxy serve` reads).")] = None,
    /,
    *,
    json: Json = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> int:
    """Check a config file, with the environment that it would be read in."""
    import sys

    flags = {"config": file or config, "env_file": env_file}
    name, problems = file or config or "", tuple[str, ...]()
    try:
        name = str(config_file_of(flags, os.environ))
        load(flags, os.environ)
    except SettingsError as error:
        problems = tuple(each.removeprefix("--config: ") if file else each for each in error.problems)
    if json:
        say_json({"path": name, "ok": not problems, "problems": list(problems)})
    elif problems:
        sys.stderr.writelines(f"proxy: {problem}\n" for problem in problems)
    else:
        say(f"{name}: {'can be used' if Path(name).exists() else 'not there; the defaults hold'}")
    return Exit.USAGE if problems else Exit.OK
