"""The rules that keep decoding safe hold for every schema, and released schemas are readable for ever."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
from playhead.accept import genesis
from playhead.codec import Codec
from playhead.commands import Command, Say, command_types
from playhead.errors import UnknownSchema
from playhead.events import Event, RunStarted, ToolResult, event_types, wire_name
from playhead.schema import NAMESPACE, derive
from playhead_schemas import load_history, load_schemas

from tests.codec.samples import CONTEXT, SESSION, sample

SCHEMAS = [*load_schemas().values(), *load_history()]
PRIMITIVE = {"null", "boolean", "long", "double", "bytes", "string"}


def named(schema: Any) -> str:
    return f"{schema['name']}"


def check(schema: Any, known: set[str], inside: tuple[str, ...], *, takes_bytes: bool) -> None:
    """Walk a schema; fail at whatever the rules forbid."""
    if isinstance(schema, str):
        assert schema in PRIMITIVE or schema in known, f"unknown type {schema}"
        assert schema not in inside, f"{schema} contains itself"
        assert not (takes_bytes and schema == "null"), "an item without bytes can be repeated for nothing"
    elif isinstance(schema, list):
        branches = cast("list[Any]", schema)
        assert len(branches) == 2 and "null" in branches, "a union is one type or null"
        for branch in branches:
            check(branch, known, inside, takes_bytes=False)
    elif schema["type"] == "record":
        assert schema["fields"], "a record without fields takes no bytes"
        known.add(schema["name"])
        for field in schema["fields"]:
            check(field["type"], known, (*inside, schema["name"]), takes_bytes=False)
    elif schema["type"] == "array":
        check(schema["items"], known, inside, takes_bytes=True)
    else:
        assert schema["type"] == "fixed" and schema["size"] > 0, f"{schema['type']} is not among our types"
        known.add(schema["name"])


@pytest.mark.parametrize("schema", SCHEMAS, ids=named)
def test_a_schema_has_no_recursion_no_enum_no_map_and_no_item_without_bytes(schema: Any):
    check(schema, set(), (), takes_bytes=False)
    assert schema["namespace"] == NAMESPACE


@pytest.mark.parametrize("bad", ["enum", "map"])
def test_the_walk_sees_what_is_forbidden(bad: str):
    with pytest.raises(AssertionError):
        check({"type": bad, "name": "E", "symbols": [], "values": "null"}, set(), (), takes_bytes=False)
    with pytest.raises(AssertionError, match="without bytes"):
        check({"type": "array", "items": "null"}, set(), (), takes_bytes=False)
    with pytest.raises(AssertionError, match="contains itself"):
        check({"type": "record", "name": "R", "fields": [{"type": ["null", "R"]}]}, set(), (), takes_bytes=False)


@pytest.mark.parametrize("kind", event_types(), ids=lambda kind: kind.__name__)
def test_every_event_begins_with_the_same_stamp(kind: type[Event]):
    """protocol:P60"""
    first, *others = derive(kind)["fields"]
    assert first["name"] == "stamp"
    assert [(field["name"], field["type"]) for field in first["type"]["fields"]] == [
        ("session", "string"),
        ("seq", "long"),
        ("epoch", "long"),
        ("prev", {"type": "fixed", "name": "Hash", "size": 32}),
        ("cause", ["null", "string"]),
        ("at", "long"),
        ("trace", ["null", "string"]),
    ]
    assert "stamp" not in [field["name"] for field in others]


@pytest.mark.parametrize("kind", command_types(), ids=lambda kind: kind.__name__)
def test_no_command_has_a_stamp(kind: type[Command]):
    assert "stamp" not in [field["name"] for field in derive(kind)["fields"]]


def test_no_two_types_have_one_name():
    kinds = (*event_types(), *command_types())
    assert len({kind.__name__ for kind in kinds}) == len(kinds)
    assert len({wire_name(kind) for kind in kinds}) == len(kinds)


def test_no_event_has_a_name_that_browsers_or_the_gateway_use():
    """protocol:P12"""
    assert not {wire_name(kind) for kind in event_types()} & {"error", "open", "message", "ready", "end", "draining"}


# --- evolution: what an older release wrote -------------------------------------------------------------------------


def released_without(kind: type[Any], field: str) -> dict[str, Any]:
    """Give the schema of a release in which a type did not have a field yet."""
    schema = copy.deepcopy(derive(kind))
    assert "default" in next(one for one in schema["fields"] if one["name"] == field)
    schema["fields"] = [one for one in schema["fields"] if one["name"] != field]
    return schema


class OldRelease(Codec):
    """A codec that writes one type as the release before wrote it."""

    def __init__(self, kind: type[Any], schema: dict[str, Any]) -> None:
        super().__init__(history=[schema])
        self._shapes[kind] = next(
            shape for shape in self._by_frame.values() if shape.is_released and shape.kind is kind
        )


def test_an_event_written_before_a_field_existed_has_its_default():
    """protocol:P60"""
    old = released_without(ToolResult, "cached")
    event = sample(ToolResult)
    (record,) = OldRelease(ToolResult, old).seal(genesis(SESSION), [event], CONTEXT)
    reader = Codec(history=[old])
    expected = ToolResult(
        event.run_id, event.step, event.attempt, event.call_id, event.status, event.output, event.elapsed_ms
    )
    assert event.cached and not expected.cached
    assert reader.event(record.value).event == expected
    kind, fields = reader.fields(record.value)
    assert kind is ToolResult
    assert fields["cached"] is False
    assert fields["stamp"] == Codec().fields(Codec().seal(genesis(SESSION), [event], CONTEXT)[0].value)[1]["stamp"]
    assert next(iter(fields)) == "stamp"


def test_a_command_written_before_a_field_existed_is_read_strictly_and_has_its_default():
    old = released_without(Say, "trace")
    value = OldRelease(Say, old).encode(sample(Say))
    reader = Codec(history=[old])
    found = reader.command(value)
    assert isinstance(found, Say)
    assert found.trace is None
    assert found.content == sample(Say).content


def test_without_its_history_an_older_record_is_of_an_unknown_schema():
    old = released_without(ToolResult, "cached")
    (record,) = OldRelease(ToolResult, old).seal(genesis(SESSION), [sample(ToolResult)], CONTEXT)
    with pytest.raises(UnknownSchema):
        Codec(history=[]).event(record.value)


def test_a_schema_of_a_type_that_is_no_more_is_passed_over():
    gone = {"type": "record", "name": "Gone", "namespace": NAMESPACE, "fields": [{"name": "a", "type": "string"}]}
    Codec(history=[gone])


def test_a_schema_in_the_history_that_is_still_current_changes_nothing():
    reader = Codec(history=[derive(RunStarted)])
    (record,) = Codec().seal(genesis(SESSION), [sample(RunStarted)], CONTEXT)
    assert reader.event(record.value).event == sample(RunStarted)
