"""`python -m mcp_proxy.sandbox`: serve simulated providers until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from mcp_proxy.sandbox.box import Sandbox
from mcp_proxy.sandbox.strict import Rules
from mcp_proxy.sandbox.table import HOSTS


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mcp_proxy.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="first port; hosts take the following ones (default: any)")
    parser.add_argument("--accounts", type=int, default=2, help="accounts of each host (default: 2)")
    parser.add_argument("--host", action="append", choices=list(HOSTS), help="only this host; may be given again")
    parser.add_argument("--lenient", action="store_true", help="refuse only what real hosts refuse")
    return parser.parse_args()


async def serve(hosts: list[str], *, port: int, accounts: int, rules: Rules) -> None:
    """Print where and with which keys, then wait for ever."""
    ports = {name: port + index for index, name in enumerate(hosts)} if port else None
    async with Sandbox(hosts, ports=ports, rules=rules) as box:
        for name in hosts:
            keys = [box.account(name).key for _ in range(accounts)]
            told = [f"{key}={value}" for key, value in box.settings(name).items()]
            sys.stdout.write("\n  ".join([f"{name}  {box.url(name)}", *keys, *told]) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    given = options()
    rules = Rules.REAL if given.lenient else Rules.ALL
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.host or list(HOSTS), port=given.port, accounts=given.accounts, rules=rules))


if __name__ == "__main__":
    main()
