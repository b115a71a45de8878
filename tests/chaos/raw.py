"""What is really stored in a topic, read with a plain consumer, and what a stranger may write there."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from playhead.codec import Codec
from playhead.errors import Undecodable

__all__ = ["Raw", "Sorted", "raw", "sorted_out"]


@dataclass(frozen=True)
class Sorted:
    """A session's topic, sorted by the one rule: ids of the accepted records, and the epochs of the void ones."""

    accepted: list[str]
    epochs: list[int]
    void: list[int | None]
    """`None` for what is no event at all."""


class Raw:
    """A plain consumer and producer."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._consumer: Any = consumer
        self._producer: Any = producer

    async def values(self, topic: str) -> list[bytes | None]:
        """Read all that a topic holds now, partition by partition."""
        found: list[bytes | None] = []
        count = len(await self._producer.partitions_for(topic))
        for number in range(count):
            place = TopicPartition(topic, number)
            self._consumer.assign([place])
            await self._consumer.seek_to_beginning(place)
            end = (await self._consumer.end_offsets([place]))[place]
            while await self._consumer.position(place) < end:
                batches: Mapping[Any, list[Any]] = await self._consumer.getmany(place, timeout_ms=200)
                found += [record.value for records in batches.values() for record in records]
        return found

    async def commands(self, topic: str) -> list[Any]:
        """Read the commands in a topic; what is none is left out."""
        codec, found = Codec(), list[Any]()
        for value in await self.values(topic):
            with suppress(Undecodable):
                found.append(codec.command(value or b""))
        return found

    async def put_everywhere(self, topic: str, *values: bytes | None) -> None:
        """Write values into each partition of a topic."""
        for number in await self._producer.partitions_for(topic):
            for value in values:
                await self._producer.send_and_wait(topic, value, key=b"poison", partition=number)


@asynccontextmanager
async def raw(bootstrap: str) -> AsyncGenerator[Raw, None]:
    """Connect with a plain consumer and producer."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    async with consumer, producer:
        yield Raw(consumer, producer)


def sorted_out(session: str, values: list[bytes | None]) -> Sorted:
    """Tell accepted from void records, by the rule as DESIGN section 3 has it and not by the product's code."""
    codec = Codec()
    seq, tip = 0, hashlib.sha256(session.encode()).digest()
    found = Sorted([], [], [])
    for value in values:
        try:
            stamp = codec.event(value or b"").stamp
        except Undecodable:
            found.void.append(None)
            continue
        if stamp.seq == seq + 1 and stamp.prev == tip:
            seq, tip = seq + 1, hashlib.sha256(value or b"").digest()
            found.accepted.append(f"{seq}-{tip[:4].hex()}")
            found.epochs.append(stamp.epoch)
        else:
            found.void.append(stamp.epoch)
    return found
