"""Fetching and batches, between Kafka's bytes and plain tuples.

aiokafka's consumer asks for every partition in every fetch, which costs a client of 1,000 sessions more than the events
do. Here a fetch can belong to a fetch session (KIP-227): only what changed is sent, either way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka.errors import CorruptRecordException
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from playhead.adapters.kafka.connection import UNKNOWN_TOPIC, Cluster, Lost, NoTopic

__all__ = [
    "BATCH_BYTES_MAX",
    "FETCH_BYTES_MAX",
    "Entry",
    "Fetch",
    "Part",
    "Place",
    "Stored",
    "batch_bytes",
    "end_of",
    "fetch_once",
    "misplaced",
    "partition_of",
    "parts",
    "unpack",
]

BATCH_BYTES_MAX = 1_048_588
"""The largest record batch in bytes: Kafka's own default for a topic, and what ours are made with."""

FETCH_BYTES_MAX = BATCH_BYTES_MAX + 65_536
"""About how much of one partition a fetch brings: never less than one whole batch."""

RESPONSE_BYTES_MAX = 16 * FETCH_BYTES_MAX
"""About how much one fetch brings of all its partitions together."""

READ_CONNECTIONS = 4
"""How many connections to each node serve reads of what is stored already."""

SESSIONLESS = (0, -1)
"""The fetch session id and epoch of a fetch that belongs to no session."""

MOVED = frozenset({5, 6, 9, 74, 75, 76, 78})
"""Codes that say: ask for the leader again (not available, not leader, replica missing, leader epochs, offset)."""

OUT_OF_RANGE = 1
LATEST = -1
EARLIEST = -2

PARTITIONS_KNOWN_MAX = 16_384
"""For how many keys their partition is remembered: aiokafka hashes in Python."""

PARTITIONER: Any = DefaultPartitioner()  # Any: not annotated
"""Kafka's own: murmur2 of the key. Stateless."""

Place = tuple[str, int]
"""A topic and one of its partitions."""


Entry = tuple[bytes | None, bytes | None]
"""A record's key and its value; without a value it removes its key from a compacted topic."""


class Stored(NamedTuple):
    """One record as the broker keeps it."""

    offset: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """What a fetch brought of one partition: an error code or bytes, and where the partition ends."""

    code: int
    end: int
    data: bytes


@lru_cache(PARTITIONS_KNOWN_MAX)
def partition_of(key: bytes, partitions: int) -> int:
    """Tell which of so many partitions a key is in, as all of Kafka's clients do."""
    return int(PARTITIONER(key, list(range(partitions)), []))


class Fetch(Request[FetchRequest_v11]):
    """A fetch from several partitions, each from an offset, that may belong to a fetch session."""

    API_KEY = 1

    def __init__(
        self,
        wanted: Iterable[tuple[Place, int]],
        *,
        wait_ms: int,
        session: tuple[int, int] = SESSIONLESS,
        dropped: Iterable[Place] = (),
        bytes_max: int = FETCH_BYTES_MAX,
    ) -> None:
        topics: dict[str, list[tuple[int, int, int, int, int]]] = {}
        for (topic, partition), offset in wanted:
            topics.setdefault(topic, []).append((partition, -1, offset, -1, bytes_max))
        forgotten: dict[str, list[int]] = {}
        for topic, partition in dropped:
            forgotten.setdefault(topic, []).append(partition)
        self._topics = list(topics.items())
        self._forgotten = list(forgotten.items())
        self._wait_ms = wait_ms
        self._session = session

    def build(self, request_struct_class: type[FetchRequest_v11]) -> FetchRequest_v11:
        """Make the struct of the version that both sides speak."""
        return request_struct_class(
            -1, self._wait_ms, 1, RESPONSE_BYTES_MAX, 0, *self._session, self._topics, self._forgotten, ""
        )


