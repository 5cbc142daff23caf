"""Everything a person can set, read once: flags, environment, env file, config file. Nobody else reads these."""

from mcp_proxy.settings.environment import (
    FRAMEWORK_VARIABLES,
    clear_framework_environment,
    debug_wanted,
    parse_env_file,
)
from mcp_proxy.settings.errors import SettingsError, Stamp
from mcp_proxy.settings.load import config_file_of, from_process, load
from mcp_proxy.settings.model import (
    FAILOVER_ON,
    PROVIDERS,
    BudgetSettings,
    Cors,
    Folders,
    GoogleClient,
    JournalSettings,
    LogSettings,
    Paths,
    PriceSettings,
    ProviderSettings,
    RoutingSettings,
    ServerSettings,
    Settings,
    TierSettings,
    VaultSettings,
)
from mcp_proxy.settings.sources import stamp_of

__all__ = [
    "FAILOVER_ON",
    "FRAMEWORK_VARIABLES",
    "PROVIDERS",
    "BudgetSettings",
    "Cors",
    "Folders",
    "GoogleClient",
    "JournalSettings",
    "LogSettings",
    "Paths",
    "PriceSettings",
    "ProviderSettings",
    "RoutingSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "Stamp",
    "TierSettings",
    "VaultSettings",
    "clear_framework_environment",
    "config_file_of",
    "debug_wanted",
    "from_process",
    "load",
    "parse_env_file",
    "stamp_of",
]
