"""Reading partitions from offsets: what is there, then what arrives, without a seam.

It knows offsets and bytes; what the bytes mean is its callers' business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

from playhead.adapters.kafka.connection import Cluster, Lost
from playhead.adapters.kafka.sink import Chunk, Sink
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.wire import FETCH_BYTES_MAX, OUT_OF_RANGE, Place, fetch_once, unpack

__all__ = ["OutOfRange", "Wanted", "catch_up", "fetch", "follow"]


SHARED_FETCH_BYTES = 262_144
"""About how much a fetch brings of a partition that is read for one key: the most of it is likely to be others'."""


class OutOfRange(Exception):
    """The partition does not have (any more, or yet) what is at this offset."""

    def __init__(self, place: Place, offset: int) -> None:
        self.place = place
        self.offset = offset
        super().__init__(f"{place[0]}[{place[1]}] has no offset {offset}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The records of one key alone, and a sink that its owner may fail from elsewhere."""

    key: bytes
    sink: Sink


async def fetch(cluster: Cluster, place: Place, position: int, key: bytes | None = None) -> tuple[Chunk, int]:
    """Fetch what is at an offset now (of one key, or all), and where the partition ends.

    Raises `OutOfRange`, `NoTopic`, `Unavailable`.
    """

    async def once() -> tuple[Chunk, int]:
        part = await fetch_once(cluster, place, position, FETCH_BYTES_MAX if key is None else SHARED_FETCH_BYTES)
        if part.code == OUT_OF_RANGE:
            raise OutOfRange(place, position)
        records, after = unpack(part.data, position, key)
        if after == position < part.end:
            raise Lost(f"{place[0]}[{place[1]}] ends at {part.end}, but gave nothing from {position} on")
        return Chunk(place, records, after), part.end

    return await cluster.patiently(once)


async def catch_up(cluster: Cluster, place: Place, position: int) -> AsyncGenerator[Chunk, None]:
    """Yield what is stored from an offset on, to the end as it was when the last chunk was read; at least one chunk.

    Raises `OutOfRange`, `NoTopic`, `Unavailable`.
    """
    while True:
        chunk, end = await fetch(cluster, place, position)
        yield chunk
        position = chunk.after
        if position >= end:
            return


async def follow(
    cluster: Cluster, tail: Tail, positions: dict[Place, int], wanted: Wanted | None = None
) -> AsyncGenerator[Chunk, None]:
    """Yield what is stored from these offsets on, then what arrives, for ever. Closing it frees all that it holds.

    The first chunk of each partition comes at once, even if it is empty. Raises as `catch_up`, and what the sink fails
    with.
    """
    key, sink = (None, Sink()) if wanted is None else (wanted.key, wanted.sink)
    positions = dict(positions)
    try:
        while True:
            for place in positions:
                behind = True
                while behind:
                    chunk, end = await fetch(cluster, place, positions[place], key)
                    positions[place] = chunk.after
                    behind = chunk.after < end
                    yield chunk
            for place in positions:
                fed_from = await cluster.patiently(partial(tail.join, place, positions[place], sink, key))
                while positions[place] < fed_from:  # others follow it already and were further
                    chunk, _ = await fetch(cluster, place, positions[place], key)
                    positions[place] = chunk.after
                    yield chunk
            while (arrived := await sink.take()) is not None:
                if arrived.after <= positions[arrived.place]:
                    continue
                start = positions[arrived.place]
                fresh = arrived.records
                if fresh and fresh[0].offset < start:
                    fresh = [record for record in fresh if record.offset >= start]
                positions[arrived.place] = arrived.after
                yield Chunk(arrived.place, fresh, arrived.after)
            tail.leave(positions, sink, key)
            sink.reset()
    finally:
        tail.leave(positions, sink, key)
