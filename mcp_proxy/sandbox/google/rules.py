"""What Google does not take of a generate request, and what we ask of a proxy besides. All raise `Denied`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.contents import check_contents
from mcp_proxy.sandbox.google.models import Family, GoogleModel, Kind
from mcp_proxy.sandbox.google.wrongs import BARE, Denied, clueless, nested, violation

Genuine: TypeAlias = Callable[[Family, str, str], bool]

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
CLAUDE_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
IDS = {"agent": re.compile(rf"agent-{UUID}"), "image_gen": re.compile(rf"image_gen/\d{{13}}/{UUID}/12")}
SESSION = re.compile(r"-\d{1,19}")
MOST_STOPS = 5
LEAST_CLAUDE_THINKING = 1024
BILLING = "x-anthropic-billing-header:"


def check_envelope(body: Json) -> None:
    """What stands round the request."""
    if body.get("userAgent") != "antigravity":
        raise violation("user_agent", "userAgent: is not the client's own word")
    kind = body.get("requestType")
    if kind is None:
        raise violation("request_type", "requestType: must be set")
    asked = body.get("requestId")
    if kind == "web_search":
        if asked is not None:
            raise violation("request_id", "requestId: a web search has none")
    elif kind in IDS and not IDS[kind].fullmatch(asked or ""):
        raise violation("request_id", f"requestId: {asked!r} does not look like the client's own")


def check_session(request: Json, kind: str) -> None:
    """The conversation's name, by which its prompt is cached."""
    session = request.get("sessionId")
    if kind == "agent":
        if session is None or not SESSION.fullmatch(session) or int(session) < -(2**63):
            raise violation("request.session_id", f"sessionId: {session!r} does not look like the client's own")
    elif session is not None:
        raise violation("request.session_id", f"sessionId: a request of type {kind} has none")


def check_request(request: Json, model: GoogleModel, kind: str, genuine: Genuine) -> None:
    """The request itself. kind: the envelope's `requestType`; genuine: whether a family signed something."""
    wanted = {"agent": Kind.CHAT, "image_gen": Kind.IMAGE, "web_search": Kind.SEARCH}.get(kind, model.kind)
    if model.kind is not wanted and not (wanted is Kind.CHAT and model.kind is Kind.SEARCH):
        raise clueless(f"a request of type {kind} for {model.id}")
    check_session(request, kind)
    check_system(request, kind)
    check_tools(request, model, kind)
    check_generation(request, model, kind)
    check_contents(request, model, genuine)


def check_system(request: Json, kind: str) -> None:
    system = request.get("systemInstruction")
    if system is None:
        if kind == "agent":
            raise Denied(BARE, 429, blame="no system instruction")
        return
    if system.get("role") != "user" or not system.get("parts"):
        raise violation("request.system_instruction", "systemInstruction: role must be user, with parts")
    for part in system["parts"]:
        if part.keys() != {"text"} or not part["text"].strip():
            raise violation("request.system_instruction", "systemInstruction: every part is a text that is not empty")
        if part["text"].startswith(BILLING):
            raise violation("request.system_instruction", "systemInstruction: the client's billing line is not for us")


def check_tools(request: Json, model: GoogleModel, kind: str) -> None:
    names: list[str] = []
    tools = request.get("tools", [])
    searches = any("googleSearch" in tool for tool in tools)
    declares = any("functionDeclarations" in tool for tool in tools)
    if searches and declares:
        raise Denied("Tool use with function calling is unsupported: google_search and function_declarations.")
    if searches != (kind == "web_search"):
        raise clueless("googleSearch and the type web_search belong together")
    for at, tool in enumerate(tools):
        if len(tool) != 1:
            raise violation(f"request.tools[{at}]", f"request.tools[{at}].tool_type: required one_of must be set")
        if "functionDeclarations" in tool and not tool["functionDeclarations"]:
            raise violation(f"request.tools[{at}]", "functionDeclarations: must not be empty")
        for index, declared in enumerate(tool.get("functionDeclarations", ())):
            where = f"request.tools[{at}].function_declarations[{index}]"
            names.append(check_declared(declared, model.family, where))
    if len(set(names)) != len(names):
        raise Denied(f"Duplicate function declaration found: {next(n for n in names if names.count(n) > 1)}")
    if "toolConfig" in request:
        check_tool_config(request["toolConfig"], names)


def check_declared(declared: Json, family: Family, where: str) -> str:
    name = declared.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise violation(f"{where}.name", f"Invalid function name. Must start with a letter or an underscore: {name!r}")
    if family is Family.CLAUDE and not CLAUDE_NAME.fullmatch(name):
        raise nested(f"tools.0.custom.name: String should match pattern '^{CLAUDE_NAME.pattern}$'")
    if declared.get("description") == "":
        raise violation(f"{where}.description", "description: must not be empty")
    schema = declared.get("parameters")
    if schema is None or str(schema.get("type")).upper() != "OBJECT":
        raise violation(f"{where}.parameters", f"{where}.parameters schema type should be OBJECT")
    check_schema(schema, f"{where}.parameters", fill=family is Family.CLAUDE)
    return name


