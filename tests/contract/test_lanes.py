"""What only lanes must prove: many sessions in one partition, what a ledger knows, marks, growth, deletion.

The contract itself is proved on them with all other stores.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from playhead.accept import Head, Record, genesis
from playhead.adapters.kafka import KafkaConnection, KafkaStore, open_kafka
from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import Cluster
from playhead.adapters.kafka.follow import catch_up
from playhead.adapters.kafka.index import Index, Line
from playhead.adapters.kafka.lanes import lane_of
from playhead.adapters.kafka.ledger import SESSIONS_MAX, Ledger
from playhead.adapters.kafka.marks import MARK_RECORDS, MARKS_MAX, Mark, last_marked, marks_in, with_mark
from playhead.adapters.kafka.tail import Tail
from playhead.adapters.kafka.wire import Stored, partition_of
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.codec import Codec
from playhead.errors import CursorConflict, CursorExpired, Misconfigured, Superseded, Unavailable, UnknownSession
from playhead.events import OwnerChanged
from playhead.ids import Cursor, Seq, SessionId, session_id
from playhead.log import APPEND_RECORDS_MAX, SessionLog
from playhead.queue import Topics
from playhead.testing import chain, named_session, read_all, read_until, said

CODEC = Codec()
PATIENCE_SECONDS = 30.0


class Counting(Cluster):
    """Counts what is asked of brokers to read, and what they give."""

    fetches = 0
    fetched_bytes = 0

    async def call(self, node: int, request: Any, purpose: str) -> Any:  # Any: aiokafka's requests and responses
        response = await super().call(node, request, purpose)
        if purpose.startswith("read-") and hasattr(response, "session_id"):
            self.fetches += 1
            self.fetched_bytes += sum(len(data or b"") for _, parts in response.topics for *_, data in parts)
        return response


@dataclass
class Deployment:
    """One lane (unless more are asked for) on a broker, and the clients of it."""

    bootstrap: str
    topics: Topics
    clients: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def store(self, lanes: int = 1) -> KafkaStore:
        """Open a client; the topic gets so many lanes if it has fewer."""
        topics = replace(self.topics, lane_count=lanes)
        store = await self.clients.enter_async_context(open_kafka(KafkaConnection(self.bootstrap), topics=topics))
        await store.queue.prepare(*topics.lane_topics)
        return store

    @asynccontextmanager
    async def counted(self) -> AsyncGenerator[tuple[KafkaStore, Counting], None]:
        """Open a client whose reading is counted."""
        cluster, background = Counting(KafkaConnection(self.bootstrap), "counted"), Background()
        await cluster.open()
        try:
            yield KafkaStore(cluster, self.topics, background), cluster
        finally:
            await background.close()
            await cluster.close()

    async def stored(self, topic: str, partition: int = 0) -> list[Stored]:
        """Give all that a partition has."""
        cluster = Cluster(KafkaConnection(self.bootstrap), "reader")
        await cluster.open()
        try:
            async with aclosing(catch_up(cluster, (topic, partition), 0)) as chunks:
                return [record async for chunk in chunks for record in chunk.records]
        finally:
            await cluster.close()

    async def write(self, topic: str, *entries: tuple[bytes, bytes | None]) -> None:
        """Store entries in the first partition of a topic, as anybody might who has the rights to."""
        producer: Any = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")  # Any: half annotated
        async with producer:
            for key, value in entries:
                await producer.send_and_wait(topic, value, key=key, partition=0)


@pytest.fixture
async def lanes(kafka_bootstrap: str) -> AsyncGenerator[Deployment, None]:
    topics = Topics(prefix=f"lanes-{os.urandom(4).hex()}", session_partitions=1, lane_count=1)
    deployment = Deployment(kafka_bootstrap, topics)
    yield deployment
    await deployment.clients.aclose()


async def extended(log: SessionLog, session: SessionId, head: Head, count: int) -> tuple[Head, list[Record]]:
    """Append so many records, as few appends as can be."""
    appended: list[Record] = []
    while len(appended) < count:
        words = ("word",) * min(count - len(appended), APPEND_RECORDS_MAX)
        records = chain(CODEC, session, head, *said(*words))
        head = await log.append(session, head, records)
        appended += records
    return head, appended


async def crowded(log: SessionLog, count: int = 5 * MARK_RECORDS) -> None:
    """Put so many records of another session into the lane."""
    other = await log.create()
    await extended(log, other, genesis(other), count)


async def marked(deployment: Deployment, session: SessionId, count: int) -> bytes:
    """Wait until a session has so many marks, and give them as they are stored."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for record in reversed(await deployment.stored(deployment.topics.lanes_index)):
                if record.key == session.encode() + b"#" and len(marks_in(record.value)) >= count:
                    return record.value
            await asyncio.sleep(0.02)


