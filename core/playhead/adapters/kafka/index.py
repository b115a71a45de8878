"""Which sessions there are in the lanes, where each begins, and its marks: a compacted topic, held in memory.

A process reads the partitions of it that it has use for, each once, and follows them from then on. A session's line is
keyed by its id, its marks by its id and `#`. Of several lines of one session the first counts until it is removed, so
that two who create it at once agree.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import Cluster, Lost, NoTopic
from playhead.adapters.kafka.follow import OutOfRange, follow
from playhead.adapters.kafka.sink import Sink
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.wire import EARLIEST, Entry, Place, Stored, end_of, partition_of
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.errors import PlayheadError, Unavailable, UnknownSession
from playhead.ids import SessionId

__all__ = ["Index", "Line"]

LINE = struct.Struct(">BIQ")
LINE_VERSION = 1
MARKS = b"#"


@dataclass(frozen=True, slots=True)
class Line:
    """A session's lane, the offset before which it has nothing, and its marks as they are stored."""

    lane: int
    first: int
    marks: bytes = b""

    def pack(self) -> bytes:
        """Write what is kept under the session's id."""
        return LINE.pack(LINE_VERSION, self.lane, self.first)


class Index:
    """The lines of all sessions."""

    def __init__(self, cluster: Cluster, writer: Writer, tail: Tail, background: Background, topic: str) -> None:
        self._cluster = cluster
        self._writer = writer
        self._tail = tail
        self._background = background
        self._topic = topic
        self._shards: dict[int, Shard] = {}
        self._watchers: dict[bytes, set[Sink]] = {}

    async def get(self, session: SessionId, *, fresh: bool) -> Line | None:
        """Give a session's line: a `fresh` one as it is now, else as it was heard of last.

        Raises `NoTopic`, `Unavailable`.
        """
        shard = await self._shard(session)
        line = None if fresh else shard.line(session)
        if line is None:
            line = (await self._reached(session, await self._cluster.patiently(lambda: self._end(session)))).line(
                session
            )
        return line

    async def add(self, session: SessionId, line: Line) -> None:
        """Write the line of a session that nobody else can know of yet. Raises `NoTopic`, `Unavailable`."""
        shard = await self._shard(session)
        await self._write(shard, (session.encode(), line.pack()))
        shard.lines.setdefault(session.encode(), line.pack())

    async def claim(self, session: SessionId, line: Line) -> None:
        """Write the line of a session that others may create just now. Raises `NoTopic`, `Unavailable`."""
        shard, key = await self._shard(session), session.encode()
        await self._reached(session, await self._write(shard, (key, line.pack())))
        counts = shard.lines.get(key)
        if counts not in (None, line.pack()):
            # compaction will keep the last line, so that must be the one that counts
            await self._write(shard, (key, counts))

    async def mark(self, session: SessionId, marks: bytes) -> None:
        """Write a session's marks. Raises `NoTopic`, `Unavailable`."""
        shard, key = await self._shard(session), session.encode()
        await self._write(shard, (key + MARKS, marks))
        if key in shard.lines:
            shard.marks[key] = marks

    async def remove(self, session: SessionId) -> None:
        """Remove a session's line and its marks. Raises `NoTopic`, `Unavailable`."""
        shard, key = await self._shard(session), session.encode()
        await self._reached(session, await self._write(shard, (key, None), (key + MARKS, None)))

    @contextmanager
    def watch(self, session: SessionId, sink: Sink) -> Generator[None, None, None]:
        """Fail a sink when a session is removed, for as long as the block lasts. Get the line, fresh, within it."""
        key = session.encode()
        watchers = self._watchers.setdefault(key, set())
        watchers.add(sink)
        try:
            yield
        finally:
            watchers.discard(sink)
            if not watchers and self._watchers.get(key) is watchers:
                del self._watchers[key]

    def _removed(self, key: bytes, error: Exception) -> None:
        for sink in self._watchers.get(key, ()):
            sink.fail(error)

    async def _shard(self, session: SessionId) -> Shard:
        partitions = len(await self._cluster.patiently(lambda: self._cluster.leaders(self._topic)))
        number = partition_of(session.encode(), partitions)
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = Shard(self._cluster, self._tail, (self._topic, number), self._removed)
        if not shard.is_followed:
            shard.is_followed = True
            self._background.start(shard.follow())
        return shard

    async def _reached(self, session: SessionId, offset: int) -> Shard:
        """Give a session's partition of the index once it is read up to an offset. Raises `NoTopic`, `Unavailable`."""
        shard = await self._shard(session)  # asked for anew: following may have ended while something was written
        await shard.reach(offset)
        return shard

    async def _end(self, session: SessionId) -> int:
        shard = await self._shard(session)
        end = await end_of(self._cluster, shard.place)
        if end < shard.position:
            raise Lost(f"{self._topic} ends at {end}, and was further: it is read anew")
        return end

    async def _write(self, shard: Shard, *entries: Entry) -> int:
        """Store entries together and give the offset after them."""
        batch = Batch(shard.place, entries, gathers=True)
        return await self._cluster.patiently(lambda: self._writer.send(batch)) + len(entries)


