"""Three brokers, one of which is away: nothing that two have is lost, and everything goes on without the third."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator

import pytest
from playhead.adapters.kafka import KafkaConnection, open_kafka
from playhead.adapters.kafka.connection import Cluster as Client
from playhead.adapters.kafka.wire import partition_of
from playhead.errors import Misconfigured
from playhead.ids import session_id
from playhead.queue import TopicSpec

from tests.support.cluster import Cluster, can_mount
from tests.support.java_kafka import NoBroker

DISK_MEGABYTES = 64
FULL_SECONDS = 20.0
MESSAGES = 20
SESSIONS = 10
PARTITIONS = 9
MOVED_SECONDS = 15.0
"""Much more than brokers take to agree on another leader, and much less than a client's patience."""
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
async def test_sessions_are_made_while_brokers_are_restarted_though_each_has_a_copy_on_all(brokers: Cluster) -> None:
    """One that leaves in order is not counted any more: three copies are then called impossible by Kafka."""
    await brokers.whole()
    async with open_kafka(KafkaConnection(brokers.bootstrap, replication_factor=3)) as store:

        async def restarted() -> None:
            for broker in brokers.brokers[:2]:  # of which one is not the controller
                await asyncio.to_thread(broker.stop)
                await asyncio.to_thread(broker.restart)
                await brokers.whole()

        async with asyncio.TaskGroup() as group:
            restarting = group.create_task(restarted())
            while not restarting.done():
                session = session_id(os.urandom(16))
                assert await store.log.create(session) == session
                assert (await store.log.end(session)).seq == 0


@pytest.mark.kafka
async def test_a_log_is_read_from_its_next_leader_while_the_broker_that_led_it_stays_away(brokers: Cluster) -> None:
    await brokers.whole()
    async with open_kafka(KafkaConnection(brokers.bootstrap)) as store:
        sessions = [await store.log.create(session_id(os.urandom(16))) for _ in range(SESSIONS)]
        for session in sessions:
            assert (await store.log.end(session)).seq == 0
        await asyncio.to_thread(brokers.brokers[2].kill)
        try:
            async with asyncio.timeout(MOVED_SECONDS):
                assert [(await store.log.end(session)).seq for session in sessions] == [0] * SESSIONS
        finally:
            await asyncio.to_thread(brokers.brokers[2].restart)


@pytest.mark.kafka
async def test_one_partition_without_a_leader_takes_no_other_with_it(brokers: Cluster) -> None:
    """With one copy each, a third of the partitions is away with its broker, and the rest is written and read."""
    await brokers.whole()
    topic = "single"
    connection = KafkaConnection(brokers.bootstrap, replication_factor=1, min_insync_replicas=1)
    async with open_kafka(connection) as store:
        await store.queue.prepare(TopicSpec(topic, partitions=PARTITIONS))
        client = Client(connection, "looking")
        await client.open()
        await asyncio.to_thread(brokers.brokers[2].kill)
        try:
            async with asyncio.timeout(MOVED_SECONDS):
                while -1 not in (leaders := (await client.metadata([topic]))[topic][1]):  # noqa: ASYNC110 - as brokers see it
                    await asyncio.sleep(0.05)
            keys = {partition_of(b"%d" % number, PARTITIONS): str(number) for number in range(200)}
            led = [keys[place] for place, leader in enumerate(leaders) if leader != -1]
            orphaned = [keys[place] for place, leader in enumerate(leaders) if leader == -1]
            assert led
            async with asyncio.timeout(MOVED_SECONDS), asyncio.TaskGroup() as group:
                waiting = [group.create_task(store.queue.publish(topic, key, b"value")) for key in orphaned]
                for _ in range(5):
                    for key in led:
                        await store.queue.publish(topic, key, b"value")
                assert not any(one.done() for one in waiting)
                await asyncio.to_thread(brokers.brokers[2].restart)
        finally:
            await client.close()
            await brokers.delete(topic)
            if not brokers.brokers[2].is_running:
                await asyncio.to_thread(brokers.brokers[2].restart)
            await brokers.whole()


@pytest.mark.kafka
async def test_a_deployment_that_wants_more_copies_than_there_are_brokers_is_told_so_at_once(brokers: Cluster) -> None:
    await brokers.whole()
    async with open_kafka(KafkaConnection(brokers.bootstrap, replication_factor=4)) as store:
        with pytest.raises(Misconfigured, match="4 time"):
            await store.queue.prepare(TopicSpec("too-many-copies", partitions=1))
