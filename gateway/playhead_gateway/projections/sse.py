"""The native projection: a session's records as JSON events and as SSE frames. Pure: the same record, the same bytes.

A JSON event is `{"seq", "type", "at", …}` and then the event's fields by wire name; what is absent is left out, and
fields that hold JSON are spliced in as they were logged. The JSON page carries the very bytes of a frame's `data`.

Frames are LF only, `data` is one line whatever the content, and `id` comes last: a client that is cut off within a
frame, and stores ids as it reads them, must not skip the event. A record of a schema that this version does not know,
or that does not decode, has no frame; its seq is then missing from the stream, and its place in the log is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import orjson
from playhead.accept import Record
from playhead.codec import Codec, Fields, json_fields
from playhead.errors import Undecodable
from playhead.events import event_types, wire_name
from playhead.ids import SessionId
from playhead.schema import field_kinds

__all__ = ["HEARTBEAT", "HIDDEN", "Projection", "control_frame", "event_of", "prefix_of"]

HEARTBEAT = b": hb\n\n"

LINE_BREAKS = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"), ("\u0085".encode(), b"\\u0085"))
"""Not line ends to SSE, but to clients that split text as Python does; in JSON they can only be within strings."""


HIDDEN = {"QuestionAsked": frozenset({"state"})}
"""What is in the log and for no client: what a tool leaves there for itself may be a server's own secret."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How one type of event is shown. A plain one has neither JSON, nor records, nor anything that can be absent."""

    name: str
    prefix: bytes
    json: frozenset[str]
    plain: bool
    hidden: frozenset[str] = frozenset()


class Projection:
    """Projects records, with the schemas that a codec knows."""

    def __init__(self, codec: Codec) -> None:
        self._fields = codec.fields
        self._shown: dict[type[object], Shown] = {kind: _shown(kind) for kind in event_types()}

    def event(self, record: Record) -> bytes | None:
        """Give a record's JSON event, or None if this version cannot show it."""
        found = self._read(record)
        return None if found is None else found[1]

    def frame(self, record: Record) -> bytes:
        """Give a record's SSE frame, or no bytes if this version cannot show it."""
        found = self._read(record)
        if found is None:
            return b""
        shown, data = found
        return b"%bdata: %b\nid: %d-%b\n\n" % (shown.prefix, data, record.seq, record.hash[:4].hex().encode())

    def _read(self, record: Record) -> tuple[Shown, bytes] | None:
        try:
            kind, fields = self._fields(record.value)
        except Undecodable:
            return None
        shown = self._shown.get(kind)
        if shown is None:
            return None  # a well-formed command has no place in a session's log
        stamp = fields.pop("stamp")
        for name in shown.hidden:
            fields.pop(name, None)
        head: Fields = {"seq": stamp["seq"], "type": shown.name, "at": stamp["at"]}
        if not shown.plain:
            fields = _present(fields, shown.json)
        return shown, _one_line(orjson.dumps({**head, **fields}))


def prefix_of(kind: str) -> bytes:
    """Give what every frame of a type, by wire name, begins with: enough to filter frames by."""
    return b"event: %b\n" % kind.encode()


def event_of(frame: bytes) -> bytes:
    """Give the JSON event that a frame carries."""
    return frame[frame.index(b"\ndata: ") + 7 : frame.rindex(b"\nid: ")]


def control_frame(name: str, session: SessionId, *, retry_ms: int | None = None, **said: str | int) -> bytes:
    """Say something that is not an event: `ready`, `end` or `draining`. Without an id, so that no cursor moves."""
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), retry, orjson.dumps({"session": session, **said}))


@cache
def _shown(kind: type[object]) -> Shown:
    name, spliced = wire_name(kind), json_fields(kind)
    plain = not spliced and all(_is_scalar(hint) for _, _, hint, _ in field_kinds(kind))
    return Shown(name, prefix_of(name), spliced, plain, HIDDEN.get(kind.__name__, frozenset()))


def _is_scalar(hint: Any) -> bool:
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return hint in (str, int, float, bool)


def _present(fields: Fields, spliced: frozenset[str]) -> Fields:
    """Leave out what is absent, here and in the records within, and splice JSON in."""
    present: Fields = {}
    for name, value in fields.items():
        if value is None:
            continue
        if name in spliced:
            present[name] = _spliced(value)
        elif isinstance(value, dict):
            within = cast("Fields", value)
            present[name] = {inner: one for inner, one in within.items() if one is not None}
        else:
            present[name] = value
    return present


def _spliced(text: str) -> orjson.Fragment | str:
    """Pass JSON through. What a stranger logged as JSON and is not, is shown as the string that it is."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)


def _one_line(data: bytes) -> bytes:
    # A line end can only be white space between tokens here: within strings JSON has it escaped.
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    if not data.isascii():
        for raw, escaped in LINE_BREAKS:
            data = data.replace(raw, escaped)
    return data
