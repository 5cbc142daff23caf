"""What differs between generations of models: how each is told to think, and how much it may say."""

from __future__ import annotations

import re

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.wrongs import Wrong

GLM_REFUSES = ("context_management", "container", "mcp_servers", "service_tier", "speed", "inference_geo")
GLM_TOOLS_REFUSE = ("strict", "defer_loading")
BUDGET_ONLY = re.compile(r"claude-(?:opus|sonnet|haiku)-4-5")
BUDGET_ONLY_OUTPUT = 64_000
GLM = re.compile(r"glm-(\d+)(?:\.(\d+))?(-turbo)?")


def check_claude(body: Json) -> None:
    """The 4.5 family thinks by a budget and says 64 000 tokens at most. Raises `Wrong`."""
    if not BUDGET_ONLY.match(body["model"]):
        return
    thinking, limit = body.get("thinking"), body.get("max_tokens")
    if isinstance(thinking, dict) and thinking.get("type") == "adaptive":
        raise Wrong("thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags")
    if isinstance(limit, int) and limit > BUDGET_ONLY_OUTPUT:
        raise Wrong(f"max_tokens: {limit} > {BUDGET_ONLY_OUTPUT}, which is the maximum allowed number of output tokens")


def check_glm(body: Json) -> None:
    """Every field that one of these models has been seen to refuse, and how it thinks. Raises `Wrong`."""
    for name in GLM_REFUSES:
        if name in body:
            raise Wrong(f"{name}: Extra inputs are not permitted", code=1210)
    for tool in body.get("tools", ()):
        for name in GLM_TOOLS_REFUSE:
            if name in tool:
                raise Wrong(f"tools.{name}: Extra inputs are not permitted", code=1210)
    named = GLM.match(body["model"])
    version = (int(named[1]), int(named[2] or 0)) if named else (0, 0)
    thinking, output = body.get("thinking"), body.get("output_config")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if version >= (5, 3) and kind == "disabled":
        raise Wrong("该模型始终思考，不支持关闭思考；请使用 low、high 或 max。", code=1210)
    if version < (5, 2) and not (named and named[3]):
        if kind == "adaptive":
            raise Wrong("thinking.type: enabled or disabled", code=1210)
        if isinstance(output, dict) and "effort" in output:
            raise Wrong("output_config.effort: Extra inputs are not permitted", code=1210)
