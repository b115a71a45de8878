"""The ports with a failpoint before and after everything that leaves something behind. For tests alone.

What happens at a point is decided elsewhere (`playhead.failpoints.Faults`): here it is only known where the points are.
Reading goes through untouched. A new method of a port that writes belongs here; a test of the house insists on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from playhead.accept import Head, Record
from playhead.archive import Archive
from playhead.errors import Unavailable
from playhead.failpoints import Action, Faults
from playhead.ids import BEGINNING, Cursor, SessionId
from playhead.log import Page, SessionLog
from playhead.queue import Delivery, Member, Message, Queue, Since, Topics, TopicSpec

__all__ = ["FailingArchive", "FailingLog", "FailingQueue"]


class FailingLog:
    """A session log with failpoints, as a role uses it. See `playhead.log.SessionLog`."""

    def __init__(self, log: SessionLog, role: str, faults: Faults) -> None:
        self._log = log
        self._role = role
        self._faults = faults

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make a session."""
        return await self._faults.through(f"{self._role}.create", lambda: self._log.create(session))

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Append."""
        return await self._faults.through(f"{self._role}.append", lambda: self._log.append(session, head, records))

    def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield the session in pages."""
        return self._log.read(session, after, follow=follow)

    async def end(self, session: SessionId) -> Head:
        """Give the session's head."""
        return await self._log.end(session)

    async def delete(self, session: SessionId) -> None:
        """Remove a session."""
        await self._faults.through(f"{self._role}.delete", lambda: self._log.delete(session))


class FailingArchive:
    """An archive with failpoints, as a role uses it. See `playhead.archive.Archive`."""

    def __init__(self, archive: Archive, role: str, faults: Faults) -> None:
        self._archive = archive
        self._role = role
        self._faults = faults

    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        """Keep a thing."""
        await self._faults.through(f"{self._role}.put", lambda: self._archive.put(session, name, data))

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        """Give a thing."""
        return await self._archive.get(session, name, bytes_max)


class FailingQueue:
    """A queue with failpoints, as a role uses it. See `playhead.queue.Queue`."""

    def __init__(self, queue: Queue, topics: Topics, role: str, faults: Faults) -> None:
        self._queue = queue
        self._topics = topics
        self._role = role
        self._faults = faults

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make topics."""
        await self._faults.through(f"{self._role}.prepare", lambda: self._queue.prepare(*topics))

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Publish."""
        boundary = f"{self._role}.publish.{self._topics.kind_of(topic)}"
        await self._faults.through(boundary, lambda: self._queue.publish(topic, key, value))

    def join(self, group: str, *topics: str) -> AbstractAsyncContextManager[Member]:
        """Join a group."""
        return self._join(group, *topics)

    @asynccontextmanager
    async def _join(self, group: str, *topics: str) -> AsyncGenerator[Member, None]:
        async with self._queue.join(group, *topics) as member:
            failing = _FailingMember(member, self._role, self._faults)
            try:
                yield failing
            except BaseException:
                failing.forget()  # what is lost with a crash
                raise
            failing.settle()

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
        """Tell the partition of a key."""
        return await self._queue.partition_of(topic, key)


class _FailingMember:
    """A member that loses its deliveries or acknowledgements, and with them its place in the group."""

    def __init__(self, member: Member, role: str, faults: Faults) -> None:
        self._member = member
        self._role = role
        self._faults = faults
        self._again = deque[Delivery]()
        self._held = list[tuple[asyncio.TimerHandle, tuple[Message, ...]]]()
        self._lost = asyncio.Event()

    async def receive(self) -> Delivery:
        point = f"{self._role}.receive"
        if self._again:
            return self._again.popleft()
        if await self._faults.at(f"{point}.before") is Action.REFUSED:
            raise Unavailable(f"{point}: refused by a failpoint")
        delivery = await self._received()
        if not isinstance(delivery, tuple):
            return delivery
        action = await self._faults.at(f"{point}.after")
        if action is Action.LOST:
            raise Unavailable(f"{point}: what was delivered was lost by a failpoint")
        if action is Action.TWICE:
            self._again.append(delivery)
        return delivery

    def acknowledge(self, *messages: Message) -> None:
        """Acknowledge. What becomes of it is not told: a member that fails in it finds out when it next receives."""
        point = f"{self._role}.acknowledge"
        action = self._faults.decide(f"{point}.before")
        if action is Action.REFUSED:
            self._lost.set()
        if action is Action.DELAY:
            loop = asyncio.get_running_loop()
            self._held.append((loop.call_later(self._faults.delay_seconds, self.settle), messages))
        if action in (Action.REFUSED, Action.DELAY, Action.KILL):
            return
        self._member.acknowledge(*messages)
        action = self._faults.decide(f"{point}.after")
        if action is Action.LOST:
            self._lost.set()
        elif action is Action.TWICE:
            self._member.acknowledge(*messages)

    def settle(self) -> None:
        """Acknowledge what was held back."""
        for timer, messages in self._held:
            timer.cancel()
            self._member.acknowledge(*messages)
        self._held.clear()

    def forget(self) -> None:
        """Never acknowledge what was held back."""
        for timer, _ in self._held:
            timer.cancel()
        self._held.clear()

    async def _received(self) -> Delivery:
        async with asyncio.TaskGroup() as tasks:
            receiving, losing = tasks.create_task(self._receive()), tasks.create_task(self._lost.wait())
            await asyncio.wait((receiving, losing), return_when=asyncio.FIRST_COMPLETED)
            receiving.cancel()
            losing.cancel()
        if self._lost.is_set():
            raise Unavailable(f"{self._role}.acknowledge: the member lost its place by a failpoint")
        came = receiving.result()
        if isinstance(came, Unavailable):
            raise came
        return came

    async def _receive(self) -> Delivery | Unavailable:
        """Receive. An error raised in a task group would come out of it as one of a group."""
        try:
            return await self._member.receive()
        except Unavailable as error:
            return error
