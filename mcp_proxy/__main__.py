"""`proxy` and `python -m mcp_proxy`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; what it returns is the exit code."""
    try:
        from mcp_proxy.cli.root import app
        from mcp_proxy.cli.run import run
    except KeyboardInterrupt:  # importing takes a moment; what comes later is for `run` to say
        return 130

    return run(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
