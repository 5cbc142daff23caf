"""Tool definitions as Gemini's function declarations; the same ones come with every turn and are cleaned once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mcp_proxy.core.failure import Failure
from mcp_proxy.dialects.anthropic_ask import bad_request
from mcp_proxy.dialects.gemini.names import sent_name, sent_names
from mcp_proxy.dialects.gemini.profile import Profile
from mcp_proxy.dialects.gemini.wire import written
from mcp_proxy.dialects.json_text import loads
from mcp_proxy.dialects.schema import Path, clean

_KEPT = 48
_LONGEST_KEPT = 256 * 1024
"""How many tool lists are kept cleaned, and of how many bytes at most; a session has two or three of some 40 KB."""

_WEB_SEARCH = "web_search_"
_TOOL_SEARCH = "tool_search_tool_"


@dataclass(frozen=True, slots=True)
class Declared:
    """One tool as it is declared.

    deferred  the model hears of it only once the conversation names it
    """

    name: str
    declaration: bytes
    deferred: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """A request's tools.

    names     the client's names, and what each is sent as
    injected  by the name it is sent as: arguments that we ask for and the client never did
    search    the options of a web search, where that and nothing else is offered
    """

    declared: tuple[Declared, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    injected: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None

    def sent_as(self, name: str) -> str:
        """What a tool is sent as, also one that the history names and nobody offers any more."""
        return self.names.get(name) or sent_name(name)

    def written(self, mentioned: Collection[str]) -> bytes:
        """The request's `tools`; empty where there is none. `mentioned` are names the conversation knows."""
        told = [tool.declaration for tool in self.declared if not tool.deferred or tool.name in mentioned]
        return b'[{"functionDeclarations":[%b]}]' % b",".join(told) if told else b""


def read_tools(tools: bytes, fill: bool) -> Tools | Failure:
    """The tools in the bytes of a request's `tools`, or what is wrong with them.

    fill  see `schema.clean`

    Tools that Anthropic defines by a type alone have no schema to declare and are left out.
    """
    return _kept(tools, fill) if len(tools) <= _LONGEST_KEPT else _read(tools, fill)


@lru_cache(maxsize=_KEPT)
def _kept(tools: bytes, fill: bool) -> Tools | Failure:
    return _read(tools, fill)


def _read(tools: bytes, fill: bool) -> Tools | Failure:
    given = loads(tools)
    if given is None:
        return Tools()
    if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
        return bad_request("tools: Input should be a valid list")
    kinds = [tool.get("type") or "custom" for tool in given]
    if given and all(isinstance(kind, str) and kind.startswith(_WEB_SEARCH) for kind in kinds):
        return Tools(search=given[0])
    own: dict[str, dict[str, Any]] = {}
    for index, (tool, kind) in enumerate(zip(given, kinds, strict=True)):
        if kind != "custom" and not isinstance(tool.get("input_schema"), dict):
            continue
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            return bad_request(f"tools.{index}.name: String should have at least 1 character")
        own.setdefault(name, tool)
    # The provider's own search for tools does not exist here: what it would find must be told from the start.
    can_wait = not any(isinstance(kind, str) and kind.startswith(_TOOL_SEARCH) for kind in kinds)
    return _declared(own, fill, can_wait)


def _declared(own: Mapping[str, dict[str, Any]], fill: bool, can_wait: bool) -> Tools | Failure:
    names = sent_names(own)
    declared, injected = [], {}
    for name, tool in own.items():
        try:
            cleaned = clean(tool.get("input_schema"), fill=fill)
        except RecursionError:
            return bad_request(f"tools: the schema of {name} is nested too deeply")
        about = tool.get("description")
        declaration = {"name": names[name]}
        if isinstance(about, str) and about:
            declaration["description"] = about
        deferred = can_wait and tool.get("defer_loading") is True
        declared.append(Declared(name, written({**declaration, "parameters": cleaned.schema}), deferred))
        if cleaned.injected:
            injected[names[name]] = cleaned.injected
    return Tools(tuple(declared), names, injected)


def tool_mode(choice: Any, tools: Tools, profile: Profile) -> dict[str, Any] | Failure | None:
    """`functionCallingConfig` for a `tool_choice`; None where nothing need be said."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    match kind:
        case "none":
            return {"mode": "NONE"}
        case "any":
            return {"mode": "ANY"}
        case "tool":
            name = choice.get("name")
            if name not in tools.names:
                return bad_request(f"tool_choice: Tool '{name}' not found in provided tools")
            return {"mode": "ANY", "allowedFunctionNames": [tools.names[name]]}
        case _:
            return {"mode": profile.default_mode} if profile.default_mode is not None else None
