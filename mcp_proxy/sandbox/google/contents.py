"""The rules for `contents`: who speaks, of what, that calls are answered, and whose signatures they carry."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TypeAlias

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.models import Family, GoogleModel
from mcp_proxy.sandbox.google.signing import SENTINELS, of_call
from mcp_proxy.sandbox.google.wrongs import Denied, clueless, nested, violation

Genuine: TypeAlias = Callable[[Family, str, str], bool]

DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
ORDER = ("thought", "text", "functionCall")
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
UNPAIRED = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."


def check_contents(request: Json, model: GoogleModel, genuine: Genuine) -> None:
    """Raises `Denied` at the first fault."""
    contents = request.get("contents")
    if not contents:
        raise Denied("at least one contents field is required")
    check_roles(contents, model.family)
    ids: set[str] = set()
    waiting: list[Json] = []
    for at, content in enumerate(contents):
        where = f"request.contents[{at}]"
        parts = content.get("parts")
        if not parts:
            raise violation(where, f"{where}.parts: must not be empty")
        kinds = [check_part(part, content["role"], model, f"{where}.parts[{i}]") for i, part in enumerate(parts)]
        if content["role"] == "user":
            check_answers(parts, kinds, waiting)
            waiting = []
            continue
        if [ORDER.index(kind) for kind in kinds] != sorted(ORDER.index(kind) for kind in kinds):
            raise (
                nested(f"messages.{at}: thoughts come first and calls last")
                if model.family is Family.CLAUDE
                else (violation(where, f"{where}.parts: thoughts come first and calls last"))
            )
        waiting = [part["functionCall"] for part in parts if "functionCall" in part]
        for call in waiting:
            if call["id"] in ids:
                raise clueless(f"{where}: the id {call['id']} is used twice")
            ids.add(call["id"])
        check_signatures(parts, model.family, genuine, at)
    if model.family is Family.CLAUDE:
        check_round(contents, thinks="thinkingConfig" in request.get("generationConfig", {}))


def check_roles(contents: list[Json], family: Family) -> None:
    roles = [content.get("role") for content in contents]
    for at, role in enumerate(roles):
        if role not in ("user", "model"):
            raise Denied(f"Please use a valid role: user, model. contents[{at}] has {role!r}")
    if roles[0] != "user":
        raise Denied("Please ensure that the first content is of the user.")
    if any(one == other for one, other in itertools.pairwise(roles)):
        raise clueless("contents: two of one role in a row")
    if roles[-1] != "user":
        raise nested(PREFILL) if family is Family.CLAUDE else clueless("contents: the last one is not the user's")


def check_part(part: Json, role: str, model: GoogleModel, where: str) -> str:
    """Which kind of part it is."""
    data = [name for name in DATA if name in part]
    if len(data) != 1:
        raise violation(f"{where}.data", f"{where}.data: required oneof field 'data' must have one initialized field")
    kind = data[0]
    if role == "user" and (len(part) > 1 or kind == "functionCall"):
        raise clueless(f"{where}: the user does not think, sign or call")
    if role == "model" and kind not in ("text", "functionCall"):
        raise clueless(f"{where}: {kind} is not the model's to say")
    match kind:
        case "text":
            if not part["text"].strip() and not part.get("thought"):
                raise (
                    nested("messages: text content blocks must be non-empty")
                    if model.family is Family.CLAUDE
                    else (clueless(f"{where}: an empty text"))
                )
        case "inlineData" | "fileData":
            check_media(part[kind], kind, model, where)
        case "functionCall" | "functionResponse":
            check_use(part[kind], kind, where)
    return "thought" if part.get("thought") else kind


def check_media(media: Json, kind: str, model: GoogleModel, where: str) -> None:
    if not media.get("mimeType") or not media.get("data" if kind == "inlineData" else "fileUri"):
        raise violation(where, f"{where}.{kind}: needs a type and something in it")
    if not model.sees:
        raise Denied(f"Image input is not enabled for {model.id}")


def check_use(use: Json, kind: str, where: str) -> None:
    if not NAME.fullmatch(use.get("name", "")):
        raise violation(where, f"Invalid function name at {where}: {use.get('name')!r}")
    if not TOOL_ID.fullmatch(use.get("id", "")):
        raise violation(where, f"{where}.{kind}.id: {use.get('id')!r} does not match '^[a-zA-Z0-9_-]+$'")
    given = use.get("args" if kind == "functionCall" else "response")
    if given is None:
        raise violation(where, f"{where}.{kind}: says nothing")
    if kind == "functionResponse" and given.keys() not in ({"result"}, {"error"}):
        raise violation(where, f"{where}.{kind}.response: holds a result or an error")


def check_answers(parts: list[Json], kinds: list[str], calls: list[Json]) -> None:
    """A turn behind calls begins with their answers: all of them, in order."""
    answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if len(answers) != len(calls) or kinds[: len(answers)] != ["functionResponse"] * len(answers):
        raise Denied(UNPAIRED)
    for answer, call in zip(answers, calls, strict=True):
        if (answer["id"], answer["name"]) != (call["id"], call["name"]):
            raise Denied(UNPAIRED, blame=f"{answer['id']} {answer['name']} answers {call['id']} {call['name']}")


def check_signatures(parts: list[Json], family: Family, genuine: Genuine, at: int) -> None:
    match family:
        case Family.CLAUDE:
            check_claude(parts, genuine, at)
        case Family.GEMINI:
            check_gemini(parts, genuine, at)
        case Family.GPT:
            if any("thoughtSignature" in part or part.get("thought") for part in parts):
                raise clueless(f"contents[{at}]: this model neither thinks nor signs")


def check_claude(parts: list[Json], genuine: Genuine, at: int) -> None:
    for place, part in enumerate(parts):
        signature = part.get("thoughtSignature")
        if not part.get("thought"):
            if signature is not None:
                raise nested(f"messages.{at}.content.{place}.signature: Extra inputs are not permitted")
        elif not signature:
            raise nested(f"messages.{at}.content.{place}.thinking.signature: Field required")
        elif not genuine(Family.CLAUDE, part["text"], signature):
            raise nested(f"messages.{at}.content.{place}: Invalid `signature` in `thinking` block")
    if parts[-1].get("thought"):
        raise nested(f"messages.{at}: The final block in an assistant message cannot be `thinking`.")


def check_gemini(parts: list[Json], genuine: Genuine, at: int) -> None:
    first = True
    for place, part in enumerate(parts):
        signature = part.get("thoughtSignature")
        if part.get("thought"):
            raise clueless(f"contents[{at}].parts[{place}]: thoughts do not go back, only their signatures do")
        call = part.get("functionCall")
        if call is not None and first and not signature:
            raise Denied("Function call is missing a thought_signature in functionCall parts.")
        first = first and call is None
        material = of_call(call) if call is not None else ""
        if signature and not (genuine(Family.GEMINI, material, signature) or (call and signature in SENTINELS)):
            raise Denied("Thought signature is not valid")


def check_round(contents: list[Json], *, thinks: bool) -> None:
    """Claude, while it thinks, wants a round of calls under way to hold the thoughts that led to it."""
    spoken: list[Json] = []
    at = 0
    for index in range(len(contents) - 1, -1, -1):
        content = contents[index]
        if content["role"] == "model":
            spoken, at = [*content["parts"], *spoken], index
        elif not any("functionResponse" in part for part in content["parts"]):
            break
    if spoken and thinks and not any(part.get("thought") for part in spoken):
        found = "tool_use" if "functionCall" in spoken[0] else "text"
        raise nested(
            f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block."
        )
    if not thinks and any(part.get("thought") for content in contents for part in content["parts"]):
        raise clueless("contents: thoughts go back to a model that shall not think")
