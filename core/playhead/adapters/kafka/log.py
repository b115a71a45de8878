"""The session log on Kafka, one topic a session.

An append goes out without reading: if its batch was stored just where the head said, nobody wrote in between and it is
in the log by construction. Otherwise, and whenever the outcome is unknown, the tail is read and the chain decides. This
module knows nothing of what events say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from playhead.accept import Head, Record, accept, advance, genesis
from playhead.adapters.kafka.connection import Cluster, Lost, NoTopic, backoff
from playhead.adapters.kafka.follow import OutOfRange, catch_up, follow
from playhead.adapters.kafka.sink import Chunk
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.topics import Stock, TopicAdmin
from playhead.adapters.kafka.wire import (
    EARLIEST,
    Place,
    Stored,
    end_of,
    fetch_once,
    unpack,
)
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.codec import record_of
from playhead.errors import (
    CursorConflict,
    CursorExpired,
    Superseded,
    TooLarge,
    Unavailable,
    Undecodable,
    UnknownSession,
)
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import APPEND_RECORDS_MAX, RECORD_BYTES_MAX, Page
from playhead.queue import Topics

__all__ = ["KafkaLog"]

SETTLE_SECONDS = 60.0
"""How long an append whose outcome is unknown is settled by reading and sending again, before `Unavailable`."""

LOOK_BYTES = 65_536
"""About how much is fetched to look at one record; its batch comes whole."""


class KafkaLog:
    """Sessions on Kafka, one topic each."""

    def __init__(self, cluster: Cluster, topics: Topics, writer: Writer, tail: Tail, stock: Stock) -> None:
        self._cluster = cluster
        self._topics = topics
        self._writer = writer
        self._tail = tail
        self._stock = stock
        self._admin = TopicAdmin(cluster, topics)

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make an empty session and return its id. Naming one that exists already is not an error."""
        if session is None:
            return await self._stock.take()
        await self._admin.create_sessions([session])
        return session

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Store records that chain on to `head` as one unit and return the new head."""
        _check(head, records)
        batch = Batch(self._place(session), [(None, record.value) for record in records])
        try:
            offset = await self._writer.send(batch)
        except NoTopic as error:
            raise UnknownSession(session) from error
        except Lost as error:
            return await self._settle(session, head, records, (batch, error))
        if offset == head.position:
            return Head(records[-1].seq, records[-1].hash, offset + len(records))
        return await self._judge(session, head, records, offset)

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield what comes after the cursor."""
        place = self._place(session)
        head = genesis(session)
        try:
            head = await self._locate(session, after)
            chunks = self._follow(place, head) if follow else catch_up(self._cluster, place, head.position)
            first = True
            async with aclosing(chunks):
                async for chunk in chunks:
                    head, accepted = _advance(head, chunk.records, chunk.after)
                    if accepted or first:
                        first = False
                        yield Page(accepted, head)
        except NoTopic as error:
            raise UnknownSession(session) from error
        except OutOfRange as error:
            raise await self._explain(session, head.cursor if head.seq else after, error) from error

    async def end(self, session: SessionId) -> Head:
        """Give the head of the session now."""
        try:
            return await self._cluster.patiently(lambda: self._end_once(session))
        except NoTopic as error:
            raise UnknownSession(session) from error

    async def delete(self, session: SessionId) -> None:
        """Remove a session for ever."""
        place = self._place(session)
        self._forget(session)
        await self._admin.delete([place[0]])
        # whoever came between is told as well
        self._forget(session)

    def _forget(self, session: SessionId) -> None:
        place = self._place(session)
        self._tail.end(place, NoTopic(place[0]))
        self._writer.forget(place[0])
        self._cluster.forget(place[0])

    def _place(self, session: SessionId) -> Place:
        return self._topics.session(session), 0

    def _follow(self, place: Place, head: Head) -> AsyncGenerator[Chunk, None]:
        return follow(self._cluster, self._tail, {place: head.position})

    # --- appending when something came between -----------------------------------------------------------------

    async def _judge(self, session: SessionId, head: Head, records: Sequence[Record], offset: int) -> Head:
        """Read what landed between the head and the own batch, and tell whether the batch was accepted."""
        if offset < head.position:  # the broker lost what the head has seen
            head = genesis(session)
        until = offset + len(records)
        verdict = await self._cluster.patiently(lambda: self._reread(session, head, records, until), SETTLE_SECONDS)
        if verdict is None:
            raise Superseded(session, records[0].seq)
        return verdict

    async def _settle(
        self, session: SessionId, head: Head, records: Sequence[Record], sent: tuple[Batch, Lost]
    ) -> Head:
        """Find out what became of a batch, and send it again until it is known to be in the log or void."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        batch, failure = sent
        tries = 0
        while loop.time() < deadline:
            verdict = await self._reread(session, head, records, None)
            if verdict is not None:
                return verdict
            try:
                offset = await self._writer.send(batch)
            except NoTopic as error:
                raise UnknownSession(session) from error
            except Lost as error:
                failure = error
                await asyncio.sleep(backoff(tries))
                tries += 1
                continue
            return await self._judge(session, head, records, offset)
        raise Unavailable(f"whether {session} took the append is unknown: {failure}") from failure

    async def _reread(
        self, session: SessionId, head: Head, records: Sequence[Record], until: int | None
    ) -> Head | None:
        """Read on from a head: the head after the own records if they were accepted, None if nothing took their seq.

        Raises `Superseded` if another record did, and `Lost` if what is there `until` an offset cannot be read yet.
        """
        last = records[-1]
        position = head.position
        try:
            chunks = catch_up(self._cluster, self._place(session), position)
            async with aclosing(chunks):
                async for chunk in chunks:
                    for stored in chunk.records:
                        head, accepted = _advance(head, [stored], stored.offset + 1)
                        if accepted and accepted[0].seq >= records[0].seq:
                            if accepted[0].hash != records[accepted[0].seq - records[0].seq].hash:
                                raise Superseded(session, accepted[0].seq)
                            if accepted[0].seq == last.seq:
                                return head
                    if until is not None and chunk.after >= until:
                        return None
        except NoTopic as error:
            raise UnknownSession(session) from error
        except OutOfRange as error:
            raise Superseded(session, records[0].seq) from error
        if until is not None:
            # a leader that is new gives nothing before it knows what the others have: that says nothing of the batch
            raise Lost(f"{session} ends before offset {until}, where it was told to end")
        return None

    # --- finding a place in the log ----------------------------------------------------------------------------

    async def _locate(self, session: SessionId, cursor: Cursor) -> Head:
        """Give the head at a cursor. Raises `CursorConflict`, `OutOfRange`."""
        start = genesis(session)
        if cursor.seq == 0 and cursor.tag is None:
            return start
        found = await self._cluster.patiently(lambda: self._dense_at(session, cursor.seq)) if cursor.seq else None
        if found is not None and cursor.tag in (None, found.cursor.tag):
            return found
        # void records lie before it, or it is of another history: only reading from the start can tell
        head = start
        chunks = catch_up(self._cluster, self._place(session), 0)
        async with aclosing(chunks):
            async for chunk in chunks:
                for stored in chunk.records:
                    head, _ = _advance(head, [stored], stored.offset + 1)
                    if head.seq == cursor.seq and head.cursor.tag == (cursor.tag or head.cursor.tag):
                        return head
        raise CursorConflict(str(cursor), head.seq)

    async def _stored_at(self, session: SessionId, offset: int) -> Record | None:
        part = await fetch_once(self._cluster, self._place(session), offset, bytes_max=LOOK_BYTES)
        records, _ = unpack(part.data, offset)
        return _record(records[0]) if records and records[0].offset == offset else None

    async def _dense_at(self, session: SessionId, seq: int) -> Head | None:
        """Give the head at a seq if it is stored where it is without void records before it, else None.

        With none, offset = seq - 1. No honest writer's record has such a seq after a void one, and the link to the
        record before shows that it is no stranger's.
        """
        first = max(seq - 2, 0)
        part = await fetch_once(self._cluster, self._place(session), first, bytes_max=LOOK_BYTES)
        stored = {record.offset: _record(record) for record in unpack(part.data, first)[0]}
        before = stored.get(seq - 2)
        record = stored[seq - 1] if seq - 1 in stored else await self._stored_at(session, seq - 1)
        if record is None or (before is None and seq > 1):
            return None
        previous = genesis(session) if before is None else Head(before.seq, before.hash, seq - 1)
        if record.seq != seq or not accept(previous, record):
            return None
        return Head(record.seq, record.hash, seq)

    async def _end_once(self, session: SessionId) -> Head:
        place = self._place(session)
        end = await end_of(self._cluster, place)
        if end == 0:
            return genesis(session)
        dense = await self._dense_at(session, end)
        if dense is not None:
            return dense
        head = genesis(session)
        chunks = catch_up(self._cluster, place, 0)
        async with aclosing(chunks):
            async for chunk in chunks:
                head, _ = _advance(head, chunk.records, chunk.after)
        return head

    async def _explain(self, session: SessionId, cursor: Cursor, error: OutOfRange) -> Exception:
        """Say what it means that the log does not have a position: its beginning is gone, or its end."""
        place = self._place(session)
        try:
            first = await self._cluster.patiently(lambda: end_of(self._cluster, place, EARLIEST))
            if error.offset >= first:
                return CursorConflict(str(cursor), (await self.end(session)).seq)
            left = await self._cluster.patiently(lambda: self._stored_at(session, first))
        except NoTopic:
            return UnknownSession(session)
        return CursorExpired(str(cursor), left.seq if left is not None else first + 1)


def _record(stored: Stored) -> Record | None:
    """Read a stored value's place in the chain; None is void for every reader."""
    try:
        return record_of(stored.value)
    except Undecodable:
        return None


def _advance(head: Head, stored: Iterable[Stored], after: int) -> tuple[Head, tuple[Record, ...]]:
    """Follow the chain over what is stored up to an offset."""
    readable = [record for record in map(_record, stored) if record is not None]
    moved, accepted = advance(head, readable)
    return replace(moved, position=after), accepted


def _check(head: Head, records: Sequence[Record]) -> None:
    if not records or not accept(head, records[0]):
        raise ValueError("an append takes at least one record, and the first must chain on to the head")
    if len(records) > APPEND_RECORDS_MAX:
        raise TooLarge(f"{len(records)} records", f"one append has at most {APPEND_RECORDS_MAX}")
    size = sum(len(record.value) for record in records)
    if size > RECORD_BYTES_MAX:
        raise TooLarge(f"{size} bytes", f"one append has at most {RECORD_BYTES_MAX}")
