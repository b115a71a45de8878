"""What only the Kafka adapter must prove: topics, void records, races, outages, groups."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, aclosing
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st
from playhead.accept import Head, Record, genesis
from playhead.adapters.kafka import KafkaConnection, KafkaStore, open_kafka
from playhead.adapters.kafka.background import Background
from playhead.adapters.kafka.connection import CONNECT_SECONDS, Cluster, Lost
from playhead.adapters.kafka.sink import SINK_BYTES_MAX
from playhead.adapters.kafka.topics import COMPACTION_LAG_SECONDS, STOCK_SESSIONS
from playhead.adapters.kafka.wire import Stored, batch_bytes, unpack
from playhead.adapters.kafka.writer import Batch, Writer
from playhead.adapters.progress import Progress, decode_finished, encode_finished
from playhead.codec import Codec, Context
from playhead.errors import CursorConflict, Misconfigured, Superseded, Unavailable, UnknownSession
from playhead.events import OwnerChanged, TextDelta
from playhead.ids import Cursor, RunId, Seq, SessionId
from playhead.log import Page
from playhead.queue import Assigned, Delivery, Member, Message, Revoked, Topics, TopicSpec

from tests.support.broker import Broker, NoBroker

pytestmark = pytest.mark.kafka

CODEC = Codec()
PATIENCE_SECONDS = 15.0
OUTAGE_SECONDS = 6.0


@pytest.fixture(scope="module")
def broker() -> Generator[Broker]:
    try:
        with Broker(own=True) as started:
            yield started
    except NoBroker as error:
        if os.environ.get("PLAYHEAD_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture
def topics(request: pytest.FixtureRequest) -> Topics:
    lanes = cast("int", getattr(request, "param", 0))
    return Topics(prefix=f"t{os.urandom(4).hex()}", session_partitions=4, lane_count=lanes)


@pytest.fixture
async def store(broker: Broker, topics: Topics) -> AsyncGenerator[KafkaStore]:
    async with open_kafka(connection(broker), topics=topics) as opened:
        await opened.queue.prepare(*topics.lane_topics)
        yield opened


def connection(broker: Broker) -> KafkaConnection:
    return KafkaConnection(broker.bootstrap, session_timeout_ms=2000)


def seal(session: SessionId, head: Head, *owners: str, epoch: int = 1) -> list[Record]:
    context = Context(session, epoch, None, 0)
    return CODEC.seal(head, [OwnerChanged(epoch, owner) for owner in owners], context)


async def everything(store: KafkaStore, session: SessionId, after: Cursor | None = None) -> list[Record]:
    pages = store.log.read(session) if after is None else store.log.read(session, after)
    return [record for page in [page async for page in pages] for record in page.records]


async def until(reached: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110 - a bounded look at what nobody announces
            await asyncio.sleep(0.01)


async def raw(broker: Broker, topic: str, *values: bytes) -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()


def with_broken_header(records: int) -> bytes:
    """Make a batch whose header is no text, as other clients can."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for number in range(records):
        assert builder.append(number, 0, b"key", b"value", [("header", b"x")]) is not None
    data = bytearray(bytes(builder.build()).replace(b"header", b"\xff\xfe\xfd\xfc\xfb\xfa"))
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


def test_a_batch_with_headers_that_are_no_text_holds_nobody_up() -> None:
    assert unpack(with_broken_header(3), 0) == ([], 3)
    followed = with_broken_header(3) + batch_bytes([(b"key", b"value")], (1, 0, 0))
    assert unpack(followed, 0, b"key") == ([Stored(0, b"key", b"value")], 3)


# --- reaching the cluster -------------------------------------------------------------------------------------------


async def test_a_broker_that_is_not_there_is_unavailable_within_five_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"no Kafka at 127\.0\.0\.1:9: start one, or check --kafka"):
        async with open_kafka(KafkaConnection("127.0.0.1:9")):
            pass
    assert time.monotonic() - started < 5


async def test_addresses_that_accept_and_say_nothing_are_unavailable_within_five_seconds() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        callers.remove(writer)

    callers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    started = time.monotonic()
    with pytest.raises(Unavailable):
        async with open_kafka(KafkaConnection(f"127.0.0.1:{port},localhost:{port}")):
            pass
    assert time.monotonic() - started < 5
    await until(lambda: not callers)
    server.close()
    await server.wait_closed()


