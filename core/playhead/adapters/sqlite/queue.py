"""The queue on SQLite: a shelf of messages for groups whose members live in this process.

Commits are small and many, so they are gathered: they ride with a transaction of their own every now and then, and at
once when a member leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from playhead.adapters.groups import Groups
from playhead.adapters.progress import Progress
from playhead.adapters.shelf import Commit, Listeners, Place, check_size, no_such_topic, partition_for, replay
from playhead.adapters.sqlite.messages import (
    Offsets,
    Prepare,
    Prune,
    Publish,
    SaveCommits,
    Topic,
    commits_of,
    ends_of,
    messages_from,
    topic_named,
)
from playhead.adapters.sqlite.reader import Reader
from playhead.adapters.sqlite.ring import Ring
from playhead.adapters.sqlite.writer import Writer
from playhead.queue import Member, Message, Since, TopicSpec
from playhead.telemetry import logger

__all__ = ["SqliteQueue"]

COMMIT_EVERY_SECONDS = 0.1
"""How long a commit waits for others to go with it."""

_log = logger("playhead.adapters.sqlite")


class SqliteQueue:
    """Topics in one file. See `playhead.queue.Queue`; it is the `Shelf` of its own groups."""

    def __init__(
        self, writer: Writer, reader: Reader, offsets: Offsets, *, clock: Callable[[], float], grace_seconds: float
    ) -> None:
        self.listeners = Listeners()
        self._writer = writer
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._topics: dict[str, Topic] = {}
        self._rings: dict[Place, Ring[Message]] = {}
        self._groups = Groups(self, grace_seconds)
        self._uncommitted: dict[tuple[str, int, int], Progress] = {}
        self._commit_timer: asyncio.TimerHandle | None = None
        self._committing: asyncio.Future[None] | None = None

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make sure that topics exist. Existing ones are left as they are."""
        await self._writer.submit(Prepare(topics))

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Keep a message; when this returns it is safe."""
        check_size(topic, value)
        found = await self._topic(topic)
        message = Message(topic, partition_for(key, found.spec.partitions), -1, key, value)
        await self._writer.submit(Publish(self._offsets, found, message, int(self._clock()), self._published))

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        """Take part in a group that consumes these topics."""
        return self._groups.join(group, topics)

    def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept of a topic, then, with `follow`, what arrives."""
        return replay(self, topic, since=since, follow=follow, partitions=partitions)

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell which partition of a topic the messages of a key are in."""
        return partition_for(key, await self.width(topic))

    async def width(self, topic: str) -> int:
        """Give the number of partitions of a topic."""
        return (await self._topic(topic)).spec.partitions

    async def take(self, place: Place, offset: int, count: int) -> Sequence[Message]:
        """Give messages from an offset on: from memory if they are there."""
        ring = self._rings.setdefault(place, Ring())
        new = ring.since(offset)
        if new is not None:
            return new[:count]
        topic, doubts = await self._topic(place[0]), ring.doubts
        found = await self._reader.read(lambda db: messages_from(db, topic, place[1], offset, count))
        if len(found) < count:
            ring.know(found[-1].offset + 1 if found else offset, doubts)
        return found

    async def ends(self, topic: str) -> Mapping[int, int]:
        """Give where each partition ends."""
        found = await self._topic(topic)
        return await self._reader.read(lambda db: ends_of(db, found))

    async def committed(self, group: str, topic: str) -> Mapping[int, Commit]:
        """Give how far a group is."""
        found = await self._topic(topic)
        return await self._reader.read(lambda db: commits_of(db, group, found))

    def commit(self, group: str, place: Place, progress: Progress) -> None:
        """Keep how far a group is, with the next commit."""
        self._uncommitted[group, self._topics[place[0]].number, place[1]] = progress
        if self._commit_timer is None:
            loop = asyncio.get_running_loop()
            self._commit_timer = loop.call_later(COMMIT_EVERY_SECONDS, self._commit)

    async def settle(self) -> None:
        """Wait until every commit so far is kept."""
        self._commit()
        if self._committing is not None:
            # Shielded: a change whose waiter is cancelled before its transaction is dropped.
            await asyncio.shield(self._committing)

    def doubt(self) -> None:
        """Another process has written: let every consumer look at the file."""
        for ring in self._rings.values():
            ring.doubt()
        self.listeners.notice_all()

    async def prune(self) -> None:
        """Remove some of what topics have kept for long enough."""
        for topic in tuple(self._topics.values()):
            if not topic.spec.compacted:
                before = int(self._clock()) - topic.spec.kept_hours * 3600
                while await self._writer.submit(Prune(topic, before)):
                    pass

    def _published(self, message: Message) -> None:
        place = message.topic, message.partition
        ring = self._rings.get(place)
        if ring is not None:
            ring.push(message.offset, message, len(message.value))
        self.listeners.notice(place)

    def _commit(self) -> None:
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        if self._uncommitted:
            told = ((at, progress.commit()) for at, progress in self._uncommitted.items())
            commits = {at: commit for at, commit in told if commit is not None}
            self._uncommitted = {}
            self._committing = self._writer.submit(SaveCommits(commits))
            self._committing.add_done_callback(_report)

    async def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = await self._reader.read(lambda db: topic_named(db, name))
            if topic is None:
                raise no_such_topic(name, self._topics)
            self._topics[name] = topic
        return topic


def _report(done: asyncio.Future[None]) -> None:
    # Not lost: the group's next commit is higher. Without one, what was acknowledged comes again, as Q3 allows.
    if not done.cancelled() and (error := done.exception()):
        _log.warning("could not keep how far a group is", error=str(error))
