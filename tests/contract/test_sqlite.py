"""What only the SQLite adapter must prove: durability, shared transactions, strangers' files, other processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from playhead.accept import Head, genesis
from playhead.adapters.sqlite import SqliteStore, open_sqlite
from playhead.adapters.sqlite.database import open_file
from playhead.adapters.sqlite.messages import Offsets, Publish, Topic
from playhead.codec import Codec
from playhead.errors import Misconfigured, Superseded, Unavailable, Undecodable, UnknownSession
from playhead.ids import Seq, SessionId
from playhead.queue import Message, TopicSpec
from playhead.testing import chain, named_session, read_all, read_until, said

PATIENCE_SECONDS = 20.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def content(path: Path) -> bytes:
    return path.read_bytes()


def make(path: Path, text: bytes) -> None:
    path.write_bytes(text)


async def talk(store: SqliteStore, codec: Codec, session: SessionId, *texts: str) -> Head:
    """Append one event a text to what there is."""
    head = await store.log.end(session)
    return await store.log.append(session, head, chain(codec, session, head, *said(*texts)))


async def test_writing_is_as_durable_as_the_settings_say(path: Path):
    async with open_sqlite(path) as store:
        assert store.durability == ("wal", 2)


def test_what_a_killed_process_had_acknowledged_is_there(path: Path, codec: Codec):
    """L1"""
    session = named_session("killed")
    command = [sys.executable, "-m", "tests.contract.appender", str(path), session]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = 0
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= 150:
                child.kill()
    assert acknowledged >= 150

    async def reopen() -> None:
        async with open_sqlite(path) as store:
            records = await read_all(store.log, session)
            assert len(records) >= acknowledged
            assert len(records) % 3 == 0, "an append was kept in part"
            assert (await talk(store, codec, session, "and on")).seq == len(records) + 1

    asyncio.run(reopen())


async def test_what_waits_at_the_same_time_shares_transactions(path: Path, codec: Codec):
    async with open_sqlite(path, slow_commit_seconds=60) as store:
        sessions = [await store.log.create(named_session(f"session {number}")) for number in range(50)]
        transactions, changes = store.transactions, store.changes
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            for session in sessions:
                head = genesis(session)
                group.create_task(store.log.append(session, head, chain(codec, session, head, *said("hello"))))
        assert store.changes - changes == 50
        assert store.transactions - transactions == 1


async def test_in_a_shared_transaction_a_superseded_append_harms_no_other(path: Path, codec: Codec):
    """L4"""
    async with open_sqlite(path, slow_commit_seconds=60) as store:
        one, two = await store.log.create(), await store.log.create()
        head = await talk(store, codec, one, "first")
        transactions = store.transactions
        async with asyncio.timeout(PATIENCE_SECONDS):
            stale, fine = await asyncio.gather(
                store.log.append(one, genesis(one), chain(codec, one, genesis(one), *said("second?"))),
                store.log.append(two, genesis(two), chain(codec, two, genesis(two), *said("first"))),
                return_exceptions=True,
            )
        assert store.transactions - transactions == 1
        assert isinstance(stale, Superseded)
        assert isinstance(fine, Head)
        assert (await store.log.end(one), await store.log.end(two)) == (head, fine)


async def test_a_follower_that_is_up_to_date_never_touches_the_disk(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        head = genesis(session)
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(store.log.read(session, follow=True)) as pages:
            await anext(pages)
            reads = store.reads
            for number in range(50):
                batch = chain(codec, session, head, *said(str(number)))
                head = await store.log.append(session, head, batch)
                assert (await anext(pages)).records == tuple(batch)
        assert store.reads == reads


async def test_a_slow_follower_misses_nothing_that_another_process_wrote_in_between(path: Path, codec: Codec):
    """L5: what this process keeps in memory has a hole where the other wrote."""
    async with open_sqlite(path) as ours, open_sqlite(path) as theirs, asyncio.timeout(PATIENCE_SECONDS):
        session = await ours.log.create()
        async with (
            aclosing(ours.log.read(session, follow=True)) as quick,
            aclosing(ours.log.read(session, follow=True)) as slow,
        ):
            assert (await anext(slow)).head.seq == (await anext(quick)).head.seq == 0
            for store in (ours, ours, theirs, ours, ours):
                head = await talk(store, codec, session, "word")
                reached = 0
                while reached < head.seq:
                    reached = (await anext(quick)).head.seq
            seen = list((await anext(slow)).records)
            while len(seen) < head.seq:
                seen.extend((await anext(slow)).records)
        assert seen == await read_all(ours.log, session)


async def test_a_head_that_never_was_is_refused(path: Path, codec: Codec):
    """L4"""
    async with open_sqlite(path) as store:
        session = await store.log.create()
        head = await talk(store, codec, session, "one", "two", "three")
        other = chain(codec, session, genesis(session), *said("another history"))
        for elsewhere in (Head(head.seq, other[0].hash, head.position), Head(Seq(9), head.hash, 9)):
            with pytest.raises(Superseded):
                await store.log.append(session, elsewhere, chain(codec, session, elsewhere, *said("on nothing")))
        assert await store.log.end(session) == head


async def test_records_that_do_not_chain_are_a_mistake_of_the_caller(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        records = chain(codec, session, genesis(session), *said("one", "two"))
        with pytest.raises(ValueError, match="seal"):
            await store.log.append(session, genesis(session), records[1:])


@pytest.mark.parametrize("text", [b"not a database, but long enough to look at " * 50, b"short"])
async def test_a_file_that_is_not_a_database_is_refused_and_left_alone(path: Path, text: bytes):
    make(path, text)
    with pytest.raises(Misconfigured, match=r"log\.db is not a database of Playhead"):
        async with open_sqlite(path):
            pass
    assert content(path) == text


async def test_another_programs_database_is_refused_and_left_alone(path: Path):
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE bookmarks (url TEXT)")
    theirs.close()
    before = content(path)
    with pytest.raises(Misconfigured, match="another program"):
        async with open_sqlite(path):
            pass
    assert content(path) == before


async def test_a_database_of_a_newer_format_is_refused(path: Path):
    async with open_sqlite(path):
        pass
    raw = sqlite3.connect(path)
    (version,) = raw.execute("PRAGMA user_version").fetchone()
    raw.execute(f"PRAGMA user_version = {version + 1}")
    raw.close()
    with pytest.raises(Misconfigured, match="upgrade Playhead"):
        async with open_sqlite(path):
            pass


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(Misconfigured, match="nowhere"):
        async with open_sqlite(tmp_path / "nowhere" / "log.db"):
            pass


async def test_a_file_may_be_opened_for_the_first_time_by_many_at_once(path: Path):
    async def create() -> SessionId:
        async with open_sqlite(path) as store:
            return await store.log.create()

    async with asyncio.timeout(PATIENCE_SECONDS):
        sessions = await asyncio.gather(*(create() for _ in range(5)))
    async with open_sqlite(path) as store:
        for session in sessions:
            assert await read_all(store.log, session) == []


async def test_an_append_waits_for_another_process_that_is_writing(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        appending = asyncio.create_task(talk(store, codec, session, "patience"))
        assert not (await asyncio.wait([appending], timeout=0.2))[0]
        other.execute("COMMIT")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await appending).seq == 1
        other.close()


async def test_a_damaged_record_is_not_taken_for_the_end_of_the_log(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        await talk(store, codec, session, *(f"word {n}" for n in range(5)))
    raw = sqlite3.connect(path, isolation_level=None)
    (value,) = raw.execute("SELECT value FROM records WHERE seq = 3").fetchone()
    raw.execute("UPDATE records SET value = ? WHERE seq = 3", (value.replace(b"word", b"lord"),))
    raw.close()
    async with open_sqlite(path) as store:
        with pytest.raises(Undecodable, match="damaged"):
            await read_all(store.log, session)


async def test_what_a_deleted_session_said_is_not_in_the_file_any_more(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session, other = await store.log.create(), await store.log.create()
        await talk(store, codec, session, *["a secret" for _ in range(500)])
        await talk(store, codec, session, *["a secret" for _ in range(500)])
        kept = await talk(store, codec, other, "no secret")
        await store.log.delete(session)
        # A session of the same name is another session.
        await store.log.create(session)
        assert await store.log.end(session) == genesis(session)
        assert await store.log.end(other) == kept
    assert b"a secret" not in content(path)
    assert b"no secret" in content(path)


async def test_a_deletion_that_a_crash_cut_short_is_finished_when_the_file_is_opened(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        await talk(store, codec, session, *["a secret" for _ in range(100)])
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("UPDATE sessions SET name = NULL")
    raw.close()
    async with open_sqlite(path) as store:
        with pytest.raises(UnknownSession):
            await store.log.end(session)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not store.changes:  # noqa: ASYNC110 - housekeeping announces nothing
                await asyncio.sleep(0.01)
    assert b"a secret" not in content(path)


async def test_a_closed_store_ends_its_followers_and_takes_nothing_more(path: Path, codec: Codec):
    async with open_sqlite(path) as store:
        session = await store.log.create()
        head = await talk(store, codec, session, "hello")
        following = asyncio.create_task(read_until(store.log, session, 99))
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unavailable):
            await following
        with pytest.raises(Unavailable):
            await store.log.append(session, head, chain(codec, session, head, *said("too late")))
        with pytest.raises(Unavailable):
            await read_all(store.log, session)


async def test_a_message_published_while_a_member_reads_the_file_comes_once(path: Path):
    """Q1 allows a message to come twice, but only after somebody failed."""
    async with open_sqlite(path) as store, asyncio.timeout(PATIENCE_SECONDS):
        for turn in range(20):
            # A fresh topic each time: nothing of it is in memory yet, so the first look at a partition is at the file.
            topic = f"topic-{turn}"
            await store.queue.prepare(TopicSpec(topic, 4))
            async with store.queue.join("group", topic) as member, asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(store.queue.publish(topic, f"key-{number}", b"%d" % number))
                taken: list[bytes] = []
                while len(set(taken)) < 40:
                    received = await member.receive()
                    if isinstance(received, tuple):
                        taken.extend(message.value for message in received)
            assert len(taken) == 40


async def test_a_member_cancelled_while_it_reads_the_file_loses_no_message(path: Path):
    """Q1"""
    async with open_sqlite(path) as store, asyncio.timeout(PATIENCE_SECONDS):
        for turns in range(8):
            topic = f"topic-{turns}"
            await store.queue.prepare(TopicSpec(topic, 1))
            await store.queue.publish(topic, "key", b"value")
            async with store.queue.join("group", topic) as member:
                await member.receive()
                receiving = asyncio.create_task(member.receive())
                for _ in range(turns):
                    await asyncio.sleep(0)
                receiving.cancel()
                await asyncio.wait([receiving])
                received = await member.receive() if receiving.cancelled() else receiving.result()
                assert isinstance(received, tuple)
                assert [message.value for message in received] == [b"value"]


async def test_outdated_messages_are_removed_and_offsets_go_on(path: Path):
    now = 1_000_000.0
    spec = TopicSpec("short", 1, kept_hours=1)

    async def kept(store: SqliteStore) -> list[Message]:
        return [message async for batch in store.queue.replay("short") for message in batch]

    async with open_sqlite(path, clock=lambda: now) as store:
        await store.queue.prepare(spec, TopicSpec("table", 1, compacted=True, kept_hours=1))
        for number in range(700):
            await store.queue.publish("short", "key", b"%d" % number)
        await store.queue.publish("table", "key", b"kept")
        now += 3599
        await store.queue.prune()
        assert len(await kept(store)) == 700
        now += 3600
        await store.queue.prune()
        assert [message.value for message in await kept(store)] == [b"699"], "the newest tells the next offset"
        await store.queue.publish("short", "key", b"next")
        assert [message.offset for message in await kept(store)] == [699, 700]
        assert [message.value async for batch in store.queue.replay("table") for message in batch] == [b"kept"]
    async with open_sqlite(path, clock=lambda: now) as store:
        await store.queue.publish("short", "key", b"after")
        assert [message.offset for message in await kept(store)][-1] == 701


def test_a_line_of_a_compacted_topic_takes_as_much_work_among_thousands_as_among_few(path: Path):
    """The directory has a line for every session there ever was, and gets some more for each run."""
    connection, offsets = open_file(path), Offsets()
    topic = Topic(1, TopicSpec("table", 1, compacted=True))
    steps = 0

    def publish(key: str) -> None:
        message = Message("table", 0, 0, key, b"line")
        Publish(offsets, topic, message, at=0, tell=lambda _: None).apply(connection)

    def work(key: str) -> int:
        nonlocal steps
        steps = 0
        publish(key)
        return steps

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    publish("first")
    connection.set_progress_handler(count, 10)
    few = work("another")
    for number in range(3_000):
        publish(f"key-{number}")
    assert work("key-7") < 3 * few + 10
    assert work("one more") < 3 * few + 10
    connection.close()


async def test_sessions_are_made_ahead_in_transactions_that_many_share(path: Path):
    async with open_sqlite(path) as store:
        async with asyncio.TaskGroup() as group:
            creating = [group.create_task(store.log.create()) for _ in range(100)]
        sessions = [created.result() for created in creating]
        assert len(set(sessions)) == 100
        assert store.transactions < 10
        for session in sessions:
            assert (await store.log.end(session)).seq == 0
