"""Where a session is stored, and following its chain there.

A session may have a partition of its own or share one: then its records are those with its key, and marks say where
some of them are. Nothing else depends on which it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from playhead.accept import Head, Record, accept, advance, genesis
from playhead.adapters.kafka.connection import Cluster
from playhead.adapters.kafka.follow import OutOfRange, fetch
from playhead.adapters.kafka.marks import Mark, marks_in
from playhead.adapters.kafka.wire import EARLIEST, Place, Stored, end_of, fetch_once, unpack
from playhead.codec import record_of
from playhead.errors import Undecodable
from playhead.ids import SessionId

__all__ = ["LOOK_BYTES", "Spot", "Step", "first_left", "follow_chain", "look", "marked", "readable", "scan", "seek"]

LOOK_BYTES = 65_536
"""About how much is fetched to look at one record; its batch comes whole."""

JUMP_RECORDS_MIN = 1024
"""Fewer records than these are read rather than jumped over: a jump costs a look at where it leads."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A session's partition, the key of its records there (None: all are its own), where they begin, and its marks."""

    session: SessionId
    place: Place
    key: bytes | None = None
    first: int = 0
    marks: bytes = b""

    @property
    def start(self) -> Head:
        """The head of who has read nothing yet."""
        return replace(genesis(self.session), position=self.first)

    def behind(self, head: Head) -> Head:
        """Give a head whose position is in this partition: that of a genesis is not."""
        return head if head.position >= self.first else replace(head, position=self.first)


@dataclass(frozen=True, slots=True)
class Step:
    """Some stored records of a session, and what following the chain over them made of a head."""

    before: Head
    stored: Sequence[Stored]
    head: Head
    accepted: tuple[Record, ...]

    def at(self, seq: int) -> Head:
        """Give the head just after an event that was accepted in this step."""
        head = self.before
        for stored in self.stored:
            if head.seq == seq:
                break
            head = follow_chain(head, [stored], stored.offset + 1).head
        return head


def readable(stored: Stored) -> Record | None:
    """Read a stored value's place in the chain; None is void for every reader."""
    try:
        return record_of(stored.value)
    except Undecodable:
        return None


def follow_chain(head: Head, stored: Sequence[Stored], after: int) -> Step:
    """Follow the chain over what is stored of a session up to an offset."""
    moved, accepted = advance(head, _readable(stored))
    return Step(head, stored, replace(moved, position=after), accepted)


def _readable(stored: Iterable[Stored]) -> list[Record]:
    return [record for record in map(readable, stored) if record is not None]


async def look(cluster: Cluster, spot: Spot, offset: int) -> Record | None:
    """Give the session's record that is stored at an offset, None if there is none. Raises `NoTopic`, `Lost`."""
    part = await fetch_once(cluster, spot.place, offset, bytes_max=LOOK_BYTES)
    records, _ = unpack(part.data, offset, spot.key)
    return readable(records[0]) if records and records[0].offset == offset else None


async def marked(cluster: Cluster, spot: Spot, mark: Mark) -> Record | None:
    """Give the record that a mark names, None if it is not there. Raises `NoTopic`, `Lost`.

    A hash names one record, and only records that were accepted are marked: so it is in the log. What is not checked is
    whether whoever wrote the mark knew that.
    """
    record = await look(cluster, spot, mark.offset) if mark.offset >= spot.first else None
    return record if record is not None and Mark.of(record.seq, mark.offset, record.hash) == mark else None


async def scan(cluster: Cluster, spot: Spot, head: Head) -> AsyncGenerator[Step, None]:
    """Follow a session from a head to the end as it was when the last step was read; at least one step.

    Raises `OutOfRange`, `NoTopic`, `Unavailable`.
    """
    marks = {mark.seq: mark for mark in marks_in(spot.marks)}
    while True:
        mark = marks.pop(head.seq + 1, None)
        if mark is not None and mark.offset >= head.position + JUMP_RECORDS_MIN:
            record = await cluster.patiently(partial(marked, cluster, spot, mark))
            if record is not None and accept(head, record):
                head = replace(head, position=mark.offset)
        try:
            chunk, end = await fetch(cluster, spot.place, head.position, spot.key)
        except OutOfRange as error:
            head = await _beyond_cut(cluster, spot, head, error)
            continue
        step = follow_chain(head, chunk.records, chunk.after)
        yield step
        head = step.head
        if head.position >= end:
            return


async def seek(cluster: Cluster, spot: Spot, head: Head, seq: int) -> Head:
    """Follow a session from a head to an event, or to the end if that comes first. Raises as `scan`."""
    async with aclosing(scan(cluster, spot, head)) as steps:
        async for step in steps:
            head = step.head
            if head.seq >= seq:
                return step.at(seq)
    return head


async def first_left(cluster: Cluster, spot: Spot) -> tuple[int, Record] | None:
    """Give the first readable record of a session that its partition still has, and the offset of it.

    Raises `OutOfRange`, `NoTopic`, `Unavailable`.
    """
    offset = await cluster.patiently(lambda: end_of(cluster, spot.place, EARLIEST))
    while True:
        chunk, end = await fetch(cluster, spot.place, offset, spot.key)
        for stored in chunk.records:
            record = readable(stored)
            if record is not None:
                return stored.offset, record
        offset = chunk.after
        if offset >= end:
            return None


async def _beyond_cut(cluster: Cluster, spot: Spot, head: Head, error: OutOfRange) -> Head:
    """Go on where a partition begins now, if what was taken from it was none of the session's. Raises the error."""
    left = await first_left(cluster, spot)
    if left is None or left[0] < head.position or not accept(head, left[1]):
        raise error
    return replace(head, position=left[0])
