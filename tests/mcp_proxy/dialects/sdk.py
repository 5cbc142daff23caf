"""What Anthropic's own SDK makes of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from anthropic.lib.streaming import _messages as sdk

from mcp_proxy.core.events import Event
from mcp_proxy.dialects import sse
from mcp_proxy.dialects.fold import to_sse


def told(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The events as a client reads them from the wire, each under its own name."""
    read = []
    for frame in sse.split(to_sse(events)):
        name, data = sse.parse(frame)
        event = json.loads(data)
        assert event["type"] == name
        read.append(event)
    return read


def gathered(events: Iterable[Event]) -> dict[str, Any]:
    """The message the SDK gathers from a stream, as JSON. Raises where it does not accept one of the events."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in told(events):
        if event["type"] != "ping":
            snapshot = sdk.accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)  # type: ignore[arg-type]
    message: dict[str, Any] = snapshot.to_dict(mode="json")
    return message