# --- many sessions in one partition ----------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_sessions_interleaved_in_one_lane_are_each_read_alone_from_every_cursor(lanes: Deployment):
    one, two = await lanes.store(), await lanes.store()
    sessions = [await one.log.create() for _ in range(4)]
    written: dict[SessionId, list[Record]] = {session: [] for session in sessions}

    in_step = asyncio.Barrier(len(sessions))

    async def write(log: SessionLog, session: SessionId) -> None:
        head = genesis(session)
        for number in range(15):
            await in_step.wait()
            head, records = await extended(log, session, head, 1 + number % 3)
            written[session] += records

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        following = [group.create_task(read_until(two.log, session, 30)) for session in sessions]
        for number, session in enumerate(sessions):
            group.create_task(write((one, two)[number % 2].log, session))
    for session, followed in zip(sessions, following, strict=True):
        assert followed.result() == written[session]
        for seq in range(0, 31, 3):
            assert await read_all(one.log, session, Cursor(Seq(seq))) == written[session][seq:]
    keys = [record.key for record in await lanes.stored(lanes.topics.lanes)]
    changes = sum(before != after for before, after in pairwise(keys))
    assert changes > 20, "they were written one after the other: this shows nothing"


@pytest.mark.kafka
async def test_void_records_of_zombies_and_strangers_among_those_of_others_are_seen_by_nobody(lanes: Deployment):
    zombie, owner = await lanes.store(), await lanes.store()
    session, other = await zombie.log.create(), await zombie.log.create()
    stale, first = await extended(zombie.log, session, genesis(session), 3)
    there, others = await extended(zombie.log, other, genesis(other), 3)
    taken = chain(CODEC, session, stale, OwnerChanged(2, "owner"), epoch=2)
    head = await owner.log.append(session, await owner.log.end(session), taken)
    late = chain(CODEC, session, stale, *said("late"))
    with pytest.raises(Superseded):
        await zombie.log.append(session, stale, late)
    there, more = await extended(zombie.log, other, there, 2)
    next_one = chain(CODEC, session, head, *said("under another's key"))
    await lanes.write(
        lanes.topics.lanes,
        (session.encode(), b"poison"),
        (session.encode(), late[0].value),
        (session.encode(), None),
        (other.encode(), next_one[0].value),
    )
    after = chain(CODEC, session, head, *said("after all that"), epoch=2)
    head = await owner.log.append(session, head, after)
    for store in (zombie, owner, await lanes.store()):
        assert await read_all(store.log, session) == [*first, *taken, *after]
        assert await read_all(store.log, session, taken[0].cursor) == after
        assert await store.log.end(session) == head
        assert await read_all(store.log, other) == others + more
        with pytest.raises(CursorConflict):
            await read_all(store.log, session, Cursor(Seq(4), late[0].cursor.tag))


