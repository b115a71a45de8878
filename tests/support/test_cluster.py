"""The three brokers do what the tests of chaos rely on: they lose nothing that two have, and go on without one."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from playhead.adapters.kafka import KafkaConnection, open_kafka
from playhead.queue import TopicSpec

from tests.support.cluster import Cluster, can_mount
from tests.support.java_kafka import NoBroker

DISK_MEGABYTES = 64
FULL_SECONDS = 20.0
MESSAGES = 20
BIG = b"x" * 100_000


@pytest.fixture
def brokers() -> Generator[Cluster, None, None]:
    cluster = Cluster(disk_megabytes=DISK_MEGABYTES if can_mount() else 0)
    try:
        cluster.start()
    except NoBroker as reason:
        pytest.skip(f"no Kafka: {reason}")
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.mark.kafka
async def test_a_cluster_loses_no_message_with_any_one_broker_lost_or_its_disk_full(brokers: Cluster) -> None:
    await brokers.whole()
    topic = "brokers"
    async with open_kafka(KafkaConnection(brokers.bootstrap)) as store:
        await store.queue.prepare(TopicSpec(topic, partitions=3))

        async def written(start: int) -> None:
            for number in range(start, start + MESSAGES):
                await store.queue.publish(topic, str(number), b"%d" % number)

        await written(0)
        for place, broker in enumerate(brokers.brokers, 1):
            await asyncio.to_thread(broker.kill)
            await written(place * MESSAGES)
            await asyncio.to_thread(broker.restart)
            await brokers.whole()
        last = len(brokers.brokers) + 1
        if can_mount():
            broker = brokers.brokers[0]
            broker.fill()
            async with asyncio.timeout(FULL_SECONDS):
                while broker.is_running:
                    await store.queue.publish(topic, "more", BIG)
            await written(last * MESSAGES)
            broker.make_room()
            await asyncio.to_thread(broker.restart)
            await brokers.whole()
            last += 1
        kept = [message.value async for page in store.queue.replay(topic) for message in page]
    assert sorted(int(value) for value in kept if value != BIG) == list(range(last * MESSAGES))
