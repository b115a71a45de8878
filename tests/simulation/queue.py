"""The queue of a simulated deployment: topics over an untrustworthy network, and the groups that consume them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from playhead.adapters.shelf import no_such_topic, partition_for, start_of
from playhead.errors import Unavailable
from playhead.queue import Message, Since, TopicSpec

from tests.simulation.group import Group, SimMember
from tests.simulation.loop import process_of
from tests.simulation.store import Network, Topic

__all__ = ["SimQueue"]


class SimQueue:
    """Topics of keyed messages. See `playhead.queue.Queue`; every process has the same one."""

    def __init__(self, network: Network) -> None:
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self._network = network
        self._ears: dict[str, dict[asyncio.Event, None]] = {}

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make topics that are not there."""

        network = self._network

        def make() -> None:
            for spec in topics:
                self.topics.setdefault(spec.name, Topic(spec, network.loop.time))

        await network.call(make, network.fate())

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Keep a message."""
        network = self._network

        def keep() -> None:
            partition = self._topic(topic).keep(key, value)
            for group in self.groups.values():
                group.news(topic, partition)
            for ear in self._ears.get(topic, ()):
                network.loop.call_later(network.hop(), ear.set, context=network.server.context)

        await network.call(keep, network.fate())

    @asynccontextmanager
    async def join(self, group: str, *topics: str) -> AsyncGenerator[SimMember, None]:
        """Take part in a group for as long as the block lasts."""
        process = process_of()
        network = self._network
        found = await network.call(lambda: self._group(group, topics), "lost" if network.disconnects() else "arrives")
        member = SimMember(process, found, network)
        found.enter(member)
        try:
            yield member
        finally:
            member.close()

    def _group(self, name: str, topics: Sequence[str]) -> Group:
        widths = {topic: self._topic(topic).spec.partitions for topic in topics}
        if name not in self.groups:
            self.groups[name] = Group(self.topics, widths, self._network)
        return self.groups[name]

    async def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept."""
        network, ear = self._network, asyncio.Event()
        found = await network.call(lambda: self._topic(topic))
        wanted = sorted(range(found.spec.partitions) if partitions is None else partitions)
        ears = self._ears.setdefault(topic, {})
        ears[ear] = None
        try:
            ends = await network.call(lambda: {p: found.ends[p] for p in wanted})
            positions = {p: start_of(since, p, ends[p]) for p in wanted}
            for batch in await network.call(lambda: self._between(found, positions, ends)):
                yield batch
            positions = ends
            if not follow:
                return
            yield ()
            while True:
                if network.disconnects():
                    raise Unavailable("the connection is gone")
                ear.clear()
                ends = await network.call(lambda: {p: found.ends[p] for p in wanted})
                start = positions
                for batch in await network.call(lambda start=start, ends=ends: self._between(found, start, ends)):
                    yield batch
                positions = ends
                await ear.wait()
        finally:
            ears.pop(ear, None)

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell the partition of a key."""
        return partition_for(key, self._topic(topic).spec.partitions)

    @staticmethod
    def _between(topic: Topic, start: dict[int, int], end: dict[int, int]) -> list[tuple[Message, ...]]:
        batches: list[tuple[Message, ...]] = []
        for partition, offset in start.items():
            there = tuple(m for m in topic.take(partition, offset, 1_000_000) if m.offset < end[partition])
            if there:
                batches.append(there)
        return batches

    def _topic(self, topic: str) -> Topic:
        try:
            return self.topics[topic]
        except KeyError:
            raise no_such_topic(topic, self.topics) from None
