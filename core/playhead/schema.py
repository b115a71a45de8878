"""Avro schemas derived from the event and command classes. Pure.

The rules keep decoding safe (`docs/decisions/0002-avro-without-recursion.md`): no recursion, no enums, no arrays of
things that take no bytes, free JSON carried as a string.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from playhead.events import Hash, Stamp, event_types

__all__ = ["NAMESPACE", "avro_name", "derive", "field_kinds"]

NAMESPACE = "dev.playhead"

Schema = dict[str, Any]


def avro_name(kind: type[object]) -> str:
    """Give the full name of a type's record."""
    return f"{NAMESPACE}.{kind.__name__}"


def field_kinds(kind: type[object]) -> Iterator[tuple[str, str, Any, Field[Any]]]:
    """Yield a class's fields: Python name, wire name, type, and the dataclass field."""
    hints = get_type_hints(kind)
    for field in fields(cast("Any", kind)):
        yield field.name, field.name.rstrip("_"), hints[field.name], field


def derive(kind: type[object]) -> Schema:
    """Derive the Avro record of an event (which begins with the stamp) or of a command."""
    seen: set[object] = set()
    record = _record(kind, seen)
    if kind in event_types():
        stamp = {"name": "stamp", "type": _record(Stamp, seen)}
        record["fields"] = [stamp, *record["fields"]]
    return record


def _record(kind: type[object], seen: set[object]) -> Schema:
    seen.add(kind)
    doc = (kind.__doc__ or "").strip().split("\n")[0]
    return {
        "type": "record",
        "name": kind.__name__,
        "namespace": NAMESPACE,
        "doc": doc,
        "fields": [_field(wire, hint, field, seen) for _, wire, hint, field in field_kinds(kind)],
    }


def _field(wire: str, hint: Any, field: Field[Any], seen: set[object]) -> Schema:
    schema: Schema = {"name": wire, "type": _type(hint, seen)}
    optional = NoneType in get_args(hint)
    if field.default is not MISSING:
        default: Any = [] if field.default == () else field.default
        if is_dataclass(default) and not isinstance(default, type):
            default = {name.rstrip("_"): getattr(default, name) for name in (f.name for f in fields(default))}
        if optional and default is not None:
            schema["type"] = schema["type"][::-1]  # Avro: a default is of the union's first branch
        schema["default"] = default
    return schema


def _type(hint: Any, seen: set[object]) -> Any:
    if hint is Hash:
        return "Hash" if Hash in seen else (seen.add(Hash) or {"type": "fixed", "name": "Hash", "size": 32})
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    plain = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}.get(hint)
    if plain is not None:
        return plain
    origin = get_origin(hint)
    if origin in (UnionType, Union):
        (branch,) = (arm for arm in get_args(hint) if arm is not NoneType)
        return ["null", _type(branch, seen)]
    if origin is tuple:
        return {"type": "array", "items": _type(get_args(hint)[0], seen)}
    if is_dataclass(hint):
        inner = cast("type[object]", hint)
        return inner.__name__ if inner in seen else _record(inner, seen)
    raise TypeError(f"no Avro type for {hint!r}")
