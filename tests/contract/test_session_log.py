"""The session log's contract, clause by clause (`playhead.log`), on every adapter."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import aclosing
from itertools import pairwise

import pytest
from playhead.accept import Head, Record, genesis
from playhead.codec import RECORD_BYTES_MAX, Codec
from playhead.errors import CursorConflict, Superseded, TooLarge, UnknownSession
from playhead.events import OwnerChanged
from playhead.ids import Cursor, Seq, SessionId, parse_cursor, parse_session_id
from playhead.log import APPEND_RECORDS_MAX, SessionLog
from playhead.testing import chain, named_session, read_all, read_until, said

from tests.contract.stores import Client, Store


async def grown(log: SessionLog, codec: Codec, count: int, *, batch: int = 7) -> tuple[SessionId, Head, list[Record]]:
    """A new session with `count` events, appended in batches."""
    session = await log.create()
    head, records = genesis(session), list[Record]()
    while len(records) < count:
        size = min(batch, count - len(records))
        sealed = chain(codec, session, head, *said(*(f"word {len(records) + i}" for i in range(size))))
        head = await log.append(session, head, sealed)
        records += sealed
    return session, head, records


# --- L1: what was acknowledged is there ------------------------------------------------------------------------------


async def test_what_was_appended_is_read_back_byte_for_byte(client: Client, codec: Codec):
    """L1"""
    session, head, records = await grown(client.log, codec, 20)
    assert await read_all(client.log, session) == records
    assert await client.log.end(session) == head


async def test_what_was_appended_is_there_for_a_client_that_opens_the_store_later(store: Store, codec: Codec):
    """L1"""
    async with store.open() as first:
        session, _, records = await grown(first.log, codec, 20)
    async with store.open() as second:
        assert await read_all(second.log, session) == records


async def test_an_append_is_in_a_read_that_another_client_begins_after_it(store: Store, codec: Codec):
    """L1"""
    writer, reader = await store.client(), await store.client()
    session = await writer.log.create()
    head = genesis(session)
    for number in range(20):
        head = await writer.log.append(session, head, chain(codec, session, head, *said(str(number))))
        assert len(await read_all(reader.log, session)) == head.seq
        assert await reader.log.end(session) == head


# --- L2: one log for everybody ---------------------------------------------------------------------------------------


async def test_the_head_leads_on_and_seqs_are_dense_from_one(client: Client, codec: Codec):
    """L2"""
    session, head, _ = await grown(client.log, codec, 30, batch=4)
    records = await read_all(client.log, session)
    assert [record.seq for record in records] == list(range(1, 31))
    assert records[0].prev == genesis(session).hash
    assert all(after.prev == before.hash for before, after in pairwise(records))
    assert (head.seq, head.hash) == (records[-1].seq, records[-1].hash)


async def test_sessions_do_not_see_each_other(client: Client, codec: Codec):
    """L2"""
    all_grown = await asyncio.gather(*(grown(client.log, codec, 10 + i, batch=3) for i in range(8)))
    for session, _, records in all_grown:
        assert await read_all(client.log, session) == records


# --- L3: an append is seen whole or not at all -----------------------------------------------------------------------


async def test_a_follower_never_sees_part_of_an_append(store: Store, codec: Codec):
    """L3"""
    writer, reader = await store.client(), await store.client()
    session = await writer.log.create()
    ends = {0}

    async def follow(log: SessionLog) -> list[int]:
        seen: list[int] = []
        async with aclosing(log.read(session, follow=True)) as pages:
            async for page in pages:
                seen.append(page.head.seq)
                if page.head.seq >= 200:
                    break
        return seen

    async def write() -> None:
        head = genesis(session)
        sizes = random.Random(3)
        while head.seq < 200:
            batch = chain(codec, session, head, *said(*("x" * sizes.randint(1, 9))))
            ends.add(head.seq + len(batch))
            head = await writer.log.append(session, head, batch)

    async with asyncio.timeout(store.patience_seconds), asyncio.TaskGroup() as group:
        followers = [group.create_task(follow(log)) for log in (writer.log, reader.log)]
        group.create_task(write())
    for follower in followers:
        assert set(follower.result()) <= ends


# --- L4: of owners after one head, one is accepted --------------------------------------------------------------------


async def race(store: Store, codec: Codec, owners: int) -> None:
    """Let owners append to one session until each was accepted a few times, then compare what they were told."""
    clients = [await store.client() for _ in range(owners)]
    session = await clients[0].log.create()
    accepted: list[Record] = []
    refused: list[Record] = []

    async def own(name: int, log: SessionLog) -> None:
        dice = random.Random(name)
        wins = 0
        # All begin after the same head, so at least one of them is refused however the machine runs them. One that was
        # accepted goes on from its own head, so a zombie that still believes in its head is among them.
        head = genesis(session)
        while wins < 5:
            await asyncio.sleep(dice.choice([0, 0, 0.002]))
            batch = chain(codec, session, head, *said(*(f"{name}/{wins}/{i}" for i in range(dice.randint(1, 3)))))
            try:
                head = await log.append(session, head, batch)
            except Superseded as lost:
                assert (lost.session, lost.seq) == (session, batch[0].seq)
                refused.extend(batch)
                head = await log.end(session)
            else:
                accepted.extend(batch)
                wins += 1

    async with asyncio.timeout(store.patience_seconds), asyncio.TaskGroup() as group:
        for name, client in enumerate(clients):
            group.create_task(own(name, client.log))
    reads = [await read_all(client.log, session) for client in clients]
    assert all(read == reads[0] for read in reads)
    assert [record.seq for record in reads[0]] == list(range(1, len(accepted) + 1))
    assert {record.hash for record in reads[0]} == {record.hash for record in accepted}
    assert not {record.hash for record in reads[0]} & {record.hash for record in refused}
    assert refused, "the owners never met: this race shows nothing"


async def test_two_owners_that_race_leave_one_chain_of_what_was_acknowledged(store: Store, codec: Codec):
    """L4"""
    await race(store, codec, 2)


async def test_three_owners_that_race_leave_one_chain_of_what_was_acknowledged(store: Store, codec: Codec):
    """L4"""
    await race(store, codec, 3)


async def test_of_two_appends_at_the_same_moment_exactly_one_is_accepted(store: Store, codec: Codec):
    """L4"""
    one, two = await store.client(), await store.client()
    session, head, _ = await grown(one.log, codec, 3)
    batches = [chain(codec, session, head, *said(name)) for name in ("one", "two")]
    async with asyncio.timeout(store.patience_seconds):
        results = await asyncio.gather(
            *(client.log.append(session, head, b) for client, b in zip((one, two), batches, strict=True)),
            return_exceptions=True,
        )
    refusals = [result for result in results if isinstance(result, BaseException)]
    assert [type(refusal) for refusal in refusals] == [Superseded]
    winner = batches[next(i for i, result in enumerate(results) if isinstance(result, Head))]
    for client in (one, two):
        assert (await read_all(client.log, session))[3:] == winner


async def test_what_a_zombie_appends_after_it_lost_the_session_is_seen_by_nobody(store: Store, codec: Codec):
    """L4"""
    zombie, owner = await store.client(), await store.client()
    session, stale, records = await grown(zombie.log, codec, 5)
    taken = chain(codec, session, await owner.log.end(session), OwnerChanged(2, "owner"), epoch=2)
    head = await owner.log.append(session, stale, taken)
    for words in (["late"], ["later", "and more"]):
        with pytest.raises(Superseded):
            await zombie.log.append(session, stale, chain(codec, session, stale, *said(*words)))
    more = chain(codec, session, head, *said("after the zombie"), epoch=2)
    head = await owner.log.append(session, head, more)
    for client in (zombie, owner, await store.client()):
        assert await read_all(client.log, session) == [*records, *taken, *more]
        # From a cursor beyond the zombie's records, a reader must not stumble over them either.
        assert await read_all(client.log, session, taken[-1].cursor) == more
        assert await client.log.end(session) == head


# --- L5: everything after the cursor, in order, once -----------------------------------------------------------------


async def test_reading_from_any_seq_gives_exactly_the_rest(client: Client, codec: Codec):
    """L5"""
    session, _, records = await grown(client.log, codec, 40, batch=6)
    for seq in range(41):
        assert await read_all(client.log, session, Cursor(Seq(seq))) == records[seq:]
        if seq:
            assert await read_all(client.log, session, records[seq - 1].cursor) == records[seq:]


async def test_a_long_session_comes_in_pages_whose_heads_follow_each_other(client: Client, codec: Codec):
    """L5"""
    session, head, records = await grown(client.log, codec, 2000, batch=APPEND_RECORDS_MAX)
    read: list[Record] = []
    reached = genesis(session)
    async for page in client.log.read(session):
        read.extend(page.records)
        reached = page.head
        assert reached.cursor == (read[-1].cursor if read else Cursor(Seq(0)))
    assert read == records
    assert reached == head


async def test_the_first_page_comes_at_once_even_if_it_is_empty(store: Store, codec: Codec):
    """L5"""
    client = await store.client()
    empty = await client.log.create()
    session, head, _ = await grown(client.log, codec, 3)
    for name, at in ((empty, genesis(empty)), (session, head)):
        for follow in (False, True):
            async with aclosing(client.log.read(name, at.cursor, follow=follow)) as pages:
                async with asyncio.timeout(store.patience_seconds):
                    page = await anext(pages)
                assert (page.records, page.head.cursor) == ((), at.cursor)


async def test_a_head_that_was_read_can_be_appended_to(store: Store, codec: Codec):
    """L5"""
    one, two = await store.client(), await store.client()
    session, _, records = await grown(one.log, codec, 10)
    async with aclosing(two.log.read(session)) as pages:
        *_, last = [page async for page in pages]
    more = chain(codec, session, last.head, *said("on it"))
    await two.log.append(session, last.head, more)
    assert await read_all(one.log, session) == [*records, *more]


async def test_catching_up_and_going_live_has_no_seam(store: Store, codec: Codec):
    """L5"""
    writer, reader = await store.client(), await store.client()
    session = await writer.log.create()
    written: list[Record] = []

    async def write() -> None:
        head = genesis(session)
        while head.seq < 300:
            batch = chain(codec, session, head, *said("a", "b", "c"))
            head = await writer.log.append(session, head, batch)
            written.extend(batch)

    async with asyncio.timeout(store.patience_seconds), asyncio.TaskGroup() as group:
        readers: list[tuple[int, asyncio.Task[object]]] = []
        group.create_task(write())
        for number in range(12):
            # Each begins somewhere while the log grows: from the beginning or from what was its end just now.
            seq = len(written) if number % 2 else 0
            after = written[seq - 1].cursor if seq else Cursor(Seq(0))
            log = (writer if number % 4 < 2 else reader).log
            readers.append((seq, group.create_task(read_until(log, session, 300, after))))
            await asyncio.sleep(0.003)
    for seq, read in readers:
        assert read.result() == written[seq:]


async def test_closed_followers_leave_nothing_behind(store: Store, codec: Codec):
    """L5"""
    client = await store.client()
    session, head, records = await grown(client.log, codec, 5)

    async def come_and_go(times: int) -> None:
        for _ in range(times):
            async with aclosing(client.log.read(session, follow=True)) as pages:
                assert (await anext(pages)).records == tuple(records)
                waiting = asyncio.create_task(anext(pages))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])

    async with asyncio.timeout(store.patience_seconds):
        # The first ones may open what all the later ones share: connections, a thread.
        await come_and_go(15)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        await come_and_go(15)
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - nobody announces the end of a task not ours
            await asyncio.sleep(0.01)
        assert threading.active_count() <= threads
        # And the log goes on as if they had never been.
        more = chain(codec, session, head, *said("still here"))
        await client.log.append(session, head, more)
        assert await read_until(client.log, session, 6) == [*records, *more]


# --- L6: a cursor that is not of this log ----------------------------------------------------------------------------


@pytest.mark.parametrize("follow", [False, True])
async def test_a_cursor_ahead_of_the_log_is_a_conflict(client: Client, codec: Codec, *, follow: bool):
    """L6"""
    session, _, _ = await grown(client.log, codec, 5)
    for text in ("6", "6-00000000", "999999"):
        with pytest.raises(CursorConflict) as conflict:
            await anext(client.log.read(session, parse_cursor(text), follow=follow))
        assert (conflict.value.cursor, conflict.value.last_seq) == (text, 5)


@pytest.mark.parametrize("follow", [False, True])
async def test_a_cursor_of_another_history_is_a_conflict(client: Client, codec: Codec, *, follow: bool):
    """L6"""
    session, _, records = await grown(client.log, codec, 5)
    for seq in (1, 3, 5):
        tag = "0" * 8 if records[seq - 1].cursor.tag != "0" * 8 else "1" * 8
        with pytest.raises(CursorConflict) as conflict:
            await anext(client.log.read(session, Cursor(Seq(seq), tag), follow=follow))
        assert conflict.value.last_seq == 5


# --- L7: created, known to all; deleted, to none ---------------------------------------------------------------------


async def test_a_session_that_was_created_can_be_read_by_every_client_at_once(store: Store):
    """L7"""
    one, two = await store.client(), await store.client()
    for _ in range(10):
        session = await one.log.create()
        assert parse_session_id(session) == session
        assert await two.log.end(session) == genesis(session)
        assert await read_all(two.log, session) == []


async def test_creating_a_named_session_again_changes_nothing(store: Store, codec: Codec):
    """L7"""
    one, two = await store.client(), await store.client()
    name = named_session(f"named {random.getrandbits(64)}")
    assert await one.log.create(name) == name
    records = chain(codec, name, genesis(name), *said("kept"))
    await one.log.append(name, genesis(name), records)
    assert await two.log.create(name) == name
    assert await read_all(two.log, name) == records


async def test_a_session_that_was_never_created_is_unknown(client: Client, codec: Codec):
    """L7"""
    nobody = named_session(f"nobody {random.getrandbits(64)}")
    with pytest.raises(UnknownSession):
        await read_all(client.log, nobody)
    with pytest.raises(UnknownSession):
        await anext(client.log.read(nobody, follow=True))
    with pytest.raises(UnknownSession):
        await client.log.end(nobody)
    with pytest.raises(UnknownSession):
        await client.log.append(nobody, genesis(nobody), chain(codec, nobody, genesis(nobody), *said("hello?")))


async def test_a_deleted_session_is_unknown_and_its_followers_are_told(store: Store, codec: Codec):
    """L7"""
    one, two = await store.client(), await store.client()
    session, head, records = await grown(one.log, codec, 5)
    reached = [asyncio.Event() for _ in range(2)]

    async def follow(log: SessionLog, at_end: asyncio.Event) -> None:
        async with aclosing(log.read(session, follow=True)) as pages:
            async for page in pages:
                if page.head.seq == len(records):
                    at_end.set()

    followers = [
        asyncio.create_task(follow(client.log, at_end)) for client, at_end in zip((one, two), reached, strict=True)
    ]
    async with asyncio.timeout(store.patience_seconds):
        for at_end in reached:
            await at_end.wait()
        await one.log.delete(session)
        ends = await asyncio.gather(*followers, return_exceptions=True)
    assert [type(end) for end in ends] == [UnknownSession, UnknownSession]
    with pytest.raises(UnknownSession):
        await read_all(one.log, session)
    with pytest.raises(UnknownSession):
        await one.log.append(session, head, chain(codec, session, head, *said("too late")))
    await one.log.delete(session)


# --- L8: doing it again ----------------------------------------------------------------------------------------------


async def test_appending_the_same_records_again_gives_the_same_head_and_nothing_twice(store: Store, codec: Codec):
    """L8: who does not know whether its append was made may make it again, so the second is not `Superseded`."""
    one, two = await store.client(), await store.client()
    session, head, records = await grown(one.log, codec, 4)
    batch = chain(codec, session, head, *said("once", "only"))
    after = await one.log.append(session, head, batch)
    for client in (one, two):
        again = await client.log.append(session, head, batch)
        assert again.cursor == after.cursor
    assert await read_all(two.log, session) == [*records, *batch]
    # The head it gave is good to go on from.
    more = chain(codec, session, again, *said("and on"))
    await two.log.append(session, again, more)
    # Even when others are long past it.
    assert (await one.log.append(session, head, batch)).cursor == after.cursor
    assert await read_all(one.log, session) == [*records, *batch, *more]


async def test_only_the_very_same_records_are_taken_for_a_repetition(client: Client, codec: Codec):
    """L8"""
    session, head, records = await grown(client.log, codec, 4)
    batch = chain(codec, session, head, *said("once", "only"))
    await client.log.append(session, head, batch)
    for other in (said("once", "ONLY"), said("Once", "only")):
        with pytest.raises(Superseded):
            await client.log.append(session, head, chain(codec, session, head, *other))
    assert await read_all(client.log, session) == [*records, *batch]


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_an_append_of_the_most_records_is_kept_and_of_one_more_refused(client: Client, codec: Codec):
    session = await client.log.create()
    head = genesis(session)
    with pytest.raises(TooLarge):
        await client.log.append(session, head, chain(codec, session, head, *said(*["x"] * (APPEND_RECORDS_MAX + 1))))
    assert await client.log.end(session) == head
    most = chain(codec, session, head, *said(*["x"] * APPEND_RECORDS_MAX))
    assert (await client.log.append(session, head, most)).seq == APPEND_RECORDS_MAX
    assert await read_all(client.log, session) == most


async def test_an_append_of_the_most_bytes_is_kept_and_of_more_refused(client: Client, codec: Codec):
    session = await client.log.create()
    head = genesis(session)
    half = "x" * (RECORD_BYTES_MAX // 2)
    with pytest.raises(TooLarge):
        await client.log.append(session, head, chain(codec, session, head, *said(half, half)))
    assert await client.log.end(session) == head
    large = chain(codec, session, head, *said("x" * (RECORD_BYTES_MAX - 500)))
    await client.log.append(session, head, large)
    assert await read_all(client.log, session) == large
