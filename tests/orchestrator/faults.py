"""Adapters that fail as a test tells them to, around those that do not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Literal

from playhead.accept import Head, Record
from playhead.errors import Unavailable
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import Page, SessionLog
from playhead.queue import Assigned, Delivery, Member, Message, Queue, Revoked, Since, TopicSpec

Fault = Literal["before", "after"]
"""Where it happens: before the store acts, or after, so that what was done is not known to have been."""


class FaultyLog:
    """A session log whose appends wait for `door`, and fail as `faults` say, one after another.

    `ends_asked` counts how often somebody wanted to know where a log ends.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self.faults: deque[Fault | None] = deque()
        self.door = asyncio.Event()
        self.door.set()
        self.waiting = asyncio.Event()
        self.acts_before_the_door = False
        self.ends_asked = 0

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make a session."""
        return await self._log.create(session)

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Append, or fail."""
        fault = self.faults.popleft() if self.faults else None
        if fault == "before":
            raise Unavailable("told to fail before")
        after = await self._log.append(session, head, records) if self.acts_before_the_door else None
        if not self.door.is_set():
            self.waiting.set()
            await self.door.wait()
        after = after or await self._log.append(session, head, records)
        if fault == "after":
            raise Unavailable("told to fail after")
        return after

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield pages."""
        async with aclosing(self._log.read(session, after, follow=follow)) as pages:
            async for page in pages:
                yield page

    async def end(self, session: SessionId) -> Head:
        """Give the head."""
        self.ends_asked += 1
        return await self._log.end(session)

    async def delete(self, session: SessionId) -> None:
        """Remove a session."""
        await self._log.delete(session)


class FaultyQueue:
    """A queue that does `before_publish` before it publishes, which may raise."""

    def __init__(self, queue: Queue, before_publish: Callable[[str], Awaitable[None]]) -> None:
        self._queue = queue
        self._before_publish = before_publish

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make topics."""
        await self._queue.prepare(*topics)

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Publish, or fail."""
        await self._before_publish(topic)
        await self._queue.publish(topic, key, value)

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        """Join a group."""
        return self._queue.join(group, *topics)

    def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept."""
        return self._queue.replay(topic, since=since, follow=follow, partitions=partitions)

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell a partition."""
        return await self._queue.partition_of(topic, key)


class EagerMember:
    """A member whose group, when `rebalance` is set, takes everything away from it and gives it back, as Kafka's do."""

    def __init__(self, member: Member, rebalance: asyncio.Event) -> None:
        self._member = member
        self._rebalance = rebalance
        self._held = frozenset[int]()
        self._given_back: Assigned | None = None

    async def receive(self) -> Delivery:
        if self._given_back is not None:
            given_back, self._given_back = self._given_back, None
            return given_back
        if self._rebalance.is_set():
            self._rebalance.clear()
            self._given_back = Assigned(self._held)
            return Revoked(self._held)
        delivery = await self._member.receive()
        if isinstance(delivery, Assigned):
            self._held |= delivery.partitions
        return delivery

    def acknowledge(self, *messages: Message) -> None:
        self._member.acknowledge(*messages)


class EagerQueue(FaultyQueue):
    """A queue whose members rebalance eagerly."""

    def __init__(self, queue: Queue, rebalance: asyncio.Event) -> None:
        async def before_publish(topic: str) -> None:
            """Nothing goes wrong here."""

        super().__init__(queue, before_publish)
        self._rebalance = rebalance

    @asynccontextmanager
    async def _join(self, group: str, *topics: str) -> AsyncGenerator[Member]:
        async with self._queue.join(group, *topics) as member:
            yield EagerMember(member, self._rebalance)

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        return self._join(group, *topics)
