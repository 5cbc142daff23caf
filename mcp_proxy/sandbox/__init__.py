"""Simulated native providers on loopback, stricter than the real ones, that go wrong on demand."""

from mcp_proxy.sandbox.accounts import Account, Counts, Model, Place, Window
from mcp_proxy.sandbox.answers import Answer, Raw, Redacted, Text, Thinking, ToolUse, say
from mcp_proxy.sandbox.box import Sandbox
from mcp_proxy.sandbox.faults import Fault
from mcp_proxy.sandbox.google.account import GoogleAccount
from mcp_proxy.sandbox.hosts import Host
from mcp_proxy.sandbox.received import Received
from mcp_proxy.sandbox.strict import Rules
from mcp_proxy.sandbox.table import HOSTS

__all__ = [
    "HOSTS",
    "Account",
    "Answer",
    "Counts",
    "Fault",
    "GoogleAccount",
    "Host",
    "Model",
    "Place",
    "Raw",
    "Received",
    "Redacted",
    "Rules",
    "Sandbox",
    "Text",
    "Thinking",
    "ToolUse",
    "Window",
    "say",
]
