"""Everything a person can set, read once: flags, environment, env file, config file. Nobody else reads these."""

from mcp_proxy.settings.environment import (
    FRAMEWORK_VARIABLES,
    clear_framework_environment,
    debug_wanted,
    parse_env_file,
)
from mcp_proxy.settings.errors import SettingsError
from mcp_proxy.settings.load import from_process, load
from mcp_proxy.settings.model import (
    PROVIDERS,
    Cors,
    Folders,
    GoogleClient,
    LogSettings,
    Paths,
    ProviderSettings,
    RoutingSettings,
    ServerSettings,
    Settings,
    VaultSettings,
)

__all__ = [
    "FRAMEWORK_VARIABLES",
    "PROVIDERS",
    "Cors",
    "Folders",
    "GoogleClient",
    "LogSettings",
    "Paths",
    "ProviderSettings",
    "RoutingSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "VaultSettings",
    "clear_framework_environment",
    "debug_wanted",
    "from_process",
    "load",
    "parse_env_file",
]