@pytest.mark.kafka
async def test_two_processes_that_write_to_one_lane_are_told_the_truth_about_each_of_their_sessions(lanes: Deployment):
    """Owners race for some sessions, while both write to others: what one appends is a gap in the other's ledger."""
    stores = [await lanes.store() for _ in range(2)]
    contested = [await stores[0].log.create() for _ in range(3)]
    claimed: dict[SessionId, list[Record]] = {session: [] for session in contested}
    lost: list[int] = []

    async def own(store: KafkaStore, session: SessionId, name: str) -> None:
        head = genesis(session)  # the same for all, so that at least one append is refused
        for number in range(15):
            records = chain(CODEC, session, head, *said(*[f"{name}{number}"] * (1 + number % 3)))
            try:
                head = await store.log.append(session, head, records)
                claimed[session] += records
            except Superseded:
                lost.append(number)
                head = await store.log.end(session)

    async def write(store: KafkaStore) -> list[Record]:
        session = await store.log.create()
        head, written = genesis(session), list[Record]()
        for _ in range(30):
            head, records = await extended(store.log, session, head, 1)
            written += records
        assert await read_all(store.log, session) == written
        return written

    async with asyncio.timeout(2 * PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for name, store in zip("ab", stores, strict=True):
            for session in contested:
                group.create_task(own(store, session, name))
            for _ in range(2):
                group.create_task(write(store))
    assert lost, "the owners never met: this race shows nothing"
    for session in contested:
        log = await read_all(stores[1].log, session)
        assert {record.hash for record in log} == {record.hash for record in claimed[session]}


# --- what an append costs --------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_an_append_of_the_only_writer_of_a_lane_reads_nothing(lanes: Deployment):
    await crowded((await lanes.store()).log)
    async with lanes.counted() as (store, counts):
        sessions = [await store.log.create() for _ in range(5)]
        heads = {session: genesis(session) for session in sessions}
        for _ in range(10):
            for session in sessions:
                heads[session], _ = await extended(store.log, session, heads[session], 2)
        assert counts.fetches == 1  # of the index
        assert counts.fetched_bytes < 10_000
        assert [await store.log.end(session) for session in sessions] == list(heads.values())


@pytest.mark.kafka
async def test_a_gap_that_another_process_wrote_is_read_once_for_all_sessions(lanes: Deployment):
    other = await lanes.store()
    foreign = await other.log.create()
    async with lanes.counted() as (store, counts):
        sessions = [await store.log.create() for _ in range(6)]
        heads = {session: (await extended(store.log, session, genesis(session), 1))[0] for session in sessions}
        await extended(other.log, foreign, genesis(foreign), 1000)
        before = counts.fetches
        for session in sessions:
            heads[session], _ = await extended(store.log, session, heads[session], 1)
        assert counts.fetches - before == 1
        assert [await store.log.end(session) for session in sessions] == list(heads.values())


@pytest.mark.kafka
async def test_who_takes_a_session_over_reads_what_others_wrote_after_its_end_once(lanes: Deployment):
    store = await lanes.store()
    session, other = await store.log.create(), await store.log.create()
    _, records = await extended(store.log, session, genesis(session), 3)
    await extended(store.log, other, genesis(other), 3000)  # more than one fetch brings
    async with lanes.counted() as (store, counts):
        pages = [page async for page in store.log.read(session)]
        assert [record for page in pages for record in page.records] == records
        head, before = pages[-1].head, counts.fetches
        assert head.position == 3003
        await extended(store.log, session, head, 1)
        assert counts.fetches == before


# --- what must not wait for ever -------------------------------------------------------------------------------------


class Refusing(Cluster):
    """A cluster that lets nobody in any more, on the connections for one purpose."""

    purpose = "none"

    async def call(self, node: int, request: Any, purpose: str) -> Any:  # Any: aiokafka's requests and responses
        if purpose.startswith(self.purpose):
            raise Misconfigured("the password was changed")
        return await super().call(node, request, purpose)


@pytest.mark.kafka
async def test_who_writes_and_who_follows_are_told_when_a_connection_is_refused(lanes: Deployment):
    await lanes.store()
    cluster, background = Refusing(KafkaConnection(lanes.bootstrap), "refused"), Background()
    await cluster.open()
    store = KafkaStore(cluster, lanes.topics, background)
    session = await store.log.create()
    head, _ = await extended(store.log, session, genesis(session), 1)
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(store.log.read(session, follow=True)) as pages:
        assert (await anext(pages)).head == head
        await extended(store.log, session, head, 1)
        head = (await anext(pages)).head  # so it is followed now
        cluster.purpose = "tail"
        with pytest.raises(Misconfigured, match="password"):
            await anext(pages)
    cluster.purpose = "write"
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Misconfigured, match="password"):
            await extended(store.log, session, head, 1)
    cluster.purpose = "none"
    async with asyncio.timeout(PATIENCE_SECONDS):
        await extended(store.log, session, head, 1)
    await background.close()
    await cluster.close()


class Lagging(Cluster):
    """A leader of a topic that is new: it gives nothing until it has been asked where the partition ends."""

    topic = ""
    is_new = False

    async def call(self, node: int, request: Any, purpose: str) -> Any:  # Any: aiokafka's requests and responses
        response = await super().call(node, request, purpose)
        if not purpose.startswith("read-") or self.topic not in (topic for topic, _ in response.topics):
            return response
        if not hasattr(response, "session_id"):
            self.is_new = False
        elif self.is_new:
            response.topics = [
                (topic, [(number, code, 0, *rest[:-1], b"") for number, code, _, *rest in parts])
                for topic, parts in response.topics
            ]
        return response


