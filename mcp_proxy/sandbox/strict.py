"""What a host does not take: the API's own rules in its own words, and the manners we ask of a proxy besides."""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import Any
from urllib.parse import parse_qsl

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.wire import Heard
from mcp_proxy.sandbox.wrongs import Wrong

VERSIONS = ("2023-06-01", "2026-10-21")
SAMPLING_ENDED = "2026-10-21"
MAX_BODY = 32 * 1024 * 1024
MAX_MARKS = 4
BETA_NAME = re.compile(r"[a-z0-9-]+-\d{4}-?\d{2}-?\d{2}")
CREDENTIALS = ("x-api-key", "authorization")
ONCE = ("content-type", "content-length", "host", "anthropic-version", *CREDENTIALS)
HOP_BY_HOP = ("keep-alive", "te", "trailer", "upgrade", "expect")
PRIVATE = ("cookie", "forwarded", "via", "x-real-ip", "origin", "referer", "x-request-id")
PRIVATE_STARTS = ("x-forwarded-", "x-proxy-", "proxy-", "x-mcp-")
ABROAD = ("accept", "accept-encoding", "accept-language", "connection", "content-type", "content-length", "host")
ABROAD_TOO = ("user-agent", "anthropic-version", "anthropic-beta", "transfer-encoding", *CREDENTIALS)
FIELDS = (  # noqa: SIM905 - words read best as words
    "model messages system max_tokens stream temperature top_p top_k stop_sequences tools tool_choice metadata "
    "thinking output_config output_format context_management cache_control container mcp_servers service_tier "
    "speed inference_geo safeguards fallbacks"
).split()
PAIRED = {"safeguards": "dangerous-tool-use-", "context_management": "context-management-"}
"""Fields that Anthropic takes only beside their beta: whoever strips one half breaks the other."""


class Rules(IntEnum):
    """How strict to be.

    NONE  anything with a known key is answered
    REAL  what the real hosts refuse is refused
    ALL   besides, what a proxy must not let through to an upstream
    """

    NONE = 0
    REAL = 1
    ALL = 2


def check_manners(heard: Heard, authority: str, *, abroad: bool, queries: frozenset[str]) -> None:
    """What only a careless proxy sends. Stricter than any real host. Raises `Wrong`.

    abroad   this is not Anthropic: only the few headers that other native vendors are sent
    queries  the names of query parameters that make sense here
    """
    for name in (key.lower() for key, _ in heard.headers):
        if name in HOP_BY_HOP or name in PRIVATE or name.startswith(PRIVATE_STARTS):
            raise Wrong(f"{name}: this header must not reach an upstream")
        if abroad and name not in ABROAD + ABROAD_TOO:
            raise Wrong(f"{name}: this header is not for other hosts than Anthropic's")
    for name in ONCE:
        if len(heard.values(name)) > 1:
            raise Wrong(f"{name}: sent more than once")
    if all(heard.values(name) for name in CREDENTIALS):
        raise Wrong("x-api-key and authorization must not be sent together")
    if heard.values("content-length") and heard.values("transfer-encoding"):
        raise Wrong("content-length and transfer-encoding must not be sent together")
    if (encoding := heard.value("accept-encoding")) not in (None, "identity"):
        raise Wrong(f"accept-encoding: must be identity, not {encoding}")
    if (connection := heard.value("connection")) not in (None, "keep-alive", "close"):
        raise Wrong(f"connection: names {connection}, which stays with its own hop")
    if (host := heard.value("host")) != authority:
        raise Wrong(f"host: is {host}, not {authority}")
    query = heard.target.partition("?")[2]
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name not in queries:
            raise Wrong(f"{name}: unknown query parameter")


def check_version(heard: Heard) -> None:
    """Raises `Wrong` unless the API version is one we know."""
    version = heard.value("anthropic-version")
    if version is None:
        raise Wrong("anthropic-version: header is required")
    if version not in VERSIONS:
        raise Wrong(f'anthropic-version: "{version}" is not a valid version')


def betas(heard: Heard) -> list[str]:
    return [name.strip() for value in heard.values("anthropic-beta") for name in value.split(",") if name.strip()]


def check_betas(heard: Heard, *, abroad: bool) -> None:
    """Betas are an open list, but they have a shape; the one for safeguards is Anthropic's alone."""
    named = betas(heard)
    if odd := [name for name in named if not BETA_NAME.fullmatch(name)]:
        raise Wrong(f"Unexpected value(s) `{', '.join(odd)}` for the `anthropic-beta` header")
    if abroad and (own := [name for name in named if name.startswith("dangerous-tool-use-")]):
        raise Wrong(f"Unexpected value(s) `{', '.join(own)}` for the `anthropic-beta` header")