def check_schema(schema: Json, where: str, *, fill: bool) -> None:
    """fill: every object must ask for something, which VALIDATED mode wants of Claude's."""
    kind = str(schema.get("type", "")).upper()
    if not kind:
        raise violation(where, f"{where}.type: must be set")
    if schema.get("description") == "":
        raise violation(where, f"{where}.description: must not be empty")
    if "enum" in schema and (kind != "STRING" or not schema["enum"] or "" in schema["enum"]):
        raise violation(where, f"{where}.enum: only allowed for STRING type, and no member may be empty")
    if ("items" in schema) != (kind == "ARRAY"):
        raise violation(where, f"{where}.items: missing field" if kind == "ARRAY" else f"{where}.items: not an array")
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items", fill=fill)
    properties, required = schema.get("properties"), schema.get("required")
    if kind != "OBJECT" and (properties is not None or required is not None):
        raise violation(where, f"{where}.properties: only allowed for OBJECT type")
    if properties == {}:
        raise violation(where, f"{where}.properties: should be non-empty for OBJECT type")
    if required is not None and (not required or len(set(required)) != len(required)):
        raise violation(where, f"{where}.required: must be names, each once")
    for name in required or ():
        if name not in (properties or {}):
            raise violation(where, f"{where}.required[0]: property is not defined: {name}")
    if fill and kind == "OBJECT" and not required:
        raise clueless(f"{where} asks for nothing, which Claude's side does not take")
    for name, inner in (properties or {}).items():
        check_schema(inner, f"{where}.properties[{name}]", fill=fill)


def check_tool_config(config: Json, names: list[str]) -> None:
    calling = config.get("functionCallingConfig", {})
    if not names:
        raise Denied("Function calling config is set without function_declarations.")
    if allowed := calling.get("allowedFunctionNames"):
        if calling.get("mode") not in ("ANY", "VALIDATED"):
            raise Denied("Allowed function names should only be set for function calling mode ANY or VALIDATED.")
        if unknown := [name for name in allowed if name not in names]:
            raise Denied(f"Allowed function names contain undeclared functions: {unknown}")


def check_generation(request: Json, model: GoogleModel, kind: str) -> None:
    config = request.get("generationConfig", {})
    limit = config.get("maxOutputTokens")
    if limit is not None and limit < 1:
        raise violation("generation_config.max_output_tokens", f"max_output_tokens must be positive, not {limit}")
    if limit is not None and limit > model.output:
        raise clueless(f"maxOutputTokens: {limit} > {model.output}, the most {model.id} gives")
    if config.get("candidateCount", 1) != 1:
        raise Denied("Multiple candidates is not enabled for this model")
    stops = config.get("stopSequences")
    if stops is not None and not (1 <= len(stops) <= MOST_STOPS and all(stops)):
        raise violation("generation_config.stop_sequences", f"stop_sequences: 1 to {MOST_STOPS}, none of them empty")
    pictures = "IMAGE" in config.get("responseModalities", ())
    if pictures != (kind == "image_gen") or ("imageConfig" in config and not pictures):
        raise Denied("Image output is not enabled for this model, or was not asked for.")
    if "responseSchema" in config:
        if config.get("responseMimeType") != "application/json":
            raise violation("generation_config.response_schema", "response_schema needs application/json")
        if request.get("tools") or model.family is not Family.GEMINI:
            raise Denied("Function calling with a response mime type: 'application/json' is unsupported")
        check_schema(config["responseSchema"], "generation_config.response_schema", fill=False)
    check_thinking(config, request, model)


def check_thinking(config: Json, request: Json, model: GoogleModel) -> None:
    thinking = config.get("thinkingConfig")
    if thinking is None:
        return None
    if model.budgets is None:
        raise Denied(f"Thinking is not enabled for {model.id}")
    if ("thinkingBudget" in thinking) == ("thinkingLevel" in thinking):
        raise clueless("thinkingConfig: one of budget and level, not both and not neither")
    budget, (least, most) = thinking.get("thinkingBudget", -1), model.budgets
    if model.family is Family.CLAUDE:
        return check_claude_thinking(budget, config, request)
    if budget != -1 and not least <= budget <= most:
        raise Denied(f"The thinking budget {budget} is invalid. Please choose a value between {least} and {most}.")
    if budget >= config.get("maxOutputTokens", most + 1):
        raise clueless("thinkingBudget: leaves the answer no room")
    return None


def check_claude_thinking(budget: int, config: Json, request: Json) -> None:
    if budget < LEAST_CLAUDE_THINKING:
        raise nested("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= config.get("maxOutputTokens", 4096):
        raise nested("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if config.get("temperature", 1) != 1:
        raise nested("`temperature` may only be set to 1 when thinking is enabled.")
    if "topK" in config or "topP" in config:
        raise nested("`top_k` and `top_p` must be unset when thinking is enabled.")
    calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
    if calling.get("mode") == "ANY":
        raise nested("Thinking may not be enabled when tool_choice forces tool use.")