@pytest.mark.kafka
async def test_a_leader_that_does_not_yet_know_the_end_is_no_conflict_for_who_has_seen_it(lanes: Deployment):
    store = await lanes.store()
    session = await store.log.create()
    head, _ = await extended(store.log, session, genesis(session), 3)
    cluster, background = Lagging(KafkaConnection(lanes.bootstrap), "lagging"), Background()
    await cluster.open()
    lagging = KafkaStore(cluster, lanes.topics, background)
    assert await read_all(lagging.log, session)
    cluster.topic, cluster.is_new = lanes.topics.lanes, True
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(lagging.log.read(session, head.cursor)) as pages:
        page = await anext(pages)
    assert (page.records, page.head) == ((), head)
    assert not cluster.is_new
    await background.close()
    await cluster.close()


@pytest.mark.kafka
async def test_a_session_is_created_although_following_the_index_ends_while_its_line_is_written(lanes: Deployment):
    await lanes.store()
    cluster, background = Cluster(KafkaConnection(lanes.bootstrap), "interrupted"), Background()
    await cluster.open()
    tail = Tail(cluster, background)

    class Interrupted(Writer):
        async def send(self, batch: Batch) -> int:
            while batch.place not in tail.places:  # noqa: ASYNC110 - nobody says so
                await asyncio.sleep(0)
            tail.end(batch.place, Unavailable("no answer from Kafka"))
            for _ in range(10):
                await asyncio.sleep(0)  # until who followed has heard of it
            return await super().send(batch)

    index = Index(cluster, Interrupted(cluster, background), tail, background, lanes.topics.lanes_index)
    session = session_id(os.urandom(16))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await index.get(session, fresh=True) is None
        await index.claim(session, Line(0, 7))
        assert await index.get(session, fresh=True) == Line(0, 7)
        await index.remove(session)
        assert await index.get(session, fresh=True) is None
    await background.close()
    await cluster.close()


# --- marks -----------------------------------------------------------------------------------------------------------


@dataclass
class Long:
    """A session whose records are far apart in its lane, and which is marked."""

    session: SessionId
    records: list[Record]
    marks: bytes


async def far_apart(lanes: Deployment) -> Long:
    store = await lanes.store()
    session = await store.log.create()
    stale, records = await extended(store.log, session, genesis(session), 3)
    head, packed = stale, b""
    for number in range(2):
        await crowded(store.log)
        head, more = await extended(store.log, session, head, 3)
        records += more
        packed = await marked(lanes, session, number + 1)
        late = chain(CODEC, session, stale, *said("late"))
        with pytest.raises(Superseded):
            await store.log.append(session, stale, late)
    return Long(session, records, packed)


async def read_in_every_way(deployment: Deployment, long: Long) -> int:
    """Read a session with a client that has not yet seen the lane; give how many bytes that took."""
    async with deployment.counted() as (store, counts):
        assert await read_all(store.log, long.session) == long.records
        for place, record in enumerate(long.records, start=1):
            assert await read_all(store.log, long.session, record.cursor) == long.records[place:]
        assert (await store.log.end(long.session)).cursor == long.records[-1].cursor
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await read_until(store.log, long.session, len(long.records)) == long.records
        with pytest.raises(CursorConflict):
            await read_all(store.log, long.session, Cursor(Seq(4), "00000000"))
        return counts.fetched_bytes


@pytest.mark.kafka
async def test_what_lies_between_the_records_of_a_session_is_jumped_over(lanes: Deployment):
    long = await far_apart(lanes)
    whole = sum(len(record.value) for record in await lanes.stored(lanes.topics.lanes))
    async with lanes.counted() as (store, counts):
        assert (await store.log.end(long.session)).cursor == long.records[-1].cursor
        assert await read_all(store.log, long.session, long.records[-2].cursor) == long.records[-1:]
        assert counts.fetched_bytes < whole / 10
        assert await read_all(store.log, long.session) == long.records
        assert counts.fetched_bytes < whole / 2


