"""Three brokers, one of which is away: nothing that two have is lost, and everything goes on without the third."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator

import pytest
from playhead.adapters.kafka import KafkaConnection, open_kafka
from playhead.errors import Misconfigured
from playhead.ids import session_id
from playhead.queue import TopicSpec

from tests.support.cluster import Cluster, can_mount
from tests.support.java_kafka import NoBroker

DISK_MEGABYTES = 64
FULL_SECONDS = 20.0
MESSAGES = 20
AWAY_SECONDS = 1.0
SESSIONS = 10
BIG = b"x" * 100_000


@pytest.fixture(scope="module")
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


@pytest.mark.kafka
async def test_sessions_are_made_while_a_broker_is_restarted_though_each_has_a_copy_on_it(brokers: Cluster) -> None:
    """One that left in order is not counted any more: three copies are then called impossible by Kafka."""
    await brokers.whole()
    async with open_kafka(KafkaConnection(brokers.bootstrap, replication_factor=3)) as store:

        async def restarted() -> None:
            await asyncio.to_thread(brokers.brokers[1].stop)
            is_away.set()
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(brokers.brokers[1].restart)

        is_away = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(restarted())
            await is_away.wait()
            for _ in range(SESSIONS):
                session = session_id(os.urandom(16))
                assert await store.log.create(session) == session
                assert (await store.log.end(session)).seq == 0


@pytest.mark.kafka
async def test_a_deployment_that_wants_more_copies_than_there_are_brokers_is_told_so_at_once(brokers: Cluster) -> None:
    await brokers.whole()
    async with open_kafka(KafkaConnection(brokers.bootstrap, replication_factor=4)) as store:
        with pytest.raises(Misconfigured, match="4 time"):
            await store.queue.prepare(TopicSpec("too-many-copies", partitions=1))
