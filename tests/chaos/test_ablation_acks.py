"""What `acks=all` is for: with one acknowledgement only, a leader that dies takes along what it alone has confirmed.

The same appends to the same brokers, with the safeguard and without it. Without, what was acknowledged is gone, and
this test sees that. Whoever has seen it is told so: that this log is another, and not that all is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiokafka.protocol.api import Request
from aiokafka.protocol.produce import ProduceRequest
from playhead.accept import Head, genesis
from playhead.adapters.kafka import KafkaConnection, KafkaStore
from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import Cluster as Connections
from playhead.codec import Codec
from playhead.errors import CursorConflict, Superseded
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.queue import Topics
from playhead.testing import chain, said

from tests.support.cluster import Cluster, ClusterBroker
from tests.support.java_kafka import NoBroker

BEFORE, AFTER = 20, 20
ALONE = 20
"""So many appends are acknowledged by a leader that has nobody to follow it, if one is enough. The first of them may
have been under way to a follower that was frozen when it came."""
ALONE_SECONDS = 2.0
"""How long it is left alone; less than the brokers' session timeout."""
HIDDEN_SECONDS = 1.0
SETTLED_SECONDS = 0.5
END_SECONDS = 60.0
CODEC = Codec()


class OneIsEnough(Connections):
    """A cluster from whose brokers a batch is safe as soon as its leader has it: the safeguard, removed."""

    async def call(self, node: int, request: Request[Any], purpose: str) -> Any:
        if isinstance(request, ProduceRequest):
            request._required_acks = 1  # pyright: ignore[reportPrivateUsage] - there is no other way to it
        return await super().call(node, request, purpose)


@pytest.fixture(scope="module")
def brokers() -> Generator[Cluster, None, None]:
    cluster = Cluster()
    try:
        cluster.start()
    except NoBroker as reason:
        pytest.skip(f"no Kafka: {reason}")
    try:
        yield cluster
    finally:
        cluster.close()


@asynccontextmanager
async def opened(bootstrap: str, kind: type[Connections]) -> AsyncGenerator[KafkaStore, None]:
    connections, background = kind(KafkaConnection(bootstrap), "ablation"), Background()
    await connections.open()
    try:
        yield KafkaStore(connections, Topics(), background)
    finally:
        await background.close()
        await connections.close()


async def appended(log: SessionLog, session: SessionId, acknowledged: list[Head], count: int) -> None:
    """Append until there are so many acknowledgements."""
    while len(acknowledged) < count:
        head = acknowledged[-1] if acknowledged else genesis(session)
        acknowledged.append(await log.append(session, head, chain(CODEC, session, head, *said("word"))))


async def stricken(brokers: Cluster, store: KafkaStore, session: SessionId) -> tuple[list[Head], bool]:
    """Append while a leader is left alone and dies; give what was acknowledged, and whether it was superseded."""
    acknowledged: list[Head] = []
    await appended(store.log, session, acknowledged, BEFORE)
    await asyncio.sleep(SETTLED_SECONDS)  # with one acknowledgement nobody says when the followers have it too
    leader, followers = await split(brokers, session)
    for follower in followers:
        follower.freeze()
    try:
        async with asyncio.timeout(END_SECONDS), asyncio.TaskGroup() as group:
            appending = group.create_task(superseded(store.log, session, acknowledged))
            await asyncio.sleep(ALONE_SECONDS)  # what is tested is what is acknowledged in this time
            await asyncio.to_thread(leader.kill)
            for follower in followers:
                follower.thaw()
        return acknowledged, appending.result()
    finally:
        for follower in followers:
            follower.thaw()
        await asyncio.to_thread(leader.restart)
        await brokers.whole()


async def superseded(log: SessionLog, session: SessionId, acknowledged: list[Head]) -> bool:
    try:
        await appended(log, session, acknowledged, BEFORE + ALONE)
        await asyncio.sleep(ALONE_SECONDS)
        await appended(log, session, acknowledged, BEFORE + ALONE + AFTER)
    except Superseded:
        return True
    return False


async def split(brokers: Cluster, session: SessionId) -> tuple[ClusterBroker, tuple[ClusterBroker, ...]]:
    """Tell the broker that leads a session from those that follow it."""
    connections = Connections(KafkaConnection(brokers.bootstrap), "asking")
    await connections.open()
    try:
        number = await connections.leader(Topics().session(session), 0)
    finally:
        await connections.close()
    leader = next(broker for broker in brokers.brokers if broker.number == number)
    return leader, tuple(broker for broker in brokers.brokers if broker is not leader)


async def kept(log: SessionLog, session: SessionId) -> set[str]:
    async with aclosing(log.read(session)) as pages:
        return {str(record.cursor) async for page in pages for record in page.records}


@pytest.mark.kafka
async def test_what_all_replicas_in_sync_have_confirmed_outlives_the_leader(brokers: Cluster) -> None:
    await brokers.whole()
    async with opened(brokers.bootstrap, Connections) as store:
        session = await store.log.create()
        acknowledged, was_superseded = await stricken(brokers, store, session)
        assert not was_superseded
        assert len(acknowledged) == BEFORE + ALONE + AFTER
        assert {str(head.cursor) for head in acknowledged} == await kept(store.log, session)
        await store.stock.close()


@pytest.mark.kafka
async def test_without_that_safeguard_acknowledged_appends_are_lost_and_readers_who_saw_them_are_told(
    brokers: Cluster,
) -> None:
    await brokers.whole()
    async with opened(brokers.bootstrap, OneIsEnough) as store:
        session = await store.log.create()
        acknowledged, was_superseded = await stricken(brokers, store, session)
        left = await kept(store.log, session)
        lost = [head for head in acknowledged if str(head.cursor) not in left]
        assert lost
        assert was_superseded
        with pytest.raises(CursorConflict):
            async with aclosing(store.log.read(session, lost[-1].cursor)) as pages:
                await anext(pages)
        await store.stock.close()


@pytest.mark.kafka
async def test_an_append_is_not_judged_by_a_leader_that_does_not_show_yet_what_it_has(brokers: Cluster) -> None:
    """So is one that has just become leader; here it waits for followers that are frozen."""
    await brokers.whole()
    async with opened(brokers.bootstrap, OneIsEnough) as store, asyncio.timeout(END_SECONDS):
        session = await store.log.create()
        await store.queue.publish(Topics().session(session), "", b"void, so that the tail must be read")
        _, followers = await split(brokers, session)
        head = genesis(session)
        for follower in followers:
            follower.freeze()
        try:
            async with asyncio.TaskGroup() as group:
                appending = group.create_task(
                    store.log.append(session, head, chain(CODEC, session, head, *said("word")))
                )
                await asyncio.wait([appending], timeout=HIDDEN_SECONDS)
                for follower in followers:
                    follower.thaw()
        finally:
            for follower in followers:
                follower.thaw()
        assert appending.result().seq == 1
        assert len(await kept(store.log, session)) == 1
        await store.stock.close()