@pytest.mark.kafka
async def test_marks_that_are_missing_or_wrong_cost_time_and_nothing_else(lanes: Deployment):
    long = await far_apart(lanes)
    helped = await read_in_every_way(lanes, long)
    right = marks_in(long.marks)
    stored = await lanes.stored(lanes.topics.lanes)
    foreign = next(record.offset for record in stored if record.key != long.session.encode())
    void = next(record.offset for record in reversed(stored) if record.key == long.session.encode())
    wrong: Sequence[Sequence[Mark]] = (
        [replace(mark, offset=mark.offset + 1) for mark in right],
        [replace(mark, offset=foreign) for mark in right],
        [replace(mark, offset=void) for mark in right],
        [replace(mark, offset=10**12) for mark in right],
        [replace(mark, seq=mark.seq + 1) for mark in right],
        [replace(mark, seq=1) for mark in right],
        [replace(mark, tag=bytes(8)) for mark in right],
        [right[1], right[0]],
    )
    lines: list[bytes | None] = [b"".join(with_mark(b"", mark) for mark in marks) for marks in wrong]
    for line in (None, b"x", bytes(24), *lines):
        await lanes.write(lanes.topics.lanes_index, (long.session.encode() + b"#", line))
        took = await read_in_every_way(lanes, long)
    await lanes.write(lanes.topics.lanes_index, (long.session.encode() + b"#", None))
    took = await read_in_every_way(lanes, long)
    assert took > helped


@given(st.binary(max_size=100))
def test_foreign_bytes_are_no_trouble_as_marks(packed: bytes):
    marks = marks_in(packed)
    assert last_marked(packed) == (marks[-1].offset if marks else 0)


def test_marks_stay_few_and_the_newer_half_stays_dense():
    packed = b""
    for count in range(1, 2 * MARKS_MAX):
        packed = with_mark(packed, Mark.of(count, count * MARK_RECORDS, bytes(32)))
        seqs = [mark.seq for mark in marks_in(packed)]
        assert len(seqs) <= MARKS_MAX
        assert seqs == sorted(set(seqs))
        dense = min(count, MARKS_MAX // 4)
        assert seqs[-dense:] == list(range(count - dense + 1, count + 1))
        assert (seqs[0], last_marked(packed)) == (1, count * MARK_RECORDS)


# --- the ledger ------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", None]), st.integers(1, 3)), max_size=30), st.data())
def test_a_ledger_calls_clear_only_what_is(written: list[tuple[bytes | None, int]], data: st.DataObject):
    ledger, offset = Ledger(10), 10
    stored: list[tuple[int, bytes | None]] = []
    for key, count in written:
        ledger.note(key, offset, count)
        stored += [(offset + place, key) for place in range(count)]
        offset += count
    since, key = data.draw(st.integers(0, offset + 5)), data.draw(st.sampled_from([b"a", b"b", b"d"]))
    there = any(at >= since and whose == key for at, whose in stored)
    # of what was beyond its end, before the lane lost it, a ledger knows nothing
    assert ledger.is_clear(key, since) == (10 <= since <= offset and not there)
    assert ledger.known == offset


def test_a_ledger_forgets_the_session_that_is_silent_for_longest_and_says_so():
    ledger = Ledger(0)
    for number in range(SESSIONS_MAX + 1):
        ledger.note(b"%d" % number, number)
    assert not ledger.is_clear(b"0", 0)
    assert ledger.is_clear(b"0", 1)
    assert not ledger.is_clear(b"1", 1)
    assert ledger.is_clear(b"1", 2)


# --- creation, growth, deletion --------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16), st.integers(1, 300), st.integers(1, 40))
def test_a_session_has_a_lane_of_the_owner_of_its_requests_if_there_are_enough(name: bytes, lanes: int, owners: int):
    session = named_session(name.hex())
    lane = lane_of(session, lanes, owners)
    assert 0 <= lane < lanes
    if lanes >= owners:
        assert lane % owners == partition_of(session.encode(), owners)


@pytest.mark.kafka
async def test_more_lanes_are_for_new_sessions_and_move_no_other(lanes: Deployment):
    before = await lanes.store()
    old = [await before.log.create() for _ in range(5)]
    heads = {session: (await extended(before.log, session, genesis(session), 2))[0] for session in old}
    after = await lanes.store(lanes=6)
    new = [await after.log.create() for _ in range(20)]
    for session in new:
        heads[session], _ = await extended(after.log, session, genesis(session), 2)
    used = [partition for partition in range(6) if await lanes.stored(lanes.topics.lanes, partition)]
    assert len(used) > 2
    for session in (*old, *new):
        for store in (before, after, await lanes.store(lanes=2)):
            head, _ = await extended(store.log, session, heads[session], 1)
            assert await store.log.end(session) == head
            heads[session] = head


@pytest.mark.kafka
async def test_two_who_create_a_session_at_once_agree_on_its_lane_even_while_lanes_are_added(lanes: Deployment):
    before = await lanes.store()
    await before.log.create()  # so that it believes in one lane
    after = await lanes.store(lanes=8)
    for number in range(20):
        session = named_session(f"{lanes.topics.prefix} {number}")
        await asyncio.gather(*(store.log.create(session) for store in (before, after)))
        head, one = await extended(before.log, session, genesis(session), 1)
        head, two = await extended(after.log, session, head, 1)
        for store in (before, after, await lanes.store()):
            assert await read_all(store.log, session) == one + two
    lines: dict[bytes | None, list[bytes]] = {}
    for record in await lanes.stored(lanes.topics.lanes_index):
        lines.setdefault(record.key, []).append(record.value)
    assert any(len(set(values)) > 1 for values in lines.values()), "they never differed: this shows nothing"
    # compaction keeps the last
    assert all(values[0] == values[-1] for values in lines.values())


@pytest.mark.kafka
async def test_once_a_deletion_has_returned_nobody_can_read_the_session_though_its_bytes_are_there(lanes: Deployment):
    one, two = await lanes.store(), await lanes.store()
    for number in range(10):
        session = named_session(f"{lanes.topics.prefix} gone {number}")
        await one.log.create(session)
        head, records = await extended(one.log, session, genesis(session), 2)
        assert await two.log.end(session) == head
        await one.log.delete(session)
        with pytest.raises(UnknownSession):
            await two.log.end(session)
        with pytest.raises(UnknownSession):
            await read_all(two.log, session)
        with pytest.raises(UnknownSession):
            await extended(two.log, session, head, 1)
        # one of its name has none of its records, whatever a zombie marks
        await two.log.create(session)
        mark = Mark.of(1, 3 * number, records[0].hash)
        await lanes.write(lanes.topics.lanes_index, (session.encode() + b"#", with_mark(b"", mark)))
        assert await read_all(one.log, session) == []
        head, _ = await extended(one.log, session, genesis(session), 1)
        assert await two.log.end(session) == head
    assert len(await lanes.stored(lanes.topics.lanes)) == 30


@pytest.mark.kafka
async def test_what_retention_took_is_said_to_be_gone(lanes: Deployment):
    store = await lanes.store()
    session, other = await store.log.create(), await store.log.create()
    head, records = await extended(store.log, session, genesis(session), 5)
    await extended(store.log, other, genesis(other), 5)
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=lanes.bootstrap)  # Any: half annotated
    await admin.start()
    place = TopicPartition(lanes.topics.lanes, 0)
    await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    await admin.close()
    for log in (store.log, (await lanes.store()).log):
        with pytest.raises(CursorExpired) as expired:
            await read_all(log, session)
        assert expired.value.first_seq == 4
        assert len(await read_all(log, other)) == 5
    assert (await extended(store.log, session, head, 1))[0].seq == len(records) + 1


