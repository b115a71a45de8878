"""Check a session's chain without Playhead: fastavro, hashlib, and the schema files.

    python examples/verify_chain.py .playhead/log.db ses_… schemas/playhead_schemas

prints the events of a session of an embedded deployment, each with its cursor, and fails where the chain breaks.
On Kafka the stored values are those of the only partition of the topic `agent.session.<id>`, in order of offset.
"""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

PLACE = {
    "type": "record",
    "name": "Place",
    "fields": [
        {"name": "session", "type": "bytes"},
        {"name": "seq", "type": "long"},
        {"name": "epoch", "type": "long"},
        {"name": "prev", "type": {"type": "fixed", "name": "Hash", "size": 32}},
    ],
}
"""What the body of every event begins with, also of one whose schema you do not have."""


def read(value: bytes, schema: Any) -> Any:
    """Decode what is after a value's frame: Avro's single-object encoding, or else Confluent's."""
    body = value[10:] if value[:2] == b"\xc3\x01" else value[5:]
    return fastavro.schemaless_reader(io.BytesIO(body), schema, None)  # pyright: ignore[reportUnknownMemberType] - its IO


def accepted(session: str, stored: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the stored values that are in the session's log, each with its cursor. All others are void."""
    seq, tip = 0, sha256(session.encode()).digest()
    for value in stored:
        try:
            place = read(value, PLACE)
        except (EOFError, IndexError, ValueError):
            continue  # nothing of ours
        if place["seq"] == seq + 1 and place["prev"] == tip:
            seq, tip = seq + 1, sha256(value).digest()
            yield f"{seq}-{tip.hex()[:8]}", value


def schemas_in(folder: Path) -> dict[bytes, Any]:
    """Read the schemas, also those of older releases, by the fingerprint that a value's frame names them with."""
    found: dict[bytes, Any] = {}
    for path in folder.rglob("*.avsc"):
        schema = json.loads(path.read_text("utf-8"))
        name = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
        found[bytes.fromhex(name)] = fastavro.parse_schema(schema, {})
    return found


def stored_in(file: Path, session: str) -> list[bytes]:
    """Read a session's stored values from the file of an embedded deployment."""
    query = "SELECT value FROM records WHERE session = (SELECT number FROM sessions WHERE name = ?) ORDER BY seq"
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return [value for (value,) in connection.execute(query, (session,))]
    finally:
        connection.close()


def main(file: str, session: str, folder: str) -> None:
    """Print a session's events. Fails if a stored value is void: this file, other than Kafka, holds none."""
    stored, schemas = stored_in(Path(file), session), schemas_in(Path(folder))
    events = list(accepted(session, stored))
    for cursor, value in events:
        schema = schemas[value[2:10]]
        fields = read(value, schema)
        print(cursor, schema["name"].rpartition(".")[2], json.dumps(fields, default=bytes.hex))
    if len(events) != len(stored) or not stored:
        sys.exit(f"only {len(events)} of {len(stored)} stored values are in the log of {session}")


if __name__ == "__main__":
    main(*sys.argv[1:])
