"""Which sessions a new owner must look at: what the directory says of them, read once and then as far as it is new."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from playhead.adapters.memory import MemoryQueue
from playhead.codec import Codec
from playhead.commands import AnnounceAgent, ListSession
from playhead.errors import Unavailable
from playhead.ids import Seq, SessionId
from playhead.queue import Message, Since, TopicSpec
from playhead_orchestrator.directory import OpenWork

CODEC = Codec()
TOPIC = "directory"
WIDTH = 4
ALL = frozenset(range(WIDTH))
ONE, TWO, THREE = (SessionId(f"ses_{name * 26}") for name in "abc")


class Counting(MemoryQueue):
    """A queue that counts what it replays, and breaks off after `left` messages."""

    read = 0
    left = 1_000_000

    async def replay(
        self,
        topic: str,
        *,
        since: Since = "beginning",
        follow: bool = False,
        partitions: frozenset[int] | None = None,
    ) -> AsyncGenerator[tuple[Message, ...], None]:
        """Yield what is kept, a message at a time."""
        async with aclosing(super().replay(topic, since=since, follow=follow, partitions=partitions)) as batches:
            async for batch in batches:
                for message in batch:
                    if not self.left:
                        raise Unavailable("told to fail")
                    self.left -= 1
                    self.read += 1
                    yield (message,)


async def directory() -> tuple[Counting, OpenWork]:
    """A directory that keeps every line for a while, as one does that several processes write to."""
    queue = Counting()
    await queue.prepare(TopicSpec(TOPIC, WIDTH))
    return queue, OpenWork(queue, TOPIC, CODEC)


async def say(queue: MemoryQueue, session: SessionId, epoch: int, *, is_open: bool, seq: int = 3) -> None:
    line = ListSession(session, "helper", "running" if is_open else "idle", is_open, 1, 2, Seq(seq), epoch)
    await queue.publish(TOPIC, session, CODEC.encode(line))


def listed(work: OpenWork) -> set[SessionId]:
    return {session for session, _ in work.sessions(ALL)}


async def test_what_is_open_is_listed_with_its_partition_and_what_has_ended_is_not() -> None:
    queue, work = await directory()
    for session in (ONE, TWO, THREE):
        await say(queue, session, 1, is_open=True)
    await say(queue, TWO, 1, is_open=False)
    await work.read()
    assert listed(work) == {ONE, THREE}
    assert set(work.sessions(ALL)) == {(one, await queue.partition_of(TOPIC, one)) for one in (ONE, THREE)}
    await say(queue, TWO, 1, is_open=True)
    await say(queue, ONE, 1, is_open=False)
    await work.read()
    assert listed(work) == {TWO, THREE}


async def test_a_line_is_read_once_and_another_partition_s_is_left_alone() -> None:
    queue, work = await directory()
    for session in (ONE, TWO):
        await say(queue, session, 1, is_open=True)
    await work.read()
    assert queue.read == 2
    await work.read()
    assert queue.read == 2
    await say(queue, THREE, 1, is_open=True)
    place = await queue.partition_of(TOPIC, THREE)
    await work.read(ALL - {place})
    assert queue.read == 2 and listed(work) == {ONE, TWO}
    await work.read(frozenset({place}))
    assert queue.read == 3 and listed(work) == {ONE, TWO, THREE}


async def test_a_line_of_an_owner_that_woke_late_does_not_hide_its_successor_s_work() -> None:
    queue, work = await directory()
    await say(queue, ONE, 1, is_open=True)
    await say(queue, ONE, 2, is_open=True)
    await say(queue, ONE, 1, is_open=False)
    await work.read()
    assert listed(work) == {ONE}
    await say(queue, ONE, 2, is_open=False)
    await work.read()
    assert listed(work) == set()


async def test_a_line_that_arrives_again_after_the_next_one_does_not_hide_what_was_begun_since() -> None:
    """Seed 69460 of the simulation, at 42672ee: a run's end was listed late, and the next run was forgotten."""
    queue, work = await directory()
    await say(queue, ONE, 1, is_open=False, seq=16)
    await say(queue, ONE, 1, is_open=True, seq=19)
    await say(queue, ONE, 1, is_open=False, seq=16)
    await work.read()
    assert listed(work) == {ONE}
    await say(queue, ONE, 1, is_open=False, seq=30)
    await work.read()
    assert listed(work) == set()


async def test_a_deleted_session_has_no_work() -> None:
    queue, work = await directory()
    await say(queue, ONE, 1, is_open=True)
    await work.read()
    await queue.publish(TOPIC, ONE, b"")
    await work.read()
    assert listed(work) == set()


async def test_a_reading_that_breaks_off_is_gone_on_with_where_it_was() -> None:
    queue, work = await directory()
    for session in (ONE, TWO, THREE):
        await say(queue, session, 1, is_open=True)
    queue.left = 2
    with pytest.raises(Unavailable):
        await work.read()
    queue.left = 1_000_000
    await work.read()
    assert queue.read == 3 and listed(work) == {ONE, TWO, THREE}


async def test_what_is_no_line_is_passed_over() -> None:
    queue, work = await directory()
    await queue.publish(TOPIC, ONE, b"poison")
    await queue.publish(TOPIC, ONE, CODEC.encode(AnnounceAgent("helper", "1", "stage:one", "", (), True, 1)))
    await say(queue, ONE, 1, is_open=True)
    await work.read()
    assert listed(work) == {ONE}