@pytest.mark.kafka
async def test_an_index_that_is_gone_ends_followers_and_one_made_anew_is_read_anew(lanes: Deployment):
    store = await lanes.store()
    session, *_ = [await store.log.create() for _ in range(3)]
    head, _ = await extended(store.log, session, genesis(session), 4)
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=lanes.bootstrap)  # Any: half annotated
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(store.log.read(session, follow=True)) as pages:
        assert (await anext(pages)).head == head
        await admin.start()
        await admin.delete_topics([lanes.topics.lanes_index])
        await admin.close()
        with pytest.raises(Misconfigured):
            await anext(pages)
    await lanes.store()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(UnknownSession):
            await store.log.end(session)
        fresh = await store.log.create()
        head, _ = await extended(store.log, fresh, genesis(fresh), 1)
        for one in (store, await lanes.store()):
            assert await one.log.end(fresh) == head


@pytest.mark.kafka
async def test_without_its_topics_a_deployment_says_what_to_do(kafka_bootstrap: str):
    topics = Topics(prefix=f"lanes-{os.urandom(4).hex()}", lane_count=2)
    session = named_session("nobody")
    async with open_kafka(KafkaConnection(kafka_bootstrap), topics=topics) as store:
        for asking in (
            store.log.create(),
            store.log.create(session),
            store.log.end(session),
            store.log.delete(session),
        ):
            with pytest.raises(Misconfigured, match="playhead topics create"):
                await asking


def test_a_line_of_the_index_is_what_it_has_always_been():
    """Lines are kept for ever, so this must not change."""
    assert Line(7, 1000).pack() == bytes.fromhex("01 00000007 00000000000003e8")
    assert with_mark(b"", Mark.of(3, 5, bytes(range(32)))).hex() == f"{3:016x}{5:016x}0001020304050607"
