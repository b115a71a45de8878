"""The queue's contract, clause by clause (`playhead.queue`), on every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from playhead.codec import RECORD_BYTES_MAX
from playhead.errors import Misconfigured, TooLarge
from playhead.queue import Assigned, Member, Message, Queue, Revoked, TopicSpec

from tests.contract.stores import STORES, Client, Store

pytestmark = pytest.mark.parametrize("store", STORES, indirect=True)

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))


@pytest.fixture
async def topic(client: Client) -> str:
    """A prepared topic of four partitions that nobody else uses."""
    name = f"topic-{uuid4().hex[:12]}"
    await client.queue.prepare(TopicSpec(name, PARTITIONS))
    return name


async def publish(queue: Queue, topic: str, count: int, *, keys: int = 7, start: int = 0) -> list[tuple[str, bytes]]:
    """Publish `count` messages in turn over some keys; give what was published."""
    published = [(f"key-{number % keys}", b"%d" % number) for number in range(start, start + count)]
    for key, value in published:
        await queue.publish(topic, key, value)
    return published


async def take(member: Member, count: int) -> list[Message]:
    """Receive until there are `count` messages; none is acknowledged."""
    taken: list[Message] = []
    while len(taken) < count:
        match await member.receive():
            case Assigned() | Revoked():
                pass
            case messages:
                taken.extend(messages)
    return taken


async def assigned(member: Member) -> frozenset[int]:
    """Receive until the member is given something, and give it."""
    while True:
        match await member.receive():
            case Assigned(partitions):
                return partitions
            case _:
                pass


def contents(messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    return sorted((message.key, message.value) for message in messages)


# --- Q1: delivered to each group, at least once ----------------------------------------------------------------------


async def test_a_message_is_delivered_to_each_group(store: Store, client: Client, topic: str):
    """Q1"""
    async with (
        asyncio.timeout(store.patience_seconds),
        client.queue.join("one", topic) as one,
        client.queue.join("two", topic) as two,
    ):
        published = await publish(client.queue, topic, 20)
        for member in (one, two):
            assert contents(await take(member, 20)) == sorted(published)


async def test_a_group_begins_with_what_was_published_before_it_was_there(store: Store, client: Client, topic: str):
    """Q1"""
    published = await publish(client.queue, topic, 20)
    async with asyncio.timeout(store.patience_seconds), client.queue.join("late", topic) as member:
        assert contents(await take(member, 20)) == sorted(published)


async def test_a_message_that_another_client_published_is_delivered(store: Store, client: Client, topic: str):
    """Q1"""
    other = await store.client()
    async with asyncio.timeout(store.patience_seconds), client.queue.join("group", topic) as member:
        await assigned(member)
        for number in range(5):
            published = await publish(other.queue, topic, 3, start=3 * number)
            taken = await take(member, 3)
            assert contents(taken) == sorted(published)
            member.acknowledge(*taken)


async def test_what_was_published_is_there_for_a_client_that_opens_the_store_later(store: Store):
    """Q1"""
    topic = f"topic-{uuid4().hex[:12]}"
    async with store.open() as first:
        await first.queue.prepare(TopicSpec(topic, PARTITIONS))
        published = await publish(first.queue, topic, 10)
    async with (
        asyncio.timeout(store.patience_seconds),
        store.open() as second,
        second.queue.join("group", topic) as member,
    ):
        assert contents(await take(member, 10)) == sorted(published)


# --- Q2: a key is in one partition, in order --------------------------------------------------------------------------


async def test_messages_of_a_key_come_in_order_from_the_partition_that_the_queue_names(
    store: Store, client: Client, topic: str
):
    """Q2"""
    await publish(client.queue, topic, 60)
    async with asyncio.timeout(store.patience_seconds), client.queue.join("group", topic) as member:
        taken = await take(member, 60)
    for key in {message.key for message in taken}:
        of_key = [message for message in taken if message.key == key]
        assert {message.partition for message in of_key} == {await client.queue.partition_of(topic, key)}
        assert [int(message.value) for message in of_key] == sorted(int(message.value) for message in of_key)
    for partition in ALL:
        offsets = [message.offset for message in taken if message.partition == partition]
        assert offsets == sorted(set(offsets))


async def test_keys_are_placed_as_kafka_places_them(client: Client, topic: str):
    """Q2: every adapter agrees, so that what is tested on one holds on the others."""
    # murmur2 from Apache Kafka's own UtilsTest: 479470107, -790332482, -985981536, -1486304829, -58897971
    placed = {
        "abc": 479470107,
        "foobar": -790332482,
        "a-little-bit-long-string": -985981536,
        "a-little-bit-longer-string": -1486304829,
        "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    }
    for key, hashed in placed.items():
        assert await client.queue.partition_of(topic, key) == (hashed & 0x7FFFFFFF) % PARTITIONS


# --- Q3, Q5: acknowledgement ------------------------------------------------------------------------------------------


async def test_what_was_acknowledged_does_not_come_again_after_the_member_closed(
    store: Store, client: Client, topic: str
):
    """Q3"""
    await publish(client.queue, topic, 30)
    async with asyncio.timeout(store.patience_seconds):
        async with client.queue.join("group", topic) as member:
            member.acknowledge(*await take(member, 30))
        fresh = await publish(client.queue, topic, 5, start=30)
        async with client.queue.join("group", topic) as member:
            assert contents(await take(member, 5)) == sorted(fresh)


async def test_what_was_acknowledged_does_not_come_again_in_another_client(store: Store, topic: str):
    """Q3"""
    async with asyncio.timeout(store.patience_seconds):
        async with store.open() as first, first.queue.join("group", topic) as member:
            await publish(first.queue, topic, 30)
            member.acknowledge(*await take(member, 30))
        async with store.open() as second:
            fresh = await publish(second.queue, topic, 5, start=30)
            async with second.queue.join("group", topic) as member:
                assert contents(await take(member, 5)) == sorted(fresh)


async def test_what_was_not_acknowledged_comes_again(store: Store, client: Client, topic: str):
    """Q3"""
    published = await publish(client.queue, topic, 30)
    async with asyncio.timeout(store.patience_seconds):
        async with client.queue.join("group", topic) as member:
            taken = await take(member, 30)
        async with client.queue.join("group", topic) as member:
            again = await take(member, 30)
    assert contents(again) == contents(taken) == sorted(published)


async def test_a_message_is_only_safe_when_all_before_it_in_its_partition_are(store: Store, client: Client, topic: str):
    """Q5"""
    await publish(client.queue, topic, 6, keys=1)
    async with asyncio.timeout(store.patience_seconds):
        async with client.queue.join("group", topic) as member:
            taken = await take(member, 6)
            member.acknowledge(taken[0], taken[4], taken[1], taken[5])
        async with client.queue.join("group", topic) as member:
            again: list[int] = []
            # Those after the gap may come again or not; those in it must, and those before it must not.
            while not {2, 3} <= set(again):
                again += [int(message.value) for message in await take(member, 1)]
            assert not {0, 1} & set(again)
            assert again == sorted(again)


async def test_what_was_acknowledged_beyond_a_gap_does_not_come_again_in_another_client(store: Store, topic: str):
    """Q5: that much is not promised, and every adapter keeps it for a gap or two."""
    async with asyncio.timeout(store.patience_seconds):
        async with store.open() as first, first.queue.join("group", topic) as member:
            await publish(first.queue, topic, 600, keys=1)
            taken = await take(member, 600)
            member.acknowledge(*(message for message in taken if message.offset not in {0, 599}))
        async with store.open() as second:
            await publish(second.queue, topic, 1, keys=1, start=600)
            async with second.queue.join("group", topic) as member:
                again = await take(member, 3)
                assert [message.value for message in again] == [b"0", b"599", b"600"]
                member.acknowledge(*again)
        async with store.open() as third:
            await publish(third.queue, topic, 1, keys=1, start=601)
            async with third.queue.join("group", topic) as member:
                assert [message.value for message in await take(member, 1)] == [b"601"]


async def test_acknowledgements_may_come_in_any_order(store: Store, client: Client, topic: str):
    """Q5"""
    await publish(client.queue, topic, 40)
    async with asyncio.timeout(store.patience_seconds):
        async with client.queue.join("group", topic) as member:
            for message in reversed(await take(member, 40)):
                member.acknowledge(message)
        fresh = await publish(client.queue, topic, 5, start=40)
        async with client.queue.join("group", topic) as member:
            assert contents(await take(member, 5)) == sorted(fresh)


async def test_a_message_may_be_acknowledged_twice(store: Store, client: Client, topic: str):
    """Q5"""
    await publish(client.queue, topic, 3, keys=1)
    async with asyncio.timeout(store.patience_seconds):
        async with client.queue.join("group", topic) as member:
            taken = await take(member, 3)
            member.acknowledge(*taken[:2], *taken[:2])
            member.acknowledge(taken[0])
        async with client.queue.join("group", topic) as member:
            assert [message.value for message in await take(member, 1)] == [b"2"]


# --- Q4: members come and go ------------------------------------------------------------------------------------------


async def test_a_member_is_told_what_it_was_given_before_the_first_message(store: Store, client: Client, topic: str):
    """Q4"""
    await publish(client.queue, topic, 10)
    async with asyncio.timeout(store.patience_seconds), client.queue.join("group", topic) as member:
        given: set[int] = set()
        count = 0
        while count < 10:
            match await member.receive():
                case Assigned(partitions):
                    given |= partitions
                case Revoked(partitions):
                    given -= partitions
                case messages:
                    assert {message.partition for message in messages} <= given
                    count += len(messages)
        assert given == ALL


async def joiners(store: Store, client: Client) -> Client:
    """The client that a second member joins through."""
    return await store.client() if store.groups_span_clients else client


async def test_a_second_member_is_given_its_part_only_after_the_first_let_go(store: Store, client: Client, topic: str):
    """Q4"""
    other = await joiners(store, client)
    async with asyncio.timeout(store.patience_seconds), client.queue.join("group", topic) as first:
        assert await assigned(first) == ALL
        telling = asyncio.create_task(first.receive())
        async with other.queue.join("group", topic) as second:
            waiting = asyncio.create_task(assigned(second))
            told = await telling
            assert isinstance(told, Revoked)
            # The first has been told but has not come back: it may still be at work on what it had.
            assert not (await asyncio.wait([waiting], timeout=0.2))[0]
            letting_go = asyncio.create_task(first.receive())
            theirs = await waiting
            kept = ALL - told.partitions
            if not kept:
                # Some stores take everything and deal anew.
                dealt = await letting_go
                assert isinstance(dealt, Assigned)
                kept = dealt.partitions
            letting_go.cancel()
            await asyncio.wait([letting_go])
    assert len(theirs) == len(kept) == PARTITIONS // 2
    assert theirs | kept == ALL


async def test_two_members_share_the_partitions_and_each_gets_the_messages_of_its_own(
    store: Store, client: Client, topic: str
):
    """Q2, Q4"""
    other = await joiners(store, client)
    async with asyncio.timeout(store.patience_seconds), AsyncExitStack() as stack:
        members = [
            Worker(await stack.enter_async_context(through.queue.join("group", topic))) for through in (client, other)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(member.work()) for member in members]
            while [len(member.held) for member in members] != [2, 2]:
                await changed(members)
            published = await publish(client.queue, topic, 40, keys=20)
            while sum(len(member.done) for member in members) < 40:
                await changed(members)
            for task in tasks:
                task.cancel()
    assert contents([message for member in members for message in member.done]) == sorted(published)
    assert members[0].held.isdisjoint(members[1].held)
    for member in members:
        assert {message.partition for message in member.done} <= member.held


@dataclass(eq=False)
class Worker:
    """A member at work: acknowledges what it gets, and keeps account."""

    member: Member
    held: set[int] = field(default_factory=set[int])
    done: list[Message] = field(default_factory=list[Message])
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, log: list[Message] | None = None) -> None:
        while True:
            match await self.member.receive():
                case Assigned(partitions):
                    assert not partitions & self.held
                    self.held |= partitions
                case Revoked(partitions):
                    self.held -= partitions
                case messages:
                    assert {message.partition for message in messages} <= self.held
                    self.done.extend(messages)
                    if log is not None:
                        log.extend(messages)
                    self.member.acknowledge(*messages)
            self.moved.set()


async def changed(workers: Sequence[Worker]) -> None:
    """Wait until any of the workers got something."""
    waiting = [asyncio.create_task(worker.moved.wait()) for worker in workers]
    _, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for worker in workers:
        worker.moved.clear()


async def test_what_a_member_leaves_is_given_to_those_that_stay(store: Store, client: Client, topic: str):
    """Q4"""
    other = await joiners(store, client)
    async with asyncio.timeout(store.patience_seconds), client.queue.join("group", topic) as member:
        staying = Worker(member)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(staying.work())
            async with other.queue.join("group", topic) as leaving:
                theirs = await assigned(leaving)
                await publish(client.queue, topic, 40, keys=20)
                unfinished = await take(leaving, 1)
                assert {message.partition for message in unfinished} <= theirs
            while len(staying.held) < PARTITIONS or len(staying.done) < 40:
                await changed([staying])
            work.cancel()
    assert {message.value for message in staying.done} == {b"%d" % number for number in range(40)}


async def test_members_come_and_go_while_messages_flow_and_none_is_lost_or_overtaken(
    store: Store, client: Client, topic: str
):
    """Q1, Q2, Q4"""
    count, keys = 400, 11
    log: list[Message] = []

    async def come_and_go(through: Client, stays: int) -> None:
        while len({message.value for message in log}) < count:
            async with through.queue.join("group", topic) as member:
                worker = Worker(member)
                work = asyncio.create_task(worker.work(log))
                while len(worker.done) < stays and len({message.value for message in log}) < count:
                    await asyncio.wait([work, asyncio.create_task(worker.moved.wait())], timeout=0.05)
                    worker.moved.clear()
                    if work.done():
                        await work
                work.cancel()
                await asyncio.wait([work])

    others = [await joiners(store, client) for _ in range(2)]
    async with asyncio.timeout(2 * store.patience_seconds), asyncio.TaskGroup() as group:
        group.create_task(publish(client.queue, topic, count, keys=keys))
        for through, stays in zip((client, *others), (1000, 30, 50), strict=True):
            group.create_task(come_and_go(through, stays))
    for key in range(keys):
        first: dict[bytes, None] = {}
        for message in log:
            if message.key == f"key-{key}":
                first.setdefault(message.value)
        # Some come twice, as a member left with them unacknowledged; the first time of each is in order.
        assert [int(value) for value in first] == list(range(key, count, keys))


# --- Q6: replay -------------------------------------------------------------------------------------------------------


async def collected(batches: AsyncGenerator[tuple[Message, ...], None]) -> list[Message]:
    async with aclosing(batches):
        return [message async for batch in batches for message in batch]


async def test_replay_gives_all_that_is_kept_in_order_by_partition_without_any_group(
    store: Store, client: Client, topic: str
):
    """Q6"""
    published = await publish(client.queue, topic, 50)
    async with asyncio.timeout(store.patience_seconds):
        for _ in range(2):
            replayed = await collected(client.queue.replay(topic))
            assert contents(replayed) == sorted(published)
            for partition in ALL:
                offsets = [message.offset for message in replayed if message.partition == partition]
                assert offsets == sorted(set(offsets))
        async with client.queue.join("group", topic) as member:
            assert contents(await take(member, 50)) == sorted(published)


async def test_replay_of_an_empty_topic_ends(store: Store, client: Client, topic: str):
    """Q6"""
    async with asyncio.timeout(store.patience_seconds):
        assert await collected(client.queue.replay(topic)) == []
        assert await collected(client.queue.replay(topic, since="end")) == []


async def test_replay_of_some_partitions_gives_only_those(store: Store, client: Client, topic: str):
    """Q6"""
    await publish(client.queue, topic, 50, keys=20)
    async with asyncio.timeout(store.patience_seconds):
        whole = await collected(client.queue.replay(topic))
        for chosen in (frozenset({1}), frozenset({0, 3})):
            part = await collected(client.queue.replay(topic, partitions=chosen))
            assert contents(part) == contents([message for message in whole if message.partition in chosen])


async def test_a_following_replay_says_once_that_it_is_up_to_date_and_goes_on(store: Store, client: Client, topic: str):
    """Q6"""
    other = await store.client()
    published = await publish(client.queue, topic, 30)
    async with (
        asyncio.timeout(store.patience_seconds),
        aclosing(client.queue.replay(topic, follow=True)) as batches,
    ):
        caught_up: list[Message] = []
        # An empty batch may also come first, before anything was looked at.
        while batch := await anext(batches) or (await anext(batches) if not caught_up else ()):
            caught_up.extend(batch)
        assert contents(caught_up) == sorted(published)
        for number, through in enumerate((client, other, client, other)):
            fresh = await publish(through.queue, topic, 3, start=30 + 3 * number)
            live: list[Message] = []
            while len(live) < 3:
                batch = await anext(batches)
                assert batch, "that it is up to date is said once"
                live.extend(batch)
            assert contents(live) == sorted(fresh)


async def test_a_following_replay_of_an_empty_topic_is_up_to_date_at_once(store: Store, client: Client, topic: str):
    """Q6"""
    async with (
        asyncio.timeout(store.patience_seconds),
        aclosing(client.queue.replay(topic, follow=True)) as batches,
    ):
        assert await anext(batches) == ()


async def test_a_replay_from_the_end_gives_what_comes_and_nothing_that_was(store: Store, client: Client, topic: str):
    """Q6"""
    await publish(client.queue, topic, 30)
    async with (
        asyncio.timeout(store.patience_seconds),
        aclosing(client.queue.replay(topic, since="end", follow=True)) as batches,
    ):
        assert await anext(batches) == ()
        fresh = await publish(client.queue, topic, 5, start=30)
        live: list[Message] = []
        while len(live) < 5:
            live.extend(await anext(batches))
        assert contents(live) == sorted(fresh)


async def test_a_replay_from_offsets_gives_what_comes_after_them(store: Store, client: Client, topic: str):
    """Q6: one inside, one at the end, one that there is not, and a partition that is not named"""
    await publish(client.queue, topic, 60, keys=20)
    async with asyncio.timeout(store.patience_seconds):
        whole = await collected(client.queue.replay(topic))
        by_partition = {p: [message for message in whole if message.partition == p] for p in ALL}
        assert len(by_partition) == 4 and all(len(kept) > 2 for kept in by_partition.values())
        since = {0: by_partition[0][2].offset, 1: by_partition[1][-1].offset + 1, 2: 1_000_000}
        rest = [*by_partition[0][2:], *by_partition[2], *by_partition[3]]
        assert contents(await collected(client.queue.replay(topic, since=since))) == contents(rest)
        chosen = frozenset({0, 1})
        part = await collected(client.queue.replay(topic, since=since, partitions=chosen))
        assert contents(part) == contents(by_partition[0][2:])
        async with aclosing(client.queue.replay(topic, since=since, follow=True)) as batches:
            there: list[Message] = []
            while len(there) < len(rest):
                there.extend(await anext(batches))
            fresh = await publish(client.queue, topic, 5, start=60, keys=20)
            while len(there) < len(rest) + 5:
                there.extend(await anext(batches))
            assert contents(there) == sorted([*contents(rest), *fresh])


async def test_a_compacted_topic_keeps_the_last_message_of_each_key(store: Store, client: Client):
    """Q6"""
    topic = f"topic-{uuid4().hex[:12]}"
    await client.queue.prepare(TopicSpec(topic, PARTITIONS, compacted=True))
    published = await publish(client.queue, topic, 60)
    async with asyncio.timeout(store.patience_seconds):
        replayed = await collected(client.queue.replay(topic))
    # When the older ones go is the store's business; a reader lets the later win.
    assert {message.key: message.value for message in replayed} == dict(published)


# --- Q7: topics of one shape are spread alike -------------------------------------------------------------------------


async def test_the_same_key_of_two_topics_comes_to_the_same_member(store: Store, client: Client, topic: str):
    """Q7"""
    other = await joiners(store, client)
    twin = f"{topic}-twin"
    await client.queue.prepare(TopicSpec(twin, PARTITIONS))
    async with asyncio.timeout(store.patience_seconds), AsyncExitStack() as stack:
        workers = [
            Worker(await stack.enter_async_context(through.queue.join("group", topic, twin)))
            for through in (client, other)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker.work()) for worker in workers]
            while [len(worker.held) for worker in workers] != [2, 2]:
                await changed(workers)
            for name in (topic, twin):
                await publish(client.queue, name, 40, keys=20)
            while sum(len(worker.done) for worker in workers) < 80:
                await changed(workers)
            for task in tasks:
                task.cancel()
    for worker in workers:
        keys = [{message.key for message in worker.done if message.topic == name} for name in (topic, twin)]
        assert keys[0] == keys[1] != set()


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_topic_that_was_not_prepared_is_a_misconfiguration(store: Store, client: Client):
    async with asyncio.timeout(store.patience_seconds):
        with pytest.raises(Misconfigured, match="nowhere"):
            await client.queue.publish("nowhere", "key", b"value")
        with pytest.raises(Misconfigured, match="nowhere"):
            await collected(client.queue.replay("nowhere"))
        with pytest.raises(Misconfigured, match="nowhere"):
            await client.queue.partition_of("nowhere", "key")
        with pytest.raises(Misconfigured, match="nowhere"):
            async with client.queue.join("group", "nowhere") as member:
                await member.receive()


async def test_preparing_a_topic_again_leaves_it_as_it_is(store: Store, client: Client, topic: str):
    other = await store.client()
    published = await publish(client.queue, topic, 10)
    await other.queue.prepare(TopicSpec(topic, PARTITIONS * 2, compacted=True))
    async with asyncio.timeout(store.patience_seconds):
        assert contents(await collected(other.queue.replay(topic))) == sorted(published)
    placed = {await other.queue.partition_of(topic, f"key-{number}") for number in range(100)}
    assert placed == ALL


async def test_a_message_of_the_most_bytes_is_kept_and_of_more_refused(store: Store, client: Client, topic: str):
    with pytest.raises(TooLarge):
        await client.queue.publish(topic, "key", b"x" * (RECORD_BYTES_MAX + 1))
    await client.queue.publish(topic, "key", b"x" * RECORD_BYTES_MAX)
    async with asyncio.timeout(store.patience_seconds):
        assert [len(message.value) for message in await collected(client.queue.replay(topic))] == [RECORD_BYTES_MAX]
