from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_proxy.dialects.schema import ITEM, clean, without
from tests.mcp_proxy.dialects.fixtures import NAMES, body
from tests.mcp_proxy.dialects.gemini.rules import check_schema

ODD_NAMES = [
    "title", "format", "const", "properties", "required", "enum", "default", "items", "$ref", "type", "not", "_",
    "reason", "x-y", "path",
]  # fmt: skip


def cleaned(schema: Any, *, fill: bool = False) -> dict[str, Any]:
    """A schema that must be accepted, stay as it is when cleaned again, and leave its source alone."""
    before = copy.deepcopy(schema)
    out = clean(schema, fill=fill).schema
    assert schema == before
    check_schema(out, fill=fill)
    assert clean(out, fill=fill).schema == out
    return out


def of(schema: Any, *, fill: bool = False) -> Any:
    """What becomes of a property with this schema."""
    return cleaned({"type": "object", "properties": {"p": schema}, "required": ["p"]}, fill=fill)["properties"]["p"]


def test_the_sample_comes_out_as_written_down() -> None:
    schema = {
        "type": "object",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "additionalProperties": False,
        "properties": {
            "path": {"type": "string", "minLength": 1, "description": "File"},
            "mode": {"anyOf": [{"type": "string", "enum": ["r", "w"]}, {"type": "null"}], "default": None},
            "title": {"type": ["string", "null"]},
        },
        "required": ["path", "gone"],
    }
    assert cleaned(schema, fill=True) == {
        "type": "object",
        "description": "No extra properties allowed",
        "properties": {
            "path": {"type": "string", "description": "File (minLength: 1)"},
            "mode": {
                "type": "string",
                "enum": ["r", "w"],
                "nullable": True,
                "description": "Allowed: r, w (default: null)",
            },
            "title": {"type": "string", "nullable": True, "description": "nullable"},
        },
        "required": ["path"],
    }


@pytest.mark.parametrize("schema", [None, True, [], "object", 7, {}, {"type": "array"}, {"type": "string"}])
def test_arguments_are_always_an_object(schema: Any) -> None:
    assert cleaned(schema) == {"type": "object"}
    assert clean(schema, fill=True).injected == (("reason",),)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        # 1: repairs
        (True, {"type": "string"}),
        ({"type": "object", "properties": 7}, {"type": "object"}),
        # 3, 4, 5: values
        ({"const": "a"}, {"type": "string", "enum": ["a"], "description": "Allowed: a"}),
        ({"type": "string", "enum": ["a", "", None]}, {
            "type": "string", "enum": ["a"], "nullable": True, "description": "Allowed: a"}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "Allowed: 1, 2"}),
        ({"enum": [1, 2.5]}, {"type": "number", "description": "Allowed: 1, 2.5"}),
        ({"const": True}, {"type": "boolean", "description": "Allowed: true"}),
        ({"enum": ["a", 1]}, {"type": "string", "enum": ["a", "1"], "description": "Allowed: a, 1"}),
        ({"type": "integer", "enum": [1]}, {"type": "integer", "description": "Allowed: 1"}),
        ({"enum": [str(n) for n in range(11)]}, {"type": "string", "enum": [str(n) for n in range(11)]}),
        # 6, 7, 8: said, not enforced
        ({"type": "object", "additionalProperties": False}, {
            "type": "object", "description": "No extra properties allowed"}),
        ({"type": "integer", "minimum": 1, "maximum": 9, "description": "Count"}, {
            "type": "integer", "description": "Count (minimum: 1) (maximum: 9)"}),
        ({"type": "string", "not": {"const": "x"}}, {"type": "string", "description": 'not: {"const": "x"}'}),
        # 9: conditions
        ({"type": "object", "properties": {"a": {"type": "string"}}, "if": {"properties": {"a": {"const": "x"}}},
          "then": {"properties": {"b": {"type": "integer"}, "a": {"type": "integer"}}},
          "else": {"properties": {"c": {"type": "integer"}}}},
         {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"},
                                           "c": {"type": "integer"}}}),
        # 10: allOf
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "integer"}}, "required": ["b", "gone"]}]},
         {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
          "required": ["a", "b"]}),
        # 11: alternatives
        ({"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "string"}}}],
          "description": "Either"},
         {"type": "object", "properties": {"a": {"type": "string"}},
          "description": "Either (Accepts: string or object)"}),
        ({"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"}}, {"type": "string"}]},
         {"type": "array", "items": {"type": "integer"}, "nullable": True,
          "description": "Accepts: array or string"}),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, {
            "type": "string", "enum": ["a", "b"], "description": "Allowed: a, b"}),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
          "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
         {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
        # 12: several types
        ({"type": ["null", "integer", "string"]}, {
            "type": "integer", "nullable": True, "description": "nullable (Accepts: integer or string)"}),
        ({"type": "null"}, {"type": "string"}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "any"}, {"type": "string"}),
        # 13: what is only for other readers
        ({"type": "string", "title": "T", "$comment": "c", "readOnly": True, "x-a": 1, "xml": {}, "contains": {}},
         {"type": "string"}),
        # 14: items
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"items": [{"type": "integer"}, {"type": "string"}]}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": "array", "items": []}, {"type": "array", "items": {"type": "string"}}),
        # 15: required
        ({"type": "object", "properties": {"a": {}}, "required": "a"}, {
            "type": "object", "properties": {"a": {"type": "string"}}}),
        ({"type": "object", "properties": {"a": {"type": "string", "required": True}}}, {
            "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
        # 16: a type where none is told
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ({"additionalProperties": {"type": "string"}}, {"type": "object"}),
        ({"description": "Anything"}, {"type": "string", "description": "Anything"}),
    ],
)  # fmt: skip
def test_each_rule(schema: Any, expected: dict[str, Any]) -> None:
    assert of(schema) == expected


