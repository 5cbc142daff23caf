"""What every request is served with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from accounts.model import Credential
from mcp_proxy.core.http import Transport
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Clock
from mcp_proxy.dialects.calibration import Calibration
from mcp_proxy.gateway.callers import Callers
from mcp_proxy.gateway.catalog import Catalog
from mcp_proxy.gateway.gate import Gate
from mcp_proxy.gateway.metrics import Counters
from mcp_proxy.gateway.pool import Pool
from mcp_proxy.gateway.recording import Making
from mcp_proxy.gateway.sampling import Sampler
from mcp_proxy.gateway.tokens import Tokens
from mcp_proxy.routing.facts import Policy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an exchange needs of the gateway, the same for all."""

    pool: Pool
    catalog: Catalog
    tokens: Tokens
    client: Callable[[AccountId, str], Transport]
    policy: Policy
    clock: Clock
    draining: asyncio.Event
    gate: Callable[[str], Gate]
    refused: Callable[[AccountId, Credential, str], None]
    listed: Callable[[], Awaitable[bool]]
    calibration: Calibration
    sampler: Sampler
    callers: Callers
    record: Callable[[Making], None]
    counters: Counters
