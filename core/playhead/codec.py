"""Between our types and stored bytes: Avro, and the frame that names its schema.

A value is either in Avro's single-object encoding (`C3 01`, 8 bytes of schema fingerprint, body) or, where a registry
numbers the schemas, in Confluent's wire format (`00`, 4 bytes of schema id, body). Readers take both.

Whatever bytes come in, what comes out is a value or `Undecodable`. What strangers write is decoded strictly: it must be
the very bytes that we would have written, which refuses all that fastavro is known to let pass (a negative union
index, a negative length, bytes after the end; see `docs/decisions/0002-avro-without-recursion.md`), and what claims to
be JSON text must be JSON.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from io import BytesIO
from types import NoneType
from typing import Any, cast, get_args

from fastavro import parse_schema
from fastavro import schemaless_reader as read_body  # pyright: ignore[reportUnknownVariableType] - IO[Unknown]
from fastavro import schemaless_writer as write_body  # pyright: ignore[reportUnknownVariableType] - IO[Unknown]
from fastavro.schema import fingerprint, to_parsing_canonical_form
from playhead_schemas import load_history, load_schemas

from playhead.accept import Head, Record, hash_of
from playhead.canonical import check_json
from playhead.commands import Command, command_types
from playhead.errors import Misconfigured, TooLarge, Undecodable, UnknownSchema
from playhead.events import Event, Hash, Json, Stamp, Stamped, event_types
from playhead.ids import Seq, SessionId
from playhead.schema import avro_name, field_kinds

__all__ = ["RECORD_BYTES_MAX", "Codec", "Context", "Fields", "json_fields", "record_of"]

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"
SINGLE_OBJECT_BYTES = 10
CONFLUENT_BYTES = 5

NOT_AVRO = (EOFError, IndexError, ValueError, TypeError, OverflowError, KeyError, struct.error, MemoryError)
"""What fastavro raises on bytes that are not of the schema (`ValueError` includes `UnicodeDecodeError`)."""

Fields = dict[str, Any]

RECORD_BYTES_MAX = 900_000
"""The largest record value in bytes. Kafka's default for a whole batch is 1 MiB."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the records of one append have in common."""

    session: SessionId
    epoch: int
    cause: str | None
    at: int
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One type of ours: how to take it apart for Avro and put it together again."""

    kind: type[Any]
    schema: Any
    frame: bytes
    take_apart: Callable[[Any], Fields]
    put_together: Callable[[Fields], Any]
    json_paths: tuple[tuple[str, ...], ...] = ()
    is_released: bool = False
    """Whether this is an older release's schema, which may lack fields that the type has now."""