class Shard:
    """One partition of the index as far as it was read."""

    def __init__(self, cluster: Cluster, tail: Tail, place: Place, removed: Callable[[bytes, Exception], None]) -> None:
        self.place = place
        self.lines: dict[bytes, bytes] = {}
        self.marks: dict[bytes, bytes] = {}
        self.is_followed = False
        self._cluster = cluster
        self._tail = tail
        self._removed = removed
        self.position = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def line(self, session: SessionId) -> Line | None:
        """Give a session's line as it was heard of last."""
        key = session.encode()
        packed = self.lines.get(key)
        if packed is None:
            return None
        _, lane, first = LINE.unpack(packed)
        return Line(lane, first, self.marks.get(key, b""))

    async def reach(self, offset: int) -> None:
        """Wait until all before an offset was read; it must be followed now. Raises `NoTopic`, `Unavailable`."""
        while self.position < offset:
            if not self.is_followed:
                raise Unavailable(f"{self.place[0]}[{self.place[1]}] is not followed just now")
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    async def follow(self) -> None:
        """Read on for ever. If that fails whoever waits is told, and it may be called again."""
        error: Exception = Unavailable("the store is closed")
        try:
            while True:
                try:
                    await self._follow()
                except OutOfRange:  # the partition was cut, or is another one: what it has is all there is
                    self.lines.clear()
                    self.marks.clear()
                    self.position = 0  # nobody may believe meanwhile that the lines are known up to where they were
                    self.position = await self._cluster.patiently(lambda: end_of(self._cluster, self.place, EARLIEST))
        except (NoTopic, PlayheadError) as failure:
            error = failure
        finally:
            self.is_followed = False
            for key in self.lines:
                self._removed(key, error)
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(error)

    async def _follow(self) -> None:
        async with aclosing(follow(self._cluster, self._tail, {self.place: self.position})) as chunks:
            async for chunk in chunks:
                for record in chunk.records:
                    self._fold(record)
                self.position = chunk.after
                for waiting in self._waiting:
                    if not waiting.done():
                        waiting.set_result(None)

    def _fold(self, record: Stored) -> None:
        key, value = record.key or b"", record.value
        if key.endswith(MARKS):
            if value:
                self.marks[key.removesuffix(MARKS)] = value
            else:
                self.marks.pop(key.removesuffix(MARKS), None)
        elif not value:
            self.marks.pop(key, None)
            if self.lines.pop(key, None) is not None:
                self._removed(key, UnknownSession(key.decode(errors="replace")))
        elif len(value) == LINE.size and value[0] == LINE_VERSION:
            self.lines.setdefault(key, value)