async def test_many_who_ask_a_host_that_says_nothing_wait_for_one_try_and_not_for_each_other() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        await reader.read(-1)
        writer.close()

    callers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    cluster = Cluster(KafkaConnection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), "many")
    async with asyncio.timeout(3 * CONNECT_SECONDS):
        said = await asyncio.gather(*(cluster.metadata(()) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(one, Lost) for one in said)
    assert len(callers) == 1
    await cluster.close()
    server.close()
    await server.wait_closed()


async def test_an_address_without_a_port_says_what_is_wrong() -> None:
    with pytest.raises(Misconfigured, match="HOST:PORT"):
        async with open_kafka(KafkaConnection("localhost")):
            pass


async def test_the_description_tells_present_topics_from_missing_ones(store: KafkaStore, topics: Topics) -> None:
    await store.queue.prepare(topics.requests)
    found = {state.spec.name: state.partitions for state in (await store.describe()).topics}
    assert found[topics.requests.name] == 4
    assert found[topics.results.name] == 0


async def test_publishing_to_a_topic_that_is_missing_fails_at_once_and_says_what_to_do(store: KafkaStore) -> None:
    started = time.monotonic()
    with pytest.raises(Misconfigured, match="playhead topics create"):
        await store.queue.publish("no.such.topic", "key", b"value")
    with pytest.raises(Misconfigured, match="playhead topics create"):
        async with store.queue.join("group", "no.such.topic"):
            pass
    assert time.monotonic() - started < 2


# --- topics ---------------------------------------------------------------------------------------------------------


async def test_the_stock_refills_and_no_session_is_given_twice(store: KafkaStore) -> None:
    sessions = await asyncio.gather(*(store.log.create() for _ in range(3 * STOCK_SESSIONS)))
    assert len(set(sessions)) == len(sessions)
    await until(lambda: len(store.stock.ready) >= STOCK_SESSIONS)
    assert not set(sessions) & set(store.stock.ready)
    assert (await store.log.end(await store.log.create())).seq == 0


async def test_what_is_left_of_the_stock_is_deleted_when_the_store_closes(broker: Broker, topics: Topics) -> None:
    async with open_kafka(connection(broker), topics=topics) as other, AsyncExitStack() as closing:
        store = await closing.enter_async_context(open_kafka(connection(broker), topics=topics))
        taken = await store.log.create()
        await until(lambda: bool(store.stock.ready))
        unused = store.stock.ready[0]
        await closing.aclose()
        assert await everything(other, taken) == []
        with pytest.raises(UnknownSession):
            await other.log.end(unused)


async def test_a_session_can_be_read_by_every_client_as_soon_as_it_is_created(broker: Broker, topics: Topics) -> None:
    async with (
        open_kafka(connection(broker), topics=topics) as one,
        open_kafka(connection(broker), topics=topics) as two,
    ):
        for _ in range(10):
            assert (await two.log.end(await one.log.create())).seq == 0


async def test_deletion_ends_followers_everywhere_and_nothing_is_asked_about_the_topic_again(
    broker: Broker, topics: Topics
) -> None:
    async with (
        open_kafka(connection(broker), topics=topics) as one,
        open_kafka(connection(broker), topics=topics) as two,
    ):
        session = await one.log.create()
        await one.log.append(session, genesis(session), seal(session, genesis(session), "a"))

        async def watch(store: KafkaStore) -> None:
            async for page in store.log.read(session, follow=True):
                seen.append(page.head.seq)

        seen: list[int] = []
        watching = [asyncio.create_task(watch(store)) for store in (one, two)]
        await until(lambda: len(seen) == 2 and bool(one.tail.places and two.tail.places))
        await one.log.delete(session)
        async with asyncio.timeout(PATIENCE_SECONDS):
            ends = await asyncio.gather(*watching, return_exceptions=True)
        assert [type(end) for end in ends] == [UnknownSession, UnknownSession]
        for store in (one, two):
            assert not store.tail.places
            assert topics.session(session) not in store.topics_known
            with pytest.raises(UnknownSession):
                await store.log.append(session, genesis(session), seal(session, genesis(session), "b"))


async def test_who_stops_following_leaves_nothing_behind(store: KafkaStore) -> None:
    session = await store.log.create()
    async with aclosing(store.log.read(session, follow=True)) as pages:
        await anext(pages)
        waiting = asyncio.create_task(_next(pages))
        await until(lambda: bool(store.tail.places))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not store.tail.places


# --- void records ---------------------------------------------------------------------------------------------------


async def test_poison_and_zombie_records_are_void_for_appends_readers_cursors_and_the_end(
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    session = await store.log.create()
    start = genesis(session)
    first = seal(session, start, "a", "b")
    head = await store.log.append(session, start, first)
    zombie = seal(session, start, "zombie")
    await raw(broker, topics.session(session), b"poison", b"", zombie[0].value)
    second = seal(session, head, "c", "d")
    head = await store.log.append(session, head, second)
    assert (head, head.position) == (Head(Seq(4), second[-1].hash, 7), 7)
    forged = seal(session, Head(Seq(7), second[-1].hash, 7), "forged")
    await raw(broker, topics.session(session), forged[0].value)
    end = await store.log.end(session)
    assert (end, end.position) == (head, 8)
    assert await everything(store, session) == first + second
    for place, record in enumerate(first + second, start=1):
        assert await everything(store, session, record.cursor) == (first + second)[place:]
    with pytest.raises(CursorConflict):
        await everything(store, session, Cursor(Seq(8), forged[0].cursor.tag))
    with pytest.raises(CursorConflict):
        await everything(store, session, Cursor(Seq(3), "00000000"))


async def unreadable(broker: Broker, topic: str) -> None:
    """Store a batch of three that aiokafka cannot read."""
    cluster = Cluster(connection(broker), "stranger")
    await cluster.open()
    request = ProduceRequest(None, -1, 8000, [(topic, [(0, with_broken_header(3))])])
    response = await cluster.call(await cluster.leader(topic, 0), request, "write")
    assert response.topics[0][1][0][1] == 0
    await cluster.close()


async def test_a_batch_that_cannot_be_read_is_void_in_a_session(
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    session = await store.log.create()
    records = seal(session, genesis(session), "a")
    head = await store.log.append(session, genesis(session), records)
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(store.log.read(session, follow=True)) as pages:
        assert (await anext(pages)).head == head
        await unreadable(broker, topics.session(session))
        records += (more := seal(session, head, "b"))
        head = await store.log.append(session, head, more)
        assert (await anext(pages)).head == head
    assert await everything(store, session) == records


async def test_who_receives_is_told_of_a_batch_that_cannot_be_read(
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    await store.queue.prepare(spec := TopicSpec(f"{topics.prefix}.unreadable", partitions=1))
    async with asyncio.timeout(PATIENCE_SECONDS), store.queue.join("group", spec.name) as member:
        await store.queue.publish(spec.name, "key", b"value")
        assert [message.value for message in await take(member, 1)] == [b"value"]
        await unreadable(broker, spec.name)
        with pytest.raises(Unavailable, match="cannot be read"):
            while True:
                await member.receive()


async def test_a_late_append_of_a_zombie_is_superseded_and_never_seen(store: KafkaStore) -> None:
    session = await store.log.create()
    start = genesis(session)
    owned = seal(session, start, "owner")
    head = await store.log.append(session, start, owned)
    with pytest.raises(Superseded):
        await store.log.append(session, start, seal(session, start, "zombie"))
    after = seal(session, head, "owner again")
    await store.log.append(session, head, after)
    assert await everything(store, session) == owned + after


async def test_three_owners_racing_leave_a_dense_log_and_each_is_told_the_truth(broker: Broker, topics: Topics) -> None:
    async with AsyncExitStack() as stores:
        opened = [await stores.enter_async_context(open_kafka(connection(broker), topics=topics)) for _ in range(3)]
        session = await opened[0].log.create()

        async def own(name: str, store: KafkaStore) -> list[Record]:
            accepted: list[Record] = []
            for number in range(15):
                head = await store.log.end(session)
                mine = seal(session, head, *[f"{name}{number}"] * (1 + number % 4), epoch=number)
                try:
                    await store.log.append(session, head, mine)
                except Superseded:
                    continue
                accepted += mine
            return accepted

        claimed = await asyncio.gather(*(own(name, store) for name, store in zip("abc", opened, strict=True)))
        log = await everything(opened[1], session)
        assert [record.seq for record in log] == list(range(1, len(log) + 1))
        assert {record.hash for record in log} == {record.hash for own in claimed for record in own}


# --- unknown outcomes and outages -----------------------------------------------------------------------------------


async def test_a_batch_sent_twice_is_stored_once(broker: Broker, store: KafkaStore, topics: Topics) -> None:
    session = await store.log.create()
    cluster, background = Cluster(connection(broker), "test"), Background()
    await cluster.open()
    writer = Writer(cluster, background)
    batch = Batch((topics.session(session), 0), [(None, b"one"), (None, b"two")])
    assert [await writer.send(batch), await writer.send(batch)] == [0, 0]
    assert await writer.send(Batch((topics.session(session), 0), [(None, b"three")])) == 2
    await background.close()
    await cluster.close()


@pytest.mark.parametrize("topics", [0, 4], indirect=True, ids=["topic", "lanes"])
async def test_an_append_caught_by_a_crash_is_accepted_exactly_once(broker: Broker, store: KafkaStore) -> None:
    session = await store.log.create()
    records = seal(session, genesis(session), "a", "b", "c")
    head = await store.log.append(session, genesis(session), records)
    more = seal(session, head, "d", "e")
    broker.freeze()
    appending = asyncio.create_task(store.log.append(session, head, more))
    await asyncio.sleep(0)
    await asyncio.to_thread(broker.restart)
    async with asyncio.timeout(20):
        head = await appending
    assert await everything(store, session) == records + more
    assert await store.log.end(session) == head


@pytest.mark.parametrize("topics", [1], indirect=True)
async def test_nothing_is_appended_to_a_session_whose_end_the_broker_lost(
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    """One broker alone may lose what it acknowledged. What is said after that must not be called accepted.

    Nor if others have filled the lane again, beyond where it was lost.
    """
    heads: dict[SessionId, Head] = {}
    sessions = [await store.log.create() for _ in range(4)]
    for session in (*sessions, *sessions):
        head = heads.get(session, genesis(session))
        heads[session] = await store.log.append(session, head, seal(session, head, "owner"))
    broker.kill()
    await asyncio.to_thread(broker.lose, topics.lanes, 0, len(sessions))
    await asyncio.to_thread(broker.restart)
    *early, late = sessions

    async def append_to_what_is_lost(session: SessionId) -> None:
        with pytest.raises(Superseded):
            await store.log.append(session, heads[session], seal(session, heads[session], "owner"))

    async with asyncio.timeout(PATIENCE_SECONDS * 2):
        for session in early:
            await append_to_what_is_lost(session)
        other = await store.log.create()
        head = genesis(other)
        for _ in range(2 * len(sessions)):
            head = await store.log.append(other, head, seal(other, head, "other"))
        await append_to_what_is_lost(late)
        for session in sessions:
            head = await store.log.end(session)
            assert head.seq == 1
            head = await store.log.append(session, head, seal(session, head, "next"))
            assert (await everything(store, session))[-1].hash == head.hash


async def test_an_outage_loses_nothing_and_everything_goes_on_by_itself(  # noqa: C901 - four parties at once
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    await store.queue.prepare(topics.requests)
    session = await store.log.create()
    seen: list[Record] = []
    appended: list[Record] = []
    delivered: set[str] = set()
    stop = asyncio.Event()

    async def append() -> None:
        head = genesis(session)
        while not stop.is_set():
            records = seal(session, head, "a", "b")
            head = await store.log.append(session, head, records)
            appended.extend(records)
            await asyncio.sleep(0.002)

    async def publish(name: str) -> int:
        number = 0
        while not stop.is_set():
            await store.queue.publish(topics.requests.name, f"{name}{number}", b"value")
            number += 1
            await asyncio.sleep(0.002)
        return number

    async def watch() -> None:
        async for page in store.log.read(session, follow=True):
            seen.extend(page.records)

    async def consume() -> None:
        async with store.queue.join("group", topics.requests.name) as member:
            while True:
                for message in await take(member, 1, seconds=60):
                    delivered.add(message.key)
                    member.acknowledge(message)

    working = [asyncio.create_task(work) for work in (append(), publish("x"), publish("y"))]
    listening = [asyncio.create_task(work) for work in (watch(), consume())]
    await until(lambda: len(seen) > 100 and len(delivered) > 100, 10)
    broker.kill()
    await asyncio.sleep(OUTAGE_SECONDS)
    before = len(appended)
    await asyncio.to_thread(broker.restart)
    await until(lambda: len(appended) > before + 100, 20)
    stop.set()
    async with asyncio.timeout(20):
        _, *published = await asyncio.gather(*working)
    await until(lambda: len(seen) == len(appended), 20)
    expected = {
        f"{name}{number}" for name, count in zip("xy", published, strict=True) for number in range(int(count or 0))
    }
    await until(lambda: delivered >= expected, 20)
    assert seen == appended == await everything(store, session)
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)


async def test_a_commit_that_took_too_long_and_then_failed_is_nobody_s_unnoticed_error(
    broker: Broker, store: KafkaStore, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """The client library commits in a task that goes on when it is no longer waited for."""
    await store.queue.prepare(topics.requests)
    unnoticed: list[str] = []
    caplog.set_level("INFO", "playhead.adapters.kafka.member")
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unnoticed.append(str(context)))
    async with store.queue.join("group", topics.requests.name) as member:
        await store.queue.publish(topics.requests.name, "one", b"value")
        (message,) = await take(member, 1, seconds=20)
        broker.freeze()
        member.acknowledge(message)
        await until(lambda: "will be tried again: TimeoutError()" in caplog.text, 20)
        broker.kill()
        await asyncio.to_thread(broker.restart)
        await store.queue.publish(topics.requests.name, "two", b"value")
        await take(member, 1, seconds=60)
    gc.collect()
    await asyncio.sleep(0)
    assert unnoticed == []


async def test_a_follower_that_falls_behind_reads_for_itself_and_misses_nothing(store: KafkaStore) -> None:
    session = await store.log.create()
    head = genesis(session)
    text = "x" * 100_000
    async with (
        aclosing(store.log.read(session, follow=True)) as slow,
        aclosing(store.log.read(session, follow=True)) as quick,
    ):
        assert (await anext(slow)).records == (await anext(quick)).records == ()
        steps = [asyncio.create_task(_next(slow)), asyncio.create_task(_next(quick))]
        await until(lambda: bool(store.tail.places))
        sent: list[Record] = []
        for number in range(2 * SINK_BYTES_MAX // len(text)):
            delta = TextDelta(RunId("run"), number, 1, text)
            records = CODEC.seal(head, [delta], Context(session, 1, None, 0))
            head = await store.log.append(session, head, records)
            sent += records
        got = [list((await steps[0]).records), list((await steps[1]).records)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            for mine, pages in zip(got, (slow, quick), strict=True):
                while len(mine) < len(sent):
                    mine.extend((await anext(pages)).records)
    assert got[0] == got[1] == sent


async def _next(pages: AsyncGenerator[Page]) -> Page:
    return await anext(pages)


# --- groups ---------------------------------------------------------------------------------------------------------


async def next_news(member: Member) -> Delivery:
    async with asyncio.timeout(10):
        while isinstance(delivery := await member.receive(), tuple):
            member.acknowledge(*delivery)
    return delivery


async def take(member: Member, count: int, seconds: float = 10) -> list[Message]:
    taken: list[Message] = []
    async with asyncio.timeout(seconds):
        while len(taken) < count:
            delivery = await member.receive()
            if isinstance(delivery, tuple):
                taken += delivery
    return taken


async def test_a_member_is_told_what_it_loses_before_another_is_given_it(store: KafkaStore, topics: Topics) -> None:
    await store.queue.prepare(topics.requests, topics.results)
    joined = topics.requests.name, topics.results.name
    async with store.queue.join("group", *joined) as one:
        assert await next_news(one) == Assigned(frozenset(range(4)))
        async with store.queue.join("group", *joined) as two:
            assert await next_news(one) == Revoked(frozenset(range(4)))
            given = asyncio.create_task(next_news(two))
            await asyncio.wait([given], timeout=1)
            assert not given.done()
            kept = await next_news(one)
            got = await given
            assert isinstance(kept, Assigned)
            assert isinstance(got, Assigned)
            assert kept.partitions | got.partitions == frozenset(range(4))
            assert not kept.partitions & got.partitions
        assert await next_news(one) == Revoked(kept.partitions)
        assert await next_news(one) == Assigned(frozenset(range(4)))


async def test_messages_finished_out_of_order_do_not_come_again(store: KafkaStore, topics: Topics) -> None:
    await store.queue.prepare(topics.deadletter)
    for number in range(6):
        await store.queue.publish(topics.deadletter.name, "key", b"%d" % number)
    async with store.queue.join("group", topics.deadletter.name) as member:
        messages = await take(member, 6)
        member.acknowledge(messages[5], messages[0], messages[2], messages[3])
    async with store.queue.join("group", topics.deadletter.name) as member:
        again = await take(member, 2)
        assert [message.value for message in again] == [b"1", b"4"]
        member.acknowledge(*again)
        await store.queue.publish(topics.deadletter.name, "key", b"6")
        assert [message.value for message in await take(member, 1)] == [b"6"]


async def test_while_members_come_and_go_every_message_is_delivered_and_none_is_left(
    store: KafkaStore, topics: Topics
) -> None:
    await store.queue.prepare(topics.requests)
    name = topics.requests.name
    seen: set[str] = set()
    total = 600

    async def consume() -> None:
        async with store.queue.join("group", name) as member:
            while True:
                for message in await take(member, 1, seconds=30):
                    seen.add(message.key)
                    member.acknowledge(message)

    async def publish() -> None:
        for number in range(total):
            await store.queue.publish(name, f"key{number}", b"value")
            await asyncio.sleep(0.003)

    members = [asyncio.create_task(consume())]
    publishing = asyncio.create_task(publish())
    for _ in range(3):
        members.append(asyncio.create_task(consume()))
        before = len(seen)
        await until(lambda before=before: len(seen) > before + 50, 10)
        leaver = members.pop(0)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
    await publishing
    await until(lambda: len(seen) == total, 10)
    for member in members:
        member.cancel()
    await asyncio.gather(*members, return_exceptions=True)
    await store.queue.publish(name, "last", b"value")
    async with store.queue.join("group", name) as member:
        assert [message.key for message in await take(member, 1)] == ["last"]


FROZEN_MEMBER = """
import asyncio, sys
from playhead.adapters.kafka import KafkaConnection, open_kafka
async def main(address, topic):
    async with open_kafka(KafkaConnection(address, session_timeout_ms=2000)) as store:
        async with store.queue.join("group", topic) as member:
            while True:
                print(type(await member.receive()).__name__, flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_frozen_member_loses_its_partitions_and_finds_out_when_it_wakes(
    broker: Broker, store: KafkaStore, topics: Topics
) -> None:
    await store.queue.prepare(topics.deadletter)
    frozen = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FROZEN_MEMBER, broker.bootstrap, topics.deadletter.name, stdout=asyncio.subprocess.PIPE
    )
    assert frozen.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await frozen.stdout.readline() == b"Assigned\n"
            frozen.send_signal(signal.SIGSTOP)
            async with store.queue.join("group", topics.deadletter.name) as member:
                assert await next_news(member) == Assigned(frozenset({0}))
                frozen.send_signal(signal.SIGCONT)
                assert await frozen.stdout.readline() == b"Revoked\n"
    finally:
        frozen.kill()
        await frozen.communicate()


# --- what a commit carries ------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.sets(st.integers(0, 400)))
def test_finished_offsets_survive_a_commit(safe: int, ahead: set[int]) -> None:
    finished = {safe + offset for offset in ahead}
    assert decode_finished(safe, encode_finished(safe, finished)) == finished


@given(st.integers(0, 1000), st.text(max_size=40))
def test_foreign_commit_metadata_is_no_trouble(safe: int, metadata: str) -> None:
    assert all(offset >= safe for offset in decode_finished(safe, metadata))


@given(st.permutations(range(8)), st.integers(0, 8))
def test_a_commit_never_passes_a_message_that_is_not_done(order: list[int], done: int) -> None:
    progress = Progress()
    for offset in range(8):
        progress.deliver(offset)
    for offset in order[:done]:
        progress.finish(offset)
    commit = progress.commit()
    assert commit is not None
    safe, metadata = commit
    assert set(range(safe)) | decode_finished(safe, metadata) == set(order[:done])


async def test_a_line_of_a_compacted_topic_is_kept_for_a_while_although_there_is_a_newer_one(
    store: KafkaStore, broker: Broker, topics: Topics
) -> None:
    await store.queue.prepare(topics.sessions)
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)  # Any: half annotated
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topics.sessions.name)
        (answer,) = await admin.describe_configs([resource])
    finally:
        await admin.close()
    ((*_, entries),) = answer.resources
    found = {name: value for name, value, *_ in entries}
    assert (found["cleanup.policy"], found["min.compaction.lag.ms"]) == ("compact", str(COMPACTION_LAG_SECONDS * 1_000))