class Codec:
    """Encodes and decodes every record. Made once a process: it parses all schemas.

    `registry` maps a record's full name to the id that a schema registry gave its current schema. `history` are the
    schemas of older releases, by default all that there were.
    """

    def __init__(
        self, registry: Mapping[str, int] | None = None, history: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        current = load_schemas()
        self._shapes: dict[type[object], Shape] = {}
        self._by_frame: dict[bytes, Shape] = {}
        for kind in (*event_types(), *command_types()):
            schema, known_by = _parse(current[kind.__name__])
            frame = SINGLE_OBJECT + known_by
            shape = Shape(kind, schema, frame, _take_apart(kind), _put_together(kind), _json_paths(kind))
            self._by_frame[frame] = shape
            if registry is not None:
                framed = CONFLUENT + struct.pack(">i", _registered(registry, avro_name(kind)))
                shape = replace(shape, frame=framed)
                self._by_frame[framed] = shape
            self._shapes[kind] = shape
        for released in load_history() if history is None else history:
            schema, known_by = _parse(released)
            newest = next((s for k, s in self._shapes.items() if k.__name__ == released["name"]), None)
            frame = SINGLE_OBJECT + known_by
            if newest is not None and frame not in self._by_frame:
                self._by_frame[frame] = replace(newest, schema=schema, frame=frame, is_released=True)

    def seal(self, head: Head, events: Sequence[Event], context: Context) -> list[Record]:
        """Chain events on to a head: the records to append. Raises `TooLarge`."""
        records: list[Record] = []
        seq, prev = int(head.seq), head.hash
        stamp: Fields = {
            "session": context.session,
            "epoch": context.epoch,
            "cause": context.cause,
            "at": context.at,
            "trace": context.trace,
        }
        for event in events:
            seq += 1
            stamp["seq"], stamp["prev"] = seq, prev
            shape = self._shapes[type(event)]
            fields = shape.take_apart(event)
            fields["stamp"] = stamp
            value = _write(shape, fields)
            if len(value) > RECORD_BYTES_MAX:
                raise TooLarge(
                    f"{shape.kind.__name__} of {len(value)} bytes", f"a record has at most {RECORD_BYTES_MAX}"
                )
            record = Record(Seq(seq), prev, hash_of(value), value)
            records.append(record)
            prev = record.hash
        return records

    def event(self, value: bytes) -> Stamped:
        """Decode a record of a session's log. Raises `Undecodable`, `UnknownSchema`."""
        shape, fields = self._read(value)
        try:
            stamp = Stamp(**fields.pop("stamp"))
        except KeyError:
            raise Undecodable(f"a {shape.kind.__name__} is not an event of a session") from None
        return Stamped(stamp, shape.put_together(fields))

    def fields(self, value: bytes) -> tuple[type[object], Fields]:
        """Decode a record to plain fields by wire name, `stamp` among them, for projections. Raises `Undecodable`.

        A field that came after the record was written has its default, as it has in `event`.
        """
        shape, fields = self._read(value)
        if not shape.is_released:
            return shape.kind, fields
        whole = shape.take_apart(shape.put_together(fields))
        return shape.kind, {"stamp": fields["stamp"], **whole} if "stamp" in fields else whole

    def kind(self, value: bytes) -> type[object]:
        """Tell a record's type by its frame alone, nothing decoded. Raises `Undecodable`, `UnknownSchema`."""
        return self._shape(value).kind

    def encode(self, command: Command) -> bytes:
        """Encode a command. Raises `TooLarge`."""
        shape = self._shapes[type(command)]
        value = _write(shape, shape.take_apart(command))
        if len(value) > RECORD_BYTES_MAX:
            raise TooLarge(f"{shape.kind.__name__} of {len(value)} bytes", f"a message has at most {RECORD_BYTES_MAX}")
        return value

    def command(self, value: bytes) -> Command:
        """Decode a command, strictly. Raises `Undecodable`, `UnknownSchema`."""
        if len(value) > RECORD_BYTES_MAX:
            raise Undecodable(f"{len(value)} bytes are more than any message of ours has")
        shape, fields = self._read(value)
        if "stamp" in fields:
            raise Undecodable(f"a {shape.kind.__name__} is an event, not a command")
        if _write(shape, fields) != value:
            raise Undecodable(f"not the canonical encoding of a {shape.kind.__name__}")
        command = cast("Command", shape.put_together(fields))
        _check_json(shape, command)
        return command

    def _shape(self, value: bytes) -> Shape:
        shape = self._by_frame.get(value[: _frame_bytes(value)])
        if shape is None:
            raise UnknownSchema(f"unknown schema in frame {value[:SINGLE_OBJECT_BYTES].hex()}")
        return shape

    def _read(self, value: bytes) -> tuple[Shape, Fields]:
        shape = self._shape(value)
        body = BytesIO(value)
        body.seek(len(shape.frame))
        try:
            fields = read_body(body, shape.schema, None)
        except NOT_AVRO as error:
            raise Undecodable(f"not a {shape.kind.__name__}: {type(error).__name__}: {error}") from error
        return shape, cast("Fields", fields)


def record_of(value: bytes) -> Record:
    """Read a stored value's place in the chain, whatever its schema: seq and prev are in the stamp that comes first.

    Raises `Undecodable`: such a value is void for every reader.
    """
    try:
        at = _frame_bytes(value)
        length, at = _varint(value, at)
        if length < 0:
            raise Undecodable("the stamp's session has a negative length")
        at += length
        seq, at = _varint(value, at)
        _, at = _varint(value, at)
        prev = value[at : at + 32]
        if len(prev) != 32:
            raise Undecodable("the value ends within its stamp")
    except IndexError:
        raise Undecodable("the value ends within its stamp") from None
    return Record(Seq(seq), Hash(prev), hash_of(value), value)


def _frame_bytes(value: bytes) -> int:
    if value[:2] == SINGLE_OBJECT and len(value) >= SINGLE_OBJECT_BYTES:
        return SINGLE_OBJECT_BYTES
    if value[:1] == CONFLUENT and len(value) >= CONFLUENT_BYTES:
        return CONFLUENT_BYTES
    raise Undecodable(f"{len(value)} bytes in no frame that we know: {value[:12].hex()}")


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80 and number < 1 << 64:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise Undecodable("a number of more than 64 bits")


def _parse(schema: Mapping[str, Any]) -> tuple[Any, bytes]:
    canonical = to_parsing_canonical_form(cast("Any", schema))
    return parse_schema(cast("Any", schema), {}), bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


def _registered(registry: Mapping[str, int], name: str) -> int:
    try:
        return registry[name]
    except KeyError:
        raise Misconfigured(f"the schema registry has no id for {name}: register the schemas first") from None


def _write(shape: Shape, fields: Fields) -> bytes:
    body = BytesIO()
    body.write(shape.frame)
    write_body(body, shape.schema, fields)
    return body.getvalue()


def _json_paths(kind: type[object]) -> tuple[tuple[str, ...], ...]:
    """List where a type holds JSON text: the names that lead there."""
    paths: list[tuple[str, ...]] = []
    for name, _, hint, _ in field_kinds(kind):
        inner = _record_in(hint)
        if _is_json(hint):
            paths.append((name,))
        elif inner is not None and not _is_tuple(hint):
            paths += [(name, *path) for path in _json_paths(inner)]
    return tuple(paths)


def _check_json(shape: Shape, command: object) -> None:
    """Refuse JSON text that is none, or too deep: spliced into a message or a frame, it would break what is around."""
    for path in shape.json_paths:
        text: Any = command
        for name in path:
            text = None if text is None else getattr(text, name)
        if text is None:
            continue
        try:
            check_json(text)
        except Undecodable as error:
            raise Undecodable(f"{'.'.join(path)} of a {shape.kind.__name__} is no JSON of ours: {error}") from error


def _is_json(hint: Any) -> bool:
    return hint is Json or Json in get_args(hint)


def _take_apart(kind: type[object]) -> Callable[[Any], Fields]:
    """Compile the function that gives a value's fields by wire name: on the path of every delta, so no loop."""
    parts: list[str] = []
    names: dict[str, Any] = {}
    for place, (name, wire, hint, _) in enumerate(field_kinds(kind)):
        inner = _record_in(hint)
        source = f"value.{name}"
        if inner is not None:
            names[f"inner_{place}"] = _take_apart(inner)
            many = _is_tuple(hint)
            source = f"[inner_{place}(x) for x in {source}]" if many else f"inner_{place}({source})"
            if not many and NoneType in get_args(hint):
                source = f"None if value.{name} is None else {source}"
        parts.append(f"{wire!r}: {source}")
    return cast("Callable[[Any], Fields]", eval(f"lambda value: {{{', '.join(parts)}}}", names))


def _put_together(kind: type[object]) -> Callable[[Fields], Any]:
    """Compile the function that makes a value of its fields. Fields that a writer did not know take their default."""
    parts: list[str] = []
    names: dict[str, Any] = {"kind": kind, "tuple": tuple}
    for place, (name, wire, hint, field) in enumerate(field_kinds(kind)):
        inner = _record_in(hint)
        names[f"default_{place}"] = field.default
        source = f"fields[{wire!r}]"
        if inner is not None:
            names[f"inner_{place}"] = _put_together(inner)
            if _is_tuple(hint):
                source = f"tuple(inner_{place}(x) for x in {source})"
            elif NoneType in get_args(hint):
                source = f"None if {source} is None else inner_{place}({source})"
            else:
                source = f"inner_{place}({source})"
        elif _is_tuple(hint):
            source = f"tuple({source})"
        parts.append(f"{name}={source} if {wire!r} in fields else default_{place}")
    return cast("Callable[[Fields], Any]", eval(f"lambda fields: kind({', '.join(parts)})", names))


def _is_tuple(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is tuple


def _record_in(hint: Any) -> type[object] | None:
    candidates = (hint, *get_args(hint))
    return next((arm for arm in candidates if isinstance(arm, type) and is_dataclass(arm)), None)


def json_fields(kind: type[object]) -> frozenset[str]:
    """Name the fields (by wire name) that hold JSON text."""
    return frozenset(wire for _, wire, hint, _ in field_kinds(kind) if _is_json(hint))