def parts(response: Any) -> dict[Place, Part]:  # Any: aiokafka's response struct
    """Read the partitions of a fetch's answer."""
    found: dict[Place, Part] = {}
    for topic, answered in response.topics:
        for partition, code, end, _, _, _, _, data in answered:
            found[topic, partition] = Part(code, end, data or b"")
    return found


async def fetch_once(cluster: Cluster, place: Place, offset: int, bytes_max: int = FETCH_BYTES_MAX) -> Part:
    """Fetch from one partition what is there now, at least a whole batch.

    Raises `NoTopic`, `Lost`; an offset out of range is the caller's to judge.
    """
    response = await _ask(cluster, place, Fetch([(place, offset)], wait_ms=0, bytes_max=bytes_max))
    part = parts(response)[place]
    if part.code and part.code != OUT_OF_RANGE:
        raise misplaced(cluster, place[0], part.code)
    return part


async def end_of(cluster: Cluster, place: Place, which: int = LATEST) -> int:
    """Ask where a partition ends (or, with `EARLIEST`, begins) now. Raises `NoTopic`, `Lost`."""
    topic, partition = place
    response = await _ask(cluster, place, OffsetRequest(-1, 0, [(topic, [(partition, which)])]))
    _, code, *rest = response.topics[0][1][0]
    if code:
        raise misplaced(cluster, topic, code)
    return int(rest[1])


async def _ask(cluster: Cluster, place: Place, request: Request[Any]) -> Any:  # Any: aiokafka's response structs
    node = await cluster.leader(*place)
    try:
        return await cluster.call(node, request, _reading(place))
    except Lost:
        cluster.forget(place[0])  # a node that does not answer may lead it no more
        raise


def _reading(place: Place) -> str:
    """Name the connection on which a partition is read: a long replay holds up only those that share it."""
    return f"read-{hash(place) % READ_CONNECTIONS}"


def misplaced(cluster: Cluster, topic: str, code: int) -> Lost | NoTopic:
    """Say what an error code about a partition means, and forget its leader so that the next try asks again."""
    cluster.forget(topic)
    what = "is not known to its broker" if code == UNKNOWN_TOPIC else "has moved" if code in MOVED else "failed"
    return Lost(f"topic {topic} {what} (code {code})")


def unpack(data: bytes, since: int, key: bytes | None = None) -> tuple[list[Stored], int]:
    """Read whole batches from an offset on; give the records (of one key, or all) and the offset after the last batch.

    Raises `Lost`.
    """
    records: list[Stored] = []
    after = since
    memory = MemoryRecords(data)
    try:
        while memory.has_next():
            batch = memory.next_batch()
            if batch is None:
                break
            if not batch.validate_crc():
                raise Lost(f"the batch after offset {after} does not match its checksum")
            after = max(after, batch.next_offset)
            if batch.is_control_batch:
                continue
            records += [
                Stored(r.offset, r.key, r.value or b"")
                for r in _records(batch)
                if r.offset >= since and (key is None or r.key == key)
            ]
    except CorruptRecordException as error:
        raise Lost(f"a damaged batch after offset {after}: {error}") from error
    return records, after


def _records(batch: Any) -> list[Any]:  # Any: aiokafka's batches and records
    """Read the records of a batch: none if its headers are no text. Ours have no headers, so none of it is ours."""
    try:
        return list(batch)
    except UnicodeDecodeError:
        return []


def batch_bytes(entries: Sequence[Entry], producer: tuple[int, int, int]) -> bytes:
    """Pack entries into one record batch of a producer (its id, epoch and sequence). At most `BATCH_BYTES_MAX`."""
    number, epoch, sequence = producer
    builder = DefaultRecordBatchBuilder(2, 0, 0, number, epoch, sequence, BATCH_BYTES_MAX)
    now = time.time_ns() // 1_000_000
    for place, (key, value) in enumerate(entries):
        if builder.append(place, now, key, value, []) is None:
            raise ValueError("the entries do not fit into one batch")
    return bytes(builder.build())
