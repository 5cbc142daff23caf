"""`proxy accounts …`: a module a verb, and `build`, which makes the command of them."""

from accounts.cli.app import build
from accounts.cli.errors import explain, run
from accounts.cli.ports import AccountState, Ports, ProviderInfo

__all__ = ["AccountState", "Ports", "ProviderInfo", "build", "explain", "run"]
