"""Sessions placed in lanes: a fixed set of partitions of one topic, each shared by many sessions.

A session's lane is chosen when it is created, and the index keeps it: more lanes may come later, for new sessions. All
sessions of a lane have their requests in one partition, so they have one owner; as long as it is the only writer of the
lane, its ledger tells without reading that an append is accepted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import sha256

from playhead.accept import Head, Record
from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import Cluster, NoTopic
from playhead.adapters.kafka.follow import OutOfRange, fetch
from playhead.adapters.kafka.index import Index, Line
from playhead.adapters.kafka.ledger import Ledger
from playhead.adapters.kafka.marks import MARK_RECORDS, Mark, last_marked, marks_in, with_mark
from playhead.adapters.kafka.sink import Sink
from playhead.adapters.kafka.spot import Spot, marked
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.wire import end_of, partition_of
from playhead.adapters.kafka.writer import Writer
from playhead.errors import Misconfigured, PlayheadError, Unavailable, UnknownSession
from playhead.ids import SessionId, session_id
from playhead.queue import Topics
from playhead.telemetry import logger

__all__ = ["Lanes", "lane_of"]

GAP_RECORDS_MAX = 4096
"""How many records of others in a lane are read so that the ledger's stretch goes on; for more it begins anew."""

_log = logger("playhead.kafka")


class Lanes:
    """The placement `lanes`. See `playhead.adapters.kafka.placement.Placement`."""

    def __init__(self, cluster: Cluster, topics: Topics, writer: Writer, tail: Tail, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._topic = topics.lanes
        self._owners = topics.session_partitions
        self._index = Index(cluster, writer, tail, background, topics.lanes_index)
        self._ledgers: dict[int, tuple[Ledger, asyncio.Lock]] = {}
        self._marking: set[SessionId] = set()

    async def create(self, session: SessionId | None) -> SessionId:
        """Write a line of the index."""
        try:
            if session is None:
                session = session_id(os.urandom(16))
                await self._index.add(session, await self._line(session))
                return session
            # Where the lane ends is asked before the index: who creates it in between has nothing before that.
            line = await self._line(session)
            if await self._index.get(session, fresh=True) is None:
                await self._index.claim(session, line)
        except NoTopic as error:
            raise _missing(error) from error
        return session

    async def delete(self, session: SessionId) -> None:
        """Remove the session's line; its records stay in the lane, and nobody reads them."""
        try:
            await self._index.remove(session)
        except NoTopic as error:
            raise _missing(error) from error

    async def find(self, session: SessionId, *, fresh: bool = False) -> Spot:
        """Look the session up in the index."""
        line = await self._index.get(session, fresh=fresh)
        if line is None:
            raise UnknownSession(session)
        return Spot(session, (self._topic, line.lane), session.encode(), line.first, line.marks)

    def watch(self, session: SessionId, sink: Sink) -> AbstractContextManager[None]:
        """Listen for the end of the session's line."""
        return self._index.watch(session, sink)

    async def near(self, spot: Spot, seq: int) -> Head | None:
        """Give the head at the last mark at or before a seq, if the event is there."""
        marks = [mark for mark in marks_in(spot.marks) if mark.seq <= seq]
        if not marks:
            return None
        mark = max(marks, key=lambda mark: mark.seq)
        record = await marked(self._cluster, spot, mark)
        return None if record is None else Head(record.seq, record.hash, mark.offset + 1)

    async def undisturbed(self, spot: Spot, head: Head, offset: int, count: int) -> bool:
        """Tell by the lane's ledger whether the session has no record from its head on to its batch."""
        key, lane = spot.key or b"", spot.place[1]
        if lane not in self._ledgers:
            self._ledgers[lane] = Ledger(head.position), asyncio.Lock()
        ledger, lock = self._ledgers[lane]
        if ledger.known != offset:  # others wrote in between
            async with lock:
                await self._read_gap(ledger, spot, head.position, offset)
        if ledger.known != offset:
            ledger.begin(offset)
        clear = ledger.is_clear(key, head.position)
        ledger.note(key, offset, count)
        return clear

    def accepted(self, spot: Spot, head: Head, records: Sequence[Record]) -> None:
        """Mark the session if its lane has moved on since its last mark."""
        offset = head.position - len(records)
        if offset - max(spot.first, last_marked(spot.marks)) < MARK_RECORDS or spot.session in self._marking:
            return
        with suppress(Unavailable):  # the store is closing, and does without
            self._background.start(self._mark(spot, Mark.of(records[0].seq, offset, records[0].hash)))
            self._marking.add(spot.session)

    def missing(self, session: SessionId, error: NoTopic) -> Misconfigured:
        """Sessions share the topics, so without them there is no deployment."""
        return _missing(error)

    async def _line(self, session: SessionId) -> Line:
        """Choose a lane for a new session."""
        lanes = len(await self._cluster.patiently(lambda: self._cluster.leaders(self._topic)))
        lane = lane_of(session, lanes, self._owners)
        return Line(lane, await self._cluster.patiently(lambda: end_of(self._cluster, (self._topic, lane))))

    async def _read_gap(self, ledger: Ledger, spot: Spot, since: int, offset: int) -> None:
        """Bring a ledger up to an offset, by reading what others wrote."""
        if ledger.known < since and offset - ledger.known > GAP_RECORDS_MAX:
            ledger.begin(since)
        with suppress(OutOfRange):  # what is left of the lane begins later: the chain decides
            while ledger.known < offset:
                chunk, _ = await fetch(self._cluster, spot.place, ledger.known)
                for record in chunk.records:
                    if ledger.known <= record.offset < offset:
                        ledger.note(record.key, record.offset)
                ledger.skip(min(chunk.after, offset))

    async def _mark(self, spot: Spot, mark: Mark) -> None:
        try:
            await self._index.mark(spot.session, with_mark(spot.marks, mark))
        except (NoTopic, PlayheadError) as error:
            _log.debug("a session goes without a mark", session=spot.session, reason=str(error))
        finally:
            self._marking.discard(spot.session)


def lane_of(session: SessionId, lanes: int, owners: int) -> int:
    """Choose a lane among those that have the same owner as the session's requests, if there are enough for all."""
    key = session.encode()
    number = int.from_bytes(sha256(key).digest()[:8], "big")
    if lanes < owners:
        return number % lanes
    owner = partition_of(key, owners)
    return owner + owners * (number % ((lanes - owner - 1) // owners + 1))


def _missing(error: NoTopic) -> Misconfigured:
    return Misconfigured(f"{error}: run `playhead topics create` with PLAYHEAD_KAFKA_PLACEMENT=lanes")
