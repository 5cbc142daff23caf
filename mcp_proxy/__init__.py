"""One Anthropic Messages API in front of many accounts of many providers."""

__version__ = "0.1.0"
