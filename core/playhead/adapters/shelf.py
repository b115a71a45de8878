"""What the memory and the SQLite queue have in common: topics on a shelf, and how they are listened to and replayed.

A shelf keeps messages by topic and partition. Consumer groups (`groups`) and `replay` are written against it once, so
that an adapter has only to keep, take and commit. Nothing here knows how a message is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from playhead.adapters.progress import Progress
from playhead.codec import RECORD_BYTES_MAX
from playhead.errors import Misconfigured, TooLarge
from playhead.queue import Message, Since

__all__ = [
    "BATCH_MESSAGES_MAX",
    "Commit",
    "Listener",
    "Listeners",
    "Place",
    "Shelf",
    "check_size",
    "no_such_topic",
    "partition_for",
    "replay",
    "start_of",
]

BATCH_MESSAGES_MAX = 256
"""The most messages in one batch that a consumer is handed."""

Place = tuple[str, int]
"""A topic and one of its partitions."""


Commit = tuple[int, str]
"""The offset before which a group is done with every message, and those after it (see `progress`)."""


class Shelf(Protocol):
    """Kept messages, as consumers see them. An offset is where a message is; offsets grow, perhaps with gaps."""

    @property
    def listeners(self) -> Listeners:
        """Those who wait for messages."""
        ...

    async def width(self, topic: str) -> int:
        """Give the number of partitions of a topic. Raises `Misconfigured` where there is no such topic."""
        ...

    async def take(self, place: Place, offset: int, count: int) -> Sequence[Message]:
        """Give at most `count` messages from `offset` on, in order. Fewer means that there are no more, for now."""
        ...

    async def ends(self, topic: str) -> Mapping[int, int]:
        """Give, by partition, the offset that the next message will have at least. Absent means 0."""
        ...

    async def committed(self, group: str, topic: str) -> Mapping[int, Commit]:
        """Give, by partition, how far the group is. Absent means at the beginning."""
        ...

    def commit(self, group: str, place: Place, progress: Progress) -> None:
        """Keep how far a group is, soon: `progress` tells, when it is written."""
        ...

    async def settle(self) -> None:
        """Wait until every commit so far is kept."""
        ...


class Listener:
    """One consumer's ear: which places may have news, and an event to wait on."""

    def __init__(self) -> None:
        self.ready: dict[Place, None] = {}
        self.news = asyncio.Event()

    def notice(self, place: Place) -> None:
        """Say that a place may have a new message."""
        self.ready[place] = None
        self.news.set()


class Listeners:
    """Everybody who waits for messages, by topic."""

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[Listener, frozenset[int]]] = {}

    @contextmanager
    def attached(self, listener: Listener, topics: Mapping[str, int]) -> Generator[None, None, None]:
        """Let a listener hear of these topics (with their widths) for as long as the block lasts."""
        for topic, width in topics.items():
            self._by_topic.setdefault(topic, {})[listener] = frozenset(range(width))
        try:
            yield
        finally:
            for topic in topics:
                of_topic = self._by_topic[topic]
                del of_topic[listener]
                if not of_topic:
                    del self._by_topic[topic]

    def __bool__(self) -> bool:
        return bool(self._by_topic)

    def notice(self, place: Place) -> None:
        """Tell those who listen to a topic of a new message."""
        for listener in self._by_topic.get(place[0], ()):
            listener.notice(place)

    def notice_all(self) -> None:
        """Tell everybody that any place may have news."""
        for topic, listeners in self._by_topic.items():
            for listener, partitions in listeners.items():
                for partition in partitions:
                    listener.notice((topic, partition))


async def replay(
    shelf: Shelf,
    topic: str,
    *,
    since: Since,
    follow: bool,
    partitions: frozenset[int] | None,
) -> AsyncGenerator[tuple[Message, ...], None]:
    """Yield what a shelf keeps of a topic, as `Queue.replay` says it."""
    width = await shelf.width(topic)
    wanted = frozenset(range(width)) if partitions is None else partitions
    listener = Listener()
    # Listening starts before the ends are looked up, so nothing can fall between what was there and what arrives.
    with shelf.listeners.attached(listener, {topic: width}):
        ends = await shelf.ends(topic)
        positions = {p: start_of(since, p, ends.get(p, 0)) for p in sorted(wanted)}
        for partition, start in positions.items():
            position, end = start, ends.get(partition, 0)
            while position < end:
                batch = await shelf.take((topic, partition), position, BATCH_MESSAGES_MAX)
                there = tuple(message for message in batch if message.offset < end)
                position = positions[partition] = there[-1].offset + 1 if there else end
                if there:
                    yield there
        if follow:
            yield ()
        while follow:
            listener.news.clear()
            arrived = [p for p in positions if (topic, p) in listener.ready]
            listener.ready.clear()
            for partition in arrived:
                while batch := await shelf.take((topic, partition), positions[partition], BATCH_MESSAGES_MAX):
                    positions[partition] = batch[-1].offset + 1
                    yield tuple(batch)
            await listener.news.wait()


def start_of(since: Since, partition: int, end: int) -> int:
    """Tell where the replay of a partition that ends there begins."""
    if isinstance(since, str):
        return end if since == "end" else 0
    start = since.get(partition, 0)
    return start if start <= end else 0


def check_size(topic: str, value: bytes) -> None:
    """Refuse a value that no message may have. Raises `TooLarge`."""
    if len(value) > RECORD_BYTES_MAX:
        raise TooLarge(f"{len(value)} bytes for {topic}", f"a message has at most {RECORD_BYTES_MAX}")


def no_such_topic(topic: str, known: Iterable[str]) -> Misconfigured:
    """Say that a topic is missing, and what to do."""
    names = ", ".join(sorted(known)) or "none"
    return Misconfigured(f"there is no topic {topic}: prepare it before it is used (there are: {names})")


def partition_for(key: str, partitions: int) -> int:
    """Tell the partition of a key: murmur2, as Kafka's default partitioner has it, so that all adapters agree."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Hash bytes as `org.apache.kafka.common.utils.Utils.murmur2` does, to 32 bits."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    whole = len(data) & ~3
    state = 0x9747B28C ^ len(data)
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        state = (state * mix & mask) ^ word
    if rest := data[whole:]:
        state = (state ^ int.from_bytes(rest, "little")) * mix & mask
    state = (state ^ state >> 13) * mix & mask
    return state ^ state >> 15
