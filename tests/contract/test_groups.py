"""What groups within one process promise beyond the contract: bounded batches, a bounded grace, one set of topics."""

from __future__ import annotations

import asyncio

import pytest
from playhead.adapters.memory import MemoryQueue
from playhead.adapters.shelf import BATCH_MESSAGES_MAX
from playhead.errors import Misconfigured
from playhead.queue import Assigned, Revoked, TopicSpec

PATIENCE_SECONDS = 20.0


async def queue_of_two(*, grace_seconds: float = 60.0) -> MemoryQueue:
    queue = MemoryQueue(grace_seconds=grace_seconds)
    await queue.prepare(TopicSpec("topic", 2), TopicSpec("other", 2))
    return queue


async def test_a_batch_is_bounded():
    queue = await queue_of_two()
    for number in range(3 * BATCH_MESSAGES_MAX):
        await queue.publish("topic", f"key-{number % 9}", b"value")
    async with asyncio.timeout(PATIENCE_SECONDS), queue.join("group", "topic") as member:
        count = 0
        while count < 3 * BATCH_MESSAGES_MAX:
            received = await member.receive()
            if isinstance(received, tuple):
                assert len(received) <= BATCH_MESSAGES_MAX
                count += len(received)


async def test_a_member_that_does_not_come_back_loses_its_part_after_the_grace():
    queue = await queue_of_two(grace_seconds=0.05)
    async with asyncio.timeout(PATIENCE_SECONDS), queue.join("group", "topic") as stuck:
        assert await stuck.receive() == Assigned(frozenset({0, 1}))
        assert await queue.partition_of("topic", "1") == 1
        await queue.publish("topic", "1", b"unfinished")
        unfinished = await stuck.receive()
        assert isinstance(unfinished, tuple)
        async with queue.join("group", "topic") as waiting:
            assert await waiting.receive() == Assigned(frozenset({1}))
            # It was not acknowledged, so it comes to the new one; what the old one says of it counts no more.
            assert await waiting.receive() == unfinished
            stuck.acknowledge(*unfinished)
            assert await stuck.receive() == Revoked(frozenset({1}))
        assert await stuck.receive() == Assigned(frozenset({1}))
        assert await stuck.receive() == unfinished


async def test_a_member_that_comes_and_goes_unnoticed_revokes_nothing():
    queue = await queue_of_two()
    async with asyncio.timeout(PATIENCE_SECONDS), queue.join("group", "topic") as member:
        assert await member.receive() == Assigned(frozenset({0, 1}))
        async with queue.join("group", "topic"):
            pass
        await queue.publish("topic", "key", b"value")
        assert isinstance(await member.receive(), tuple)


async def test_a_cancelled_receive_loses_no_message():
    queue = await queue_of_two()
    async with asyncio.timeout(PATIENCE_SECONDS), queue.join("group", "topic") as member:
        await member.receive()
        for number in range(20):
            receiving = asyncio.create_task(member.receive())
            await asyncio.sleep(0)
            await queue.publish("topic", "key", b"%d" % number)
            receiving.cancel()
            await asyncio.wait([receiving])
            received = await member.receive() if receiving.cancelled() else receiving.result()
            assert isinstance(received, tuple)
            assert [message.value for message in received] == [b"%d" % number]


async def test_members_of_a_group_consume_the_same_topics():
    queue = await queue_of_two()
    async with queue.join("group", "topic"):
        with pytest.raises(Misconfigured, match="another name"):
            async with queue.join("group", "topic", "other"):
                pass