def test_a_bare_map_of_properties_is_wrapped() -> None:
    assert cleaned({"title": {"type": "string"}, "n": {"type": ["integer", "null"]}})["properties"].keys() == {
        "title",
        "n",
    }
    assert cleaned({"items": {"type": "string"}}) == {"type": "object"}


def test_a_reference_becomes_what_it_points_at() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/odd~1name~0", "description": "Mine"},
            "b": {"$ref": "https://else.example/thing"},
            "c": {"$ref": "#/$defs/gone", "type": "integer"},
        },
        "$defs": {"odd/name~": {"type": "integer", "description": "Theirs", "minimum": 0}},
    }
    assert cleaned(schema)["properties"] == {
        "a": {"type": "integer", "description": "Mine (minimum: 0)"},
        "b": {"type": "object", "description": "See: thing"},
        "c": {"type": "integer", "description": "See: gone"},
    }


def test_a_recursive_reference_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "string"}}}
    schema = {"type": "object", "properties": {"head": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    head = cleaned(schema)["properties"]["head"]
    assert head["properties"]["next"] == {"type": "object", "description": "See: node"}
    assert cleaned({"$ref": "#"}) == {"type": "object", "description": "See: the whole"}
    loop = {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "properties": {"x": {"$ref": "#/$defs/a"}},
    }
    assert cleaned(loop)["properties"]["x"]["description"].startswith("See: ")


def test_an_alternative_does_not_stand_in_anothers_way() -> None:
    schema = {
        "properties": {"x": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}},
        "$defs": {
            "a": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/b"}}},
            "b": {"type": "object", "properties": {"deep": {"type": "integer"}}},
        },
    }
    inner = cleaned(schema)["properties"]["x"]["properties"]["inner"]
    assert inner == {"type": "object", "properties": {"deep": {"type": "integer"}}}


def test_references_that_double_stay_small() -> None:
    definitions = {
        f"d{n}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/d{n + 1}"} for side in "ab"}}
        for n in range(40)
    }
    out = clean({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": definitions}, fill=True)
    assert len(json.dumps(out.schema)) < 2_000_000


def test_an_object_that_asks_for_nothing_asks_for_something_of_ours() -> None:
    schema = {
        "type": "object",
        "properties": {
            "options": {"type": "object"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"_": {"type": "string"}}}},
        },
    }
    out = clean(schema, fill=True)
    check_schema(out.schema, fill=True)
    assert set(out.injected) == {("options", "reason"), ("rows", ITEM, "__"), ("_",)}
    given = {"_": True, "options": {"reason": "why"}, "rows": [{"_": "theirs", "__": True}, {"__": True}, 7]}
    kept = copy.deepcopy(given)
    assert without(given, out.injected) == {"options": {}, "rows": [{"_": "theirs"}, {}, 7]}
    assert given == kept
    assert clean(schema).injected == ()


