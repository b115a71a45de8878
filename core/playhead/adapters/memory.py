"""The reference adapters: both ports in memory, in the fewest lines that keep every clause.

For tests, examples and reading. Nothing outlives the process, and nothing here is bounded by age.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from secrets import token_bytes

from playhead.accept import Head, Record, genesis
from playhead.adapters.chain import appended, check_append, head_at
from playhead.adapters.groups import HANDOVER_GRACE_SECONDS, Groups
from playhead.adapters.progress import Progress
from playhead.adapters.shelf import Commit, Listeners, Place, check_size, no_such_topic, partition_for, replay
from playhead.errors import CursorConflict, UnknownSession
from playhead.ids import BEGINNING, Cursor, SessionId, session_id
from playhead.log import Page
from playhead.queue import Member, Message, Since, TopicSpec

__all__ = ["MemoryQueue", "MemorySessionLog"]

PAGE_RECORDS_MAX = 512
"""The most records in one page."""


@dataclass(slots=True, eq=False)
class _Session:
    records: list[Record] = field(default_factory=list[Record])
    followers: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    deleted: bool = False

    def wake(self) -> None:
        for follower in self.followers:
            follower.set()


class MemorySessionLog:
    """Session logs as lists. See `playhead.log.SessionLog`."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, _Session] = {}

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make a session."""
        name = session or session_id(token_bytes(16))
        self._sessions.setdefault(name, _Session())
        return name

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Append, or find that it has been done."""
        after = check_append(head, records)
        log = self._open(session)
        now = head_at(session, log.records[-1] if log.records else None)
        there = log.records[head.seq : head.seq + len(records)]
        if not appended(session, head, records, now=now, there=there):
            log.records.extend(records)
            log.wake()
        return after

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield the session in pages."""
        log = self._open(session)
        head = _find(session, log.records, after)
        news = asyncio.Event()
        log.followers.add(news)
        try:
            first = True
            while not log.deleted:
                news.clear()
                records = tuple(log.records[head.seq : head.seq + PAGE_RECORDS_MAX])
                head = head_at(session, records[-1]) if records else head
                at_end = head.seq == len(log.records)
                if records or first:
                    yield Page(records, head)
                    first = False
                if at_end and not follow:
                    return
                if at_end:
                    await news.wait()
            raise UnknownSession(session)
        finally:
            log.followers.discard(news)

    async def end(self, session: SessionId) -> Head:
        """Give the session's head."""
        records = self._open(session).records
        return head_at(session, records[-1] if records else None)

    async def delete(self, session: SessionId) -> None:
        """Remove a session."""
        log = self._sessions.pop(session, None)
        if log is not None:
            log.deleted = True
            log.wake()

    def _open(self, session: SessionId) -> _Session:
        try:
            return self._sessions[session]
        except KeyError:
            raise UnknownSession(session) from None


def _find(session: SessionId, records: Sequence[Record], cursor: Cursor) -> Head:
    if cursor.seq == 0:
        return genesis(session)
    if cursor.seq > len(records):
        raise CursorConflict(str(cursor), len(records))
    record = records[cursor.seq - 1]
    if cursor.tag not in (None, record.cursor.tag):
        raise CursorConflict(str(cursor), len(records))
    return head_at(session, record)


@dataclass(slots=True)
class _Topic:
    spec: TopicSpec
    partitions: list[list[Message]]
    ends: list[int]


class MemoryQueue:
    """Topics as lists. See `playhead.queue.Queue`; it is the `Shelf` of its own groups. Nothing is pruned by age."""

    def __init__(self, *, grace_seconds: float = HANDOVER_GRACE_SECONDS) -> None:
        self.listeners = Listeners()
        self._topics: dict[str, _Topic] = {}
        self._committed: dict[tuple[str, str], dict[int, Progress]] = {}
        self._groups = Groups(self, grace_seconds)

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make topics that are not there."""
        for spec in topics:
            empty: list[list[Message]] = [[] for _ in range(spec.partitions)]
            self._topics.setdefault(spec.name, _Topic(spec, empty, [0] * spec.partitions))

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Keep a message."""
        check_size(topic, value)
        found = self._topic(topic)
        partition = partition_for(key, found.spec.partitions)
        kept = found.partitions[partition]
        if found.spec.compacted:
            kept[:] = [message for message in kept if message.key != key]
        kept.append(Message(topic, partition, found.ends[partition], key, value))
        found.ends[partition] += 1
        self.listeners.notice((topic, partition))

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        """Join a group."""
        return self._groups.join(group, topics)

    def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept."""
        return replay(self, topic, since=since, follow=follow, partitions=partitions)

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell the partition of a key."""
        return partition_for(key, await self.width(topic))

    async def width(self, topic: str) -> int:
        """Give the number of partitions of a topic."""
        return self._topic(topic).spec.partitions

    async def take(self, place: Place, offset: int, count: int) -> Sequence[Message]:
        """Give messages from an offset on."""
        kept = self._topic(place[0]).partitions[place[1]]
        start = bisect_left(kept, offset, key=lambda message: message.offset)
        return kept[start : start + count]

    async def ends(self, topic: str) -> Mapping[int, int]:
        """Give where each partition ends."""
        return dict(enumerate(self._topic(topic).ends))

    async def committed(self, group: str, topic: str) -> Mapping[int, Commit]:
        """Give how far a group is."""
        kept = self._committed.get((group, topic), {})
        return {p: commit for p, progress in kept.items() if (commit := progress.commit()) is not None}

    def commit(self, group: str, place: Place, progress: Progress) -> None:
        """Keep how far a group is."""
        self._committed.setdefault((group, place[0]), {})[place[1]] = progress

    async def settle(self) -> None:
        """Do nothing: what is committed is kept at once."""

    def _topic(self, topic: str) -> _Topic:
        try:
            return self._topics[topic]
        except KeyError:
            raise no_such_topic(topic, self._topics) from None
