"""The queue on Kafka: publish by key, join a group, replay."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager

from playhead.adapters.kafka.connection import Cluster, NoTopic
from playhead.adapters.kafka.follow import OutOfRange, fetch, follow
from playhead.adapters.kafka.member import GroupMember
from playhead.adapters.kafka.sink import Chunk
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.topics import TopicAdmin
from playhead.adapters.kafka.wire import EARLIEST, LATEST, Place, end_of, partition_of
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.codec import RECORD_BYTES_MAX
from playhead.errors import Misconfigured, TooLarge
from playhead.queue import Member, Message, Since, TopicSpec

__all__ = ["KafkaQueue"]


class KafkaQueue:
    """Topics of keyed messages on Kafka."""

    def __init__(self, cluster: Cluster, admin: TopicAdmin, writer: Writer, tail: Tail) -> None:
        self._cluster = cluster
        self._admin = admin
        self._writer = writer
        self._tail = tail

    async def prepare(self, *topics: TopicSpec) -> None:
        """Make sure that topics exist."""
        await self._admin.create(topics)

    async def publish(self, topic: str, key: str, value: bytes) -> None:
        """Keep a message; when this returns it is safe."""
        if len(value) > RECORD_BYTES_MAX:
            raise TooLarge(f"a message of {len(value)} bytes", f"a message has at most {RECORD_BYTES_MAX}")
        encoded = key.encode()

        async def once() -> int:
            partition = partition_of(encoded, len(await self._cluster.leaders(topic)))
            return await self._writer.send(Batch((topic, partition), [(encoded, value)], gathers=True))

        try:
            await self._cluster.patiently(once)
        except NoTopic as error:
            raise _missing(topic) from error

    @asynccontextmanager
    async def join(self, group: str, *topics: str) -> AsyncGenerator[Member, None]:
        """Take part in a group that consumes these topics."""
        for topic in topics:
            await self._partitions(topic)
        member = GroupMember(self._cluster, group, topics)
        await member.open()
        try:
            yield member
        finally:
            await member.close()

    async def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept of a topic (or some partitions of it), then, with `follow`, what arrives."""
        there = range(await self._partitions(topic))
        places: list[Place] = [(topic, number) for number in there if partitions is None or number in partitions]
        try:
            positions = {place: await self._start(since, place) for place in places}
            async with aclosing(self._kept(positions)) as chunks:
                async for chunk in chunks:
                    yield _messages(chunk)
            yield ()
            if follow:
                async with aclosing(self._arriving(positions)) as chunks:
                    async for chunk in chunks:
                        yield _messages(chunk)
        except NoTopic as error:
            raise _missing(topic) from error

    async def partition_of(self, topic: str, key: str) -> int:
        """Tell which partition of a topic the messages of a key are in."""
        return partition_of(key.encode(), await self._partitions(topic))

    async def _partitions(self, topic: str) -> int:
        try:
            return len(await self._cluster.patiently(lambda: self._cluster.leaders(topic)))
        except NoTopic as error:
            raise _missing(topic) from error

    async def _start(self, since: Since, place: Place) -> int:
        if isinstance(since, Mapping) and place[1] in since:
            return since[place[1]]
        return await self._edge(place, LATEST if since == "end" else EARLIEST)

    async def _edge(self, place: Place, which: int) -> int:
        return await self._cluster.patiently(lambda: end_of(self._cluster, place, which))

    async def _kept(self, positions: dict[Place, int]) -> AsyncGenerator[Chunk, None]:
        """Yield what is kept now, partition by partition, and move the positions on."""
        for place in tuple(positions):
            behind = True
            while behind:
                try:
                    chunk, end = await fetch(self._cluster, place, positions[place])
                except OutOfRange:
                    positions[place] = await self._edge(place, EARLIEST)
                    continue
                positions[place] = chunk.after
                behind = chunk.after < end
                if chunk.records:
                    yield chunk

    async def _arriving(self, positions: dict[Place, int]) -> AsyncGenerator[Chunk, None]:
        """Yield what arrives after the positions, for ever."""
        while True:
            try:
                async with aclosing(follow(self._cluster, self._tail, positions)) as chunks:
                    async for chunk in chunks:
                        positions[chunk.place] = chunk.after
                        if chunk.records:
                            yield chunk
            except OutOfRange as error:
                # retention was quicker than the reader: what is kept now is what there is to read
                positions[error.place] = await self._edge(error.place, EARLIEST)


def _missing(topic: str) -> Misconfigured:
    return Misconfigured(f"there is no topic {topic}: run `playhead topics create`")


def _messages(chunk: Chunk) -> tuple[Message, ...]:
    topic, partition = chunk.place
    return tuple(
        Message(topic, partition, record.offset, (record.key or b"").decode(errors="replace"), record.value)
        for record in chunk.records
    )
