"""JSON schemas as far as Gemini's API takes them; what it cannot express is said in the description.

Wire: ai.google.dev/api/caching#Schema. An unknown keyword is a hard 400 there, so what is not known is left out.
A key right under `properties` is a name, never a keyword, whatever it is called.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

ITEM = None
"""In a path: any member of the array."""

Path: TypeAlias = tuple[str | None, ...]

_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_SCALARS = (
    "minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "default", "examples",
)  # fmt: skip
_HOLD_SCHEMAS = frozenset({
    "properties", "items", "not", "if", "then", "else", "additionalProperties", "patternProperties", "$defs",
    "definitions", "dependentSchemas", "propertyNames", "contains", "unevaluatedProperties", "unevaluatedItems",
})  # fmt: skip
_MOST_ENUM_HINTS = 10
_LONGEST_HINT = 300
_DEEPEST = 24
_MOST_NODES = 4000
"""References that refer to references can grow without end; behind this many nodes each is only named."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A schema that is accepted, and the arguments it asks for that its author never did.

    injected  where such arguments stand in a value of this schema; see `without`
    """

    schema: dict[str, Any]
    injected: tuple[Path, ...] = ()


def clean(schema: Any, *, fill: bool = False) -> Cleaned:
    """The schema of a tool's arguments, in what Gemini's API accepts.

    fill  every object must ask for something (Claude's models, behind this API): one that asks for nothing gets an
          argument of our own

    Raises `RecursionError` for what is nested too deeply to walk.
    """
    cleaner = _Cleaner(schema, fill)
    cleaned = cleaner.node(_object(schema), (), at_root=True)
    if cleaned["type"] != "object":
        cleaner.injected.clear()
        cleaned = cleaner.filled({"type": "object", **_said(cleaned)}, ())
    return Cleaned(cleaned, tuple(cleaner.injected))


def without(value: Any, injected: Sequence[Path]) -> Any:
    """A value of a cleaned schema without the arguments we asked for. `value` itself stays as it is."""
    for path in injected:
        value = _dropped(value, path)
    return value


def _dropped(value: Any, path: Path) -> Any:
    step, rest = path[0], path[1:]
    if step is None:
        return [_dropped(member, rest) for member in value] if isinstance(value, list) else value
    if not isinstance(value, dict) or step not in value:
        return value
    if not rest:
        return {key: member for key, member in value.items() if key != step}
    return {**value, step: _dropped(value[step], rest)}


def _object(schema: Any) -> dict[str, Any]:
    """A tool's schema as an object: what is none becomes one, a bare map of properties is wrapped."""
    if not isinstance(schema, dict):
        return {"type": "object"}
    bare = schema and not (schema.keys() & _HOLD_SCHEMAS) and all(map(_typed, schema.values()))
    return {"type": "object", "properties": schema} if bare else schema


def _typed(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str | list)


def _said(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": schema["description"]} if "description" in schema else {}


class _Cleaner:
    """One walk over one schema; `injected` fills on the way."""

    def __init__(self, root: Any, fill: bool) -> None:
        self.root = root
        self.fill = fill
        self.injected: list[Path] = []
        self._open: list[str] = []
        self._nodes = 0

    def node(self, schema: Any, path: Path, at_root: bool = False) -> dict[str, Any]:
        """One schema, cleaned, and all below it."""
        self._nodes += 1
        if not isinstance(schema, dict):
            return {"type": "string"}
        opened = len(self._open)
        merged, hints = self._resolved(schema)
        merged = dict(self._combined(merged, hints))
        kind = _kind(merged, hints)
        if at_root and kind == "string" and "type" not in merged:
            kind = "object"
        out: dict[str, Any] = {"type": kind}
        described = merged.get("description")
        told = described if isinstance(described, str) else ""
        _values(merged, kind, out, hints)
        _scalars(merged, hints)
        if told := _described(told, hints):
            out["description"] = told
        if merged.get("nullable") is True:
            out["nullable"] = True
        if kind == "array":
            out["items"] = self.node(_first(merged.get("items")), (*path, ITEM))
        if kind == "object":
            self._properties(merged, out, path)
            out = self.filled(out, path)
        del self._open[opened:]
        return out

    def _properties(self, merged: dict[str, Any], out: dict[str, Any], path: Path) -> None:
        given = merged.get("properties")
        properties = given if isinstance(given, dict) else {}
        wanted = merged.get("required")
        required = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
        required += [name for name, value in properties.items() if _insists(value)]
        if properties:
            out["properties"] = {name: self.node(value, (*path, name)) for name, value in properties.items()}
        if kept := [name for name in dict.fromkeys(required) if name in properties]:
            out["required"] = kept

    def filled(self, out: dict[str, Any], path: Path) -> dict[str, Any]:
        """An object that asks for at least one argument, where that is needed."""
        if not self.fill or out.get("required"):
            return out
        properties = out.get("properties", {})
        name = "_" if properties else "reason"
        while name in properties:
            name += "_"
        own: dict[str, Any] = {"type": "boolean"}
        if not properties:
            own = {"type": "string", "description": "In a few words, why you call this"}
        self.injected.append((*path, name))
        return {**out, "properties": {**properties, name: own}, "required": [name]}

    def _resolved(self, schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The schema with its reference's target under its own keys."""
        hints: list[str] = []
        seen = 0
        while isinstance(reference := schema.get("$ref"), str):
            own: dict[str, Any] = {key: value for key, value in schema.items() if key != "$ref"}
            target = _target(self.root, reference)
            name = reference.rsplit("/", 1)[-1].strip("#") or "the whole"
            if target is None:
                hints.append(f"See: {name}")
                return ({"type": "object", **own} if "type" not in own else own), hints
            if reference in self._open or len(self._open) > _DEEPEST or self._nodes > _MOST_NODES or seen > _DEEPEST:
                hints.append(f"See: {name}")
                kept = {key: value for key, value in target.items() if key in ("type", "nullable", "description")}
                return {**kept, **own}, hints
            self._open.append(reference)
            seen += 1
            schema = {**target, **own}
        return schema, hints

    def _combined(self, schema: dict[str, Any], hints: list[str]) -> dict[str, Any]:
        """`allOf`, `anyOf`, `oneOf` and conditions folded into the schema itself."""
        for member in _dicts(schema.get("allOf")):
            part, more = self._resolved(member)
            hints += more
            schema = _merged(schema, self._combined(part, hints) if part.keys() & _COMBINING else part)
        for branch in ("then", "else"):
            if isinstance(way := schema.get(branch), dict) and isinstance(way.get("properties"), dict):
                schema = _merged(schema, {"properties": way["properties"]})
        for keyword in ("anyOf", "oneOf"):
            if choices := _dicts(schema.get(keyword)):
                schema = self._chosen(schema, choices, hints)
        return schema

    def _chosen(self, schema: dict[str, Any], choices: list[dict[str, Any]], hints: list[str]) -> dict[str, Any]:
        """The schema with the best of its alternatives: the one that says most of what it wants."""
        parts = [self._alternative(choice) for choice in choices]
        if any(part.get("type") == "null" for part, _, _ in parts):
            schema = {**schema, "nullable": True}
        real = [found for found in parts if found[0].get("type") != "null" and found[0].keys() & _TELLING]
        if not real:
            return schema
        words = [_words(part) for part, _, _ in real]
        if len(real) > 1 and all(words):
            return _merged(schema, {"type": "string", "enum": list(dict.fromkeys(itertools.chain(*words)))})
        best, more, references = max(real, key=lambda found: _weight(found[0]))  # the first of equals
        self._open += references
        hints += more
        kinds = list(dict.fromkeys(_kind(dict(part), []) for part, _, _ in real))
        if len(kinds) > 1:
            hints.append("Accepts: " + " or ".join(kinds))
        return _merged(schema, best)

    def _alternative(self, choice: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
        """One alternative, what is to be said of it, and the references that led to it."""
        opened = len(self._open)
        part, hints = self._resolved(choice)
        part = self._combined(part, hints)
        references = self._open[opened:]
        del self._open[opened:]
        return part, hints, references


_COMBINING = frozenset({"allOf", "anyOf", "oneOf", "then", "else"})
_TELLING = frozenset({"type", "properties", "items", "enum", "const", "additionalProperties"})


def _merged(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """`schema` with what `part` adds; nothing of its own is overwritten."""
    both = {**part, **schema}
    if isinstance(part.get("properties"), dict) and isinstance(schema.get("properties"), dict):
        both["properties"] = {**schema["properties"], **{
            name: value for name, value in part["properties"].items() if name not in schema["properties"]
        }}  # fmt: skip
    if isinstance(part.get("required"), list) and isinstance(schema.get("required"), list):
        both["required"] = [*schema["required"], *part["required"]]
    return both


def _target(root: Any, reference: str) -> dict[str, Any] | None:
    """What a reference into the same document points at (RFC 6901); None for any other, and for what is not there."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    found = root
    for step in reference.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found if isinstance(found, dict) else None


def _kind(schema: dict[str, Any], hints: list[str]) -> str:
    """The one type of a schema, said or to be guessed. Sets its `nullable` where null was among several."""
    told = schema.get("type")
    if isinstance(told, list):
        kinds = [kind for kind in told if isinstance(kind, str) and kind in _TYPES]
        if "null" in told and "nullable" not in schema:
            schema["nullable"] = True
            hints.append("nullable")
        if len(kinds) > 1:
            hints.append("Accepts: " + " or ".join(kinds))
        told = kinds[0] if kinds else None
    if isinstance(told, str) and (told.lower() in _TYPES or told == "null"):
        return "string" if told == "null" else told.lower()
    if isinstance(schema.get("properties"), dict) or isinstance(schema.get("additionalProperties"), dict):
        return "object"
    if "items" in schema:
        return "array"
    return _kind_of_values(schema)


def _kind_of_values(schema: dict[str, Any]) -> str:
    values = [value for value in _members(schema) if value is not None]
    if values and all(isinstance(value, bool) for value in values):
        return "boolean"
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "integer"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    return "string"


def _members(schema: dict[str, Any]) -> list[Any]:
    told = schema.get("enum")
    if isinstance(told, list):
        return told
    return [schema["const"]] if "const" in schema else []


def _values(schema: dict[str, Any], kind: str, out: dict[str, Any], hints: list[str]) -> None:
    """`enum`: kept for strings, only said for others."""
    members = _members(schema)
    words = [value if isinstance(value, str) else _written(value) for value in members if value not in (None, "")]
    words = list(dict.fromkeys(words))
    if None in members:
        schema.setdefault("nullable", True)
    if 1 <= len(words) <= _MOST_ENUM_HINTS:
        hints.append("Allowed: " + ", ".join(words))
    if words and kind == "string":
        out["enum"] = words


def _scalars(schema: dict[str, Any], hints: list[str]) -> None:
    if schema.get("additionalProperties") is False:
        hints.append("No extra properties allowed")
    hints += [f"{name}: {_written(schema[name])}" for name in _SCALARS if name in schema]
    if "not" in schema:
        hints.append(f"not: {_written(schema['not'])}")


def _written(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_HINT else text[:_LONGEST_HINT] + "…"


def _described(text: str, hints: list[str]) -> str:
    for hint in dict.fromkeys(hints):
        if hint in text:
            continue
        text = f"{text} ({hint})" if text else hint
    return text


def _weight(schema: dict[str, Any]) -> int:
    kind = _kind(dict(schema), [])
    return 3 if kind == "object" else 2 if kind == "array" else 1


def _words(schema: dict[str, Any]) -> list[str]:
    """The values of an alternative that allows nothing but certain strings; else none."""
    members = _members(schema)
    return members if all(isinstance(value, str) for value in members) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []


def _first(items: Any) -> Any:
    return (items[0] if items else None) if isinstance(items, list) else items


def _insists(value: Any) -> bool:
    return isinstance(value, dict) and value.get("required") is True