@pytest.mark.parametrize("value", [{}, {"options": 7, "rows": {}}, {"rows": None}, [], None, "x"])
def test_what_the_model_left_out_needs_no_taking_away(value: Any) -> None:
    assert without(value, (("options", "reason"), ("rows", ITEM, "__"), ("_",))) == value


names = st.sampled_from(ODD_NAMES)
leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "null", "boolean", ["string", "null"], "nonsense", 7]),
        "description": st.sampled_from(["", "Said", 7]),
        "enum": st.lists(st.sampled_from(["a", "", 1, 2.5, None, True]), max_size=12),
        "const": st.sampled_from(["a", 1, None]),
        "default": st.sampled_from([None, 1, "x", {"type": "integer"}]),
        "minimum": st.integers(0, 3),
        "format": st.just("date"),
        "title": st.just("T"),
        "required": st.sampled_from([True, ["a"], "a", None]),
        "nullable": st.sampled_from([True, False, "x"]),
        "$ref": st.sampled_from(["#/$defs/a", "#/$defs/gone", "#", "x", 7]),
        "not": st.just({"type": "string"}),
    },
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    held = st.dictionaries(names, inner, max_size=4)
    several = st.lists(inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["array", "null"]]),
            "properties": held | st.none(),
            "required": st.lists(names | st.integers(0, 1), max_size=3),
            "items": inner | several,
            "anyOf": several,
            "oneOf": several,
            "allOf": several,
            "if": inner,
            "then": inner,
            "else": inner,
            "additionalProperties": st.booleans() | inner,
            "patternProperties": held,
            "$defs": st.fixed_dictionaries({"a": inner}),
            "x-odd": inner,
        },
    )


schemas = st.recursive(leaves | st.booleans() | st.none(), grown, max_leaves=12)


@settings(deadline=None, max_examples=60)
@example({"enum": ["a", 1, None], "format": "date", "additionalProperties": False}, True)
@given(schemas, st.booleans())
def test_whatever_comes_is_accepted_and_cleaning_twice_changes_nothing(schema: Any, fill: bool) -> None:
    cleaned(schema, fill=fill)
    of(schema, fill=fill)  # most schemas are a property's: as a tool's own they become a bare object


plain = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}),
    lambda inner: st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(names, inner)}),
    max_leaves=10,
)


def named(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: named(value) for name, value in schema.get("properties", {}).items()}


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, plain, max_size=5))
def test_no_name_is_ever_touched(properties: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": properties}
    assert named(cleaned(schema)) == named(schema)


def recorded_schemas() -> list[dict[str, Any]]:
    """The schemas of all tools that a real client sends, each once."""
    tools = [tool for name in NAMES for tool in json.loads(body(name)).get("tools", [])]
    return list(
        {json.dumps(tool["input_schema"]): tool["input_schema"] for tool in tools if "input_schema" in tool}.values()
    )


@pytest.mark.parametrize("fill", [False, True])
def test_recorded_tools_keep_every_name(fill: bool) -> None:
    found = recorded_schemas()
    assert len(found) > 20
    for schema in found:
        assert cleaned(schema, fill=fill).get("properties", {}).keys() >= schema.get("properties", {}).keys()
