"""The session log on Kafka, wherever sessions are placed.

An append goes out without reading: if nothing of its session can be stored between its head and its batch, it is in the
log by construction. Otherwise, and whenever the outcome is unknown, what is there is read and the chain decides. This
module knows nothing of what events say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from playhead.accept import Head, Record, accept
from playhead.adapters.kafka.connection import Cluster, Lost, NoTopic, backoff
from playhead.adapters.kafka.follow import OutOfRange, Wanted, follow
from playhead.adapters.kafka.placement import Placement
from playhead.adapters.kafka.sink import Sink
from playhead.adapters.kafka.spot import Spot, Step, first_left, follow_chain, look, scan, seek
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.wire import EARLIEST, end_of
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.errors import CursorConflict, CursorExpired, Misconfigured, Superseded, TooLarge, Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import APPEND_RECORDS_MAX, RECORD_BYTES_MAX, Page

__all__ = ["KafkaLog"]

SETTLE_SECONDS = 60.0
"""How long an append whose outcome is unknown is settled by reading and sending again, before `Unavailable`."""


class KafkaLog:
    """Sessions on Kafka."""

    def __init__(self, cluster: Cluster, writer: Writer, tail: Tail, placement: Placement) -> None:
        self._cluster = cluster
        self._writer = writer
        self._tail = tail
        self._placement = placement

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make an empty session and return its id. Naming one that exists already is not an error."""
        return await self._placement.create(session)

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Store records that chain on to `head` as one unit and return the new head."""
        _check(head, records)
        try:
            spot = await self._placement.find(session)
            head = spot.behind(head)
            batch = Batch(spot.place, [(spot.key, record.value) for record in records], gathers=spot.key is not None)
            try:
                offset = await self._writer.send(batch)
            except Lost as error:
                moved = await self._settle(spot, head, records, (batch, error))
            else:
                if await self._placement.undisturbed(spot, head, offset, len(records)):
                    moved = Head(records[-1].seq, records[-1].hash, offset + len(records))
                else:
                    moved = await self._judge(spot, head, records, offset)
        except NoTopic as error:
            raise self._placement.missing(session, error) from error
        self._placement.accepted(spot, moved, records)
        return moved

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield what comes after the cursor."""
        sink = Sink()
        try:
            with self._placement.watch(session, sink):
                spot = await self._placement.find(session, fresh=True)
                async with aclosing(self._pages(spot, after, sink if follow else None)) as pages:
                    async for page in pages:
                        yield page
        except NoTopic as error:
            raise self._placement.missing(session, error) from error

    async def end(self, session: SessionId) -> Head:
        """Give the head of the session now."""
        try:
            spot = await self._placement.find(session, fresh=True)
            try:
                return await self._cluster.patiently(lambda: self._end_once(spot))
            except OutOfRange as error:
                raise await self._explain(spot, BEGINNING, error) from error
        except NoTopic as error:
            raise self._placement.missing(session, error) from error

    async def delete(self, session: SessionId) -> None:
        """Remove a session for ever."""
        await self._placement.delete(session)

    async def _pages(self, spot: Spot, after: Cursor, sink: Sink | None) -> AsyncGenerator[Page, None]:
        head = spot.start
        try:
            head = await self._cluster.patiently(lambda: self._locate(spot, after))
            shown: int | None = None
            steps = scan(self._cluster, spot, head) if sink is None else self._follow(spot, head, sink)
            async with aclosing(steps):
                async for step in steps:
                    head = step.head
                    if step.accepted or shown is None:
                        shown = head.position
                        yield Page(step.accepted, head)
            if head.position != shown:
                yield Page((), head)  # what followed was others': whoever appends need not read it again
        except OutOfRange as error:
            raise await self._explain(spot, head.cursor if head.seq else after, error) from error

    async def _follow(self, spot: Spot, head: Head, sink: Sink) -> AsyncGenerator[Step, None]:
        if spot.key is not None:
            # what can be jumped over is not read, so only this knows where to follow from
            async with aclosing(scan(self._cluster, spot, head)) as steps:
                async for step in steps:
                    yield step
                    head = step.head
        wanted = None if spot.key is None else Wanted(spot.key, sink)
        async with aclosing(follow(self._cluster, self._tail, {spot.place: head.position}, wanted)) as chunks:
            async for chunk in chunks:
                step = follow_chain(head, chunk.records, chunk.after)
                yield step
                head = step.head

    # --- appending when something came between -----------------------------------------------------------------

    async def _judge(self, spot: Spot, head: Head, records: Sequence[Record], offset: int) -> Head:
        """Read what landed between the head and the own batch, and tell whether the batch was accepted."""
        head = await self._stored(spot, head, records)
        until = offset + len(records)
        verdict = await self._cluster.patiently(lambda: self._reread(spot, head, records, until), SETTLE_SECONDS)
        if verdict is None:
            raise Superseded(spot.session, records[0].seq)
        return verdict

    async def _settle(self, spot: Spot, head: Head, records: Sequence[Record], sent: tuple[Batch, Lost]) -> Head:
        """Find out what became of a batch, and send it again until it is known to be in the log or void."""
        head = await self._stored(spot, head, records)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        batch, failure = sent
        tries = 0
        while loop.time() < deadline:
            verdict = await self._reread(spot, head, records, None)
            if verdict is not None:
                return verdict
            try:
                offset = await self._writer.send(batch)
            except Lost as error:
                failure = error
                await asyncio.sleep(backoff(tries))
                tries += 1
                continue
            except Misconfigured as error:
                raise Unavailable(f"whether {spot.session} took the append is unknown: {error}") from error
            await self._placement.undisturbed(spot, head, offset, len(records))  # it keeps account of what is stored
            return await self._judge(spot, head, records, offset)
        raise Unavailable(f"whether {spot.session} took the append is unknown: {failure}") from failure

    async def _stored(self, spot: Spot, head: Head, records: Sequence[Record]) -> Head:
        """Give a head of which the last record is in the log now. Raises `Superseded` if it is not.

        A broker that is alone may have lost it, and others may have written over where it was.
        """
        if head.seq == 0:
            return head if head.position == spot.first else spot.start
        if head.position > spot.first:
            last = await self._cluster.patiently(lambda: look(self._cluster, spot, head.position - 1))
            if last is not None and last.hash == head.hash:
                return head
        try:
            found = await self._cluster.patiently(lambda: self._locate(spot, head.cursor))
        except (CursorConflict, OutOfRange) as error:
            raise Superseded(spot.session, records[0].seq) from error
        if found.hash != head.hash:
            raise Superseded(spot.session, records[0].seq)
        return found

    async def _reread(self, spot: Spot, head: Head, records: Sequence[Record], until: int | None) -> Head | None:
        """Read on from a head: the head after the own records if they were accepted, None if nothing took their seq.

        Raises `Superseded` if another record did, and `Lost` if what is there `until` an offset cannot be read yet.
        """
        first, last = records[0].seq, records[-1].seq
        try:
            async with aclosing(scan(self._cluster, spot, head)) as steps:
                async for step in steps:
                    for record in step.accepted:
                        if first <= record.seq <= last and record.hash != records[record.seq - first].hash:
                            raise Superseded(spot.session, record.seq)
                    if step.head.seq >= last:
                        return step.at(last)
                    if until is not None and step.head.position >= until:
                        return None
        except OutOfRange as error:
            raise Superseded(spot.session, first) from error
        if until is not None:
            # a leader that is new gives nothing before it knows what the others have: that says nothing of the batch
            raise Lost(f"{spot.session} ends before offset {until}, where it was told to end")
        return None

    # --- finding a place in the log ----------------------------------------------------------------------------

    async def _locate(self, spot: Spot, cursor: Cursor) -> Head:
        """Give the head at a cursor. Raises `CursorConflict`, `OutOfRange`, `Lost`."""
        if cursor.seq == 0 and cursor.tag is None:
            return spot.start
        near = await self._cluster.patiently(lambda: self._placement.near(spot, cursor.seq)) if cursor.seq else None
        head = spot.start
        for start in (near, spot.start):  # from the start if what is near is of another history
            if start is not None:
                head = start if start.seq == cursor.seq else await seek(self._cluster, spot, start, cursor.seq)
                if head.seq < cursor.seq:
                    break
                if cursor.tag in (None, head.cursor.tag):
                    return head
        is_short = head.seq < cursor.seq
        end = await end_of(self._cluster, spot.place)
        async with aclosing(scan(self._cluster, spot, head)) as steps:
            async for step in steps:
                head = step.head
        if head.position < end or (is_short and head.seq >= cursor.seq):
            # a leader that is new gives nothing before it knows what the others have: that says nothing of the cursor
            raise Lost(f"{spot.session} is shown up to offset {head.position} and goes on to {end}")
        raise CursorConflict(str(cursor), head.seq)

    async def _end_once(self, spot: Spot) -> Head:
        end = await end_of(self._cluster, spot.place)
        if end <= spot.first:
            return spot.start
        head = await self._placement.near(spot, end) or spot.start
        if head.position < end:
            async with aclosing(scan(self._cluster, spot, head)) as steps:
                async for step in steps:
                    head = step.head
        return head

    async def _explain(self, spot: Spot, cursor: Cursor, error: OutOfRange) -> Exception:
        """Say what it means that the log does not have a position: its beginning is gone, or its end."""
        try:
            first = await self._cluster.patiently(lambda: end_of(self._cluster, spot.place, EARLIEST))
            if error.offset >= first:
                return CursorConflict(str(cursor), (await self.end(spot.session)).seq)
            left = await first_left(self._cluster, spot)
        except NoTopic as gone:
            return self._placement.missing(spot.session, gone)
        return CursorExpired(str(cursor), cursor.seq + 1 if left is None else left[1].seq)


def _check(head: Head, records: Sequence[Record]) -> None:
    if not records or not accept(head, records[0]):
        raise ValueError("an append takes at least one record, and the first must chain on to the head")
    if len(records) > APPEND_RECORDS_MAX:
        raise TooLarge(f"{len(records)} records", f"one append has at most {APPEND_RECORDS_MAX}")
    size = sum(len(record.value) for record in records)
    if size > RECORD_BYTES_MAX:
        raise TooLarge(f"{size} bytes", f"one append has at most {RECORD_BYTES_MAX}")
