"""The reference *raw*: the stores without Playhead. The same records, written and read by bare aiokafka or sqlite3.

Deltas are paced as the model paces them, each stamped when it is written, so that figures compare with the client's.
Kafka: one idempotent producer, `acks=all`, no linger, one topic of one partition, one consumer that is waiting for it.
SQLite: one connection appends, each record a transaction; another reads it back.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # pyright: ignore[reportMissingTypeStubs]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # pyright: ignore[reportMissingTypeStubs]
from playhead.accept import advance, genesis
from playhead.codec import Codec, Context
from playhead.events import TextDelta
from playhead.ids import RunId, session_id

__all__ = ["main"]

STAMP = re.compile(rb"@([0-9]{19})")

WARM_UP = 20
"""Records whose figures are dropped: the first ones pay for connections and metadata."""


def values(count: int) -> Iterator[bytes]:
    """Make the records of one session's deltas, each when it is asked for."""
    codec = Codec()
    session = session_id(secrets.token_bytes(16))
    head = genesis(session)
    for _ in range(count):
        now = time.monotonic_ns()
        delta = TextDelta(RunId("run_0123456789abcdef0123"), 1, 1, f"@{now:019d} so it goes, ")
        record = codec.seal(head, [delta], Context(session, 1, None, time.time_ns() // 1000))[0]
        head, _ = advance(head, [record])
        yield record.value


def delay_ms(value: bytes) -> float:
    now = time.monotonic_ns()
    found = STAMP.search(value)
    assert found is not None, "every record was written by `values`"
    return (now - int(found[1])) / 1e6


async def through_kafka(bootstrap: str, count: int, rate: int) -> list[float]:
    """Produce and consume through one new topic; give each record's delay in milliseconds."""
    topic = f"bench-raw-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])  # pyright: ignore[reportUnknownMemberType] - untyped library
        delays = await _produce_and_consume(bootstrap, topic, count, rate)
        await admin.delete_topics([topic])  # pyright: ignore[reportUnknownMemberType] - untyped library
        return delays
    finally:
        await admin.close()


async def _produce_and_consume(bootstrap: str, topic: str, count: int, rate: int) -> list[float]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])  # pyright: ignore[reportUnknownMemberType] - untyped library
    delays: list[float] = []

    async def consume() -> None:
        async for message in consumer:  # pyright: ignore[reportUnknownVariableType] - untyped library
            delays.append(delay_ms(bytes(message.value or b"")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            if len(delays) == count + WARM_UP:
                return

    async with producer, consumer, asyncio.TaskGroup() as group:
        group.create_task(consume())
        for value in values(count + WARM_UP):
            await producer.send_and_wait(topic, value, partition=0)  # pyright: ignore[reportUnknownMemberType] - untyped library
            await asyncio.sleep(1 / rate)
    return delays[WARM_UP:]


def through_sqlite(folder: Path, count: int, rate: int) -> list[float]:
    """Append to a new database and read back; give each record's delay in milliseconds."""
    path = folder / f"raw-{secrets.token_hex(4)}.db"
    delays: list[float] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as writer, closing(sqlite3.connect(path)) as reader:
        writer.execute("pragma journal_mode = wal")
        writer.execute("pragma synchronous = full")
        writer.execute("create table event (seq integer primary key, value blob not null)")
        for seq, value in enumerate(values(count + WARM_UP), start=1):
            writer.execute("insert into event values (?, ?)", (seq, value))
            (read,) = reader.execute("select value from event where seq = ?", (seq,)).fetchone()
            delays.append(delay_ms(read))
            time.sleep(1 / rate)
    return delays[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write and read records by the bare store; print delays as JSON.")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--kafka", metavar="HOST:PORT")
    store.add_argument("--sqlite", metavar="FOLDER", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=int, default=50, help="records per second")
    arguments = parser.parse_args()
    if arguments.kafka:
        delays = uvloop.run(through_kafka(arguments.kafka, arguments.count, arguments.rate))
    else:
        delays = through_sqlite(arguments.sqlite, arguments.count, arguments.rate)
    print(orjson.dumps({"delta_ms": delays}).decode(), flush=True)


if __name__ == "__main__":
    main()