def read_body(heard: Heard) -> Json:
    """The body as an object. Raises `Wrong`."""
    if not heard.whole:
        raise Wrong("Request exceeds the maximum size", status=413)
    kind = (heard.value("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Wrong(f"content-type: must be application/json, not {kind or 'absent'}")
    last: list[tuple[str, Any]] = []

    def pairs(found: list[tuple[str, Any]]) -> Json:
        last[:] = found
        return dict(found)

    try:
        body = json.loads(heard.body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError) as trouble:
        raise Wrong(f"The request body is not valid JSON: {trouble}") from trouble
    if not isinstance(body, dict):
        raise Wrong("Input should be a valid dictionary or object to extract fields from")
    if len(last) != len(body):
        raise Wrong("The request body names a field twice")
    return body


def check_billing_line(body: Json) -> None:
    """Anthropic strips it where it stands first; for others it is a part of the prompt that nobody wrote."""
    system = body.get("system")
    first = system[0] if isinstance(system, list) and system else None
    if isinstance(first, dict) and str(first.get("text")).startswith("x-anthropic-billing-header:"):
        raise Wrong("system.0: the billing line is not for other hosts than Anthropic's")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_fields(body: Json, heard: Heard, *, abroad: bool, counting: bool) -> None:
    """The top level of a body, but for its messages. Raises `Wrong`."""
    for name in body:
        if name not in FIELDS or (counting and name == "max_tokens"):
            raise Wrong(f"{name}: Extra inputs are not permitted")
    needed = ("model", "messages") if counting else ("model", "max_tokens", "messages")
    for name in needed:
        if name not in body:
            raise Wrong(f"{name}: Field required")
    if not isinstance(body["model"], str):
        raise Wrong("model: Input should be a valid string")
    if not isinstance(body.get("stream", False), bool):
        raise Wrong("stream: Input should be a valid boolean")
    metadata = body.get("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("user_id", ""), str | None):
        raise Wrong("metadata.user_id: Input should be a valid string")
    check_pairs(body, heard, abroad=abroad)
    check_sampling(body, heard.value("anthropic-version"))
    if not counting:
        check_thinking(body)
    check_tools(body)
    check_marks(body)


def check_pairs(body: Json, heard: Heard, *, abroad: bool) -> None:
    """Fields that come with a beta or not at all."""
    if abroad and "safeguards" in body:
        raise Wrong("safeguards: Extra inputs are not permitted")
    for name, beta in () if abroad else PAIRED.items():
        if name in body and not any(named.startswith(beta) for named in betas(heard)):
            raise Wrong(f"{name}: Extra inputs are not permitted")


def check_sampling(body: Json, version: str | None) -> None:
    for name, highest in (("temperature", 1.0), ("top_p", 1.0), ("top_k", None)):
        if name not in body:
            continue
        if version == SAMPLING_ENDED:
            raise Wrong(f"{name}: Extra inputs are not permitted")
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"{name}: Input should be a valid number")
        if value < 0:
            raise Wrong(f"{name}: Input should be greater than or equal to 0")
        if highest is not None and value > highest:
            raise Wrong(f"{name}: Input should be less than or equal to {highest:g}")


def check_thinking(body: Json) -> None:
    limit = body["max_tokens"]
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise Wrong("max_tokens: Input should be a valid integer")
    if limit < 1:
        raise Wrong("max_tokens: Input should be greater than or equal to 1")
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive", "disabled"):
        raise Wrong("thinking: Input tag does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int):
            raise Wrong("thinking.enabled.budget_tokens: Field required")
        if budget < 1024:
            raise Wrong("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= limit:
            raise Wrong("`max_tokens` must be greater than `thinking.budget_tokens`.")
    choice = body.get("tool_choice")
    if kind != "disabled" and isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise Wrong("Thinking may not be enabled when tool_choice forces tool use.")


def check_tools(body: Json) -> None:
    tools = body.get("tools", [])
    if not isinstance(tools, list):
        raise Wrong("tools: Input should be a valid list")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str):
            raise Wrong(f"tools.{index}.name: Field required")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            raise Wrong(f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if name in names:
            raise Wrong("tools: Tool names must be unique.")
        names.add(name)
        schema = tool.get("input_schema")
        typed = isinstance(schema, dict) and schema.get("type") == "object"
        if tool.get("type", "custom") == "custom" and not typed:
            raise Wrong(f"tools.{index}.custom.input_schema.type: Input should be 'object'")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name") not in names:
        raise Wrong(f"Tool '{choice.get('name')}' not found in provided tools")


def check_marks(body: Json) -> None:
    """At most four cache marks, each of a kind there is."""
    found = list(_marks({name: body.get(name) for name in ("system", "tools", "messages", "cache_control")}))
    for mark in found:
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            raise Wrong("cache_control: Input tag does not match any of the expected tags: 'ephemeral'")
        if mark.get("ttl", "5m") not in ("5m", "1h"):
            raise Wrong("cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    if len(found) > MAX_MARKS:
        raise Wrong(
            f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {len(found)}.",
        )


def _marks(value: Any) -> list[Any]:
    """Every `cache_control` in blocks and tools; what a tool is given or a schema says is not looked into."""
    if isinstance(value, list):
        return [mark for item in value for mark in _marks(item)]
    if not isinstance(value, dict):
        return []
    own = [value["cache_control"]] if value.get("cache_control") is not None else []
    inner = (item for name, item in value.items() if name not in ("cache_control", "input", "input_schema"))
    return own + [mark for item in inner for mark in _marks(item)]
