"""One life of a process that uses a store: owners, a publisher, a member of a group; and a look at what is left.

Everything is told to a `Diary`, with how much had been done to the disk when it began and when it was acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from playhead.accept import Record, genesis
from playhead.adapters.chain import head_at
from playhead.adapters.sqlite import SqliteStore
from playhead.codec import Codec
from playhead.errors import PlayheadError, UnknownSession
from playhead.ids import SessionId
from playhead.queue import Message, TopicSpec
from playhead.testing import chain, named_session, read_all, said

from tests.power.disk import Trace
from tests.power.ledger import (
    Acknowledged,
    Appended,
    Created,
    Deleted,
    Entry,
    Fact,
    Found,
    Ledger,
    Left,
    Log,
    Published,
    Read,
    Replayed,
)

__all__ = ["CALLS", "TABLE", "Diary", "Script", "examine", "live"]

CALLS = TopicSpec("calls", 2)
TABLE = TopicSpec("table", 1, compacted=True)
GROUP = "workers"
AFTER = b"after the cut"
PATIENCE_SECONDS = 3.0
USED_SESSIONS_MAX = 3
"""How many sessions are appended to after a cut."""

codec = Codec()


@dataclass(frozen=True)
class Diary:
    """Notes what users ask and are told."""

    ledger: Ledger
    trace: Trace

    @contextmanager
    def doing(self, fact: Fact) -> Generator[None, None, None]:
        """Note a fact as begun, and as told when the block ends."""
        entry = Entry(fact, self.trace.now)
        self.ledger.entries.append(entry)
        yield
        entry.told = self.trace.now

    def note(self, fact: Fact) -> None:
        """Note something that is known at once."""
        self.ledger.entries.append(Entry(fact, self.trace.now, self.trace.now))


@dataclass(frozen=True)
class Script:
    """How long a life is, and what makes it another than the others."""

    name: str
    rounds: int = 3
    stints: int = 2
    only_resume: bool = False
    """Whether it ends when it has done again what may not have happened, and read what did."""


async def live(store: SqliteStore, diary: Diary, script: Script) -> None:
    """Go on where the last life ended, and use everything at the same time."""
    random = Random(script.name)
    old = diary.ledger.sessions
    for session in old:
        # Before anything is written: what was not synced when the last process died must not be shown to anybody.
        await _resume(store, diary, session, random)
    if script.only_resume:
        return
    await store.queue.prepare(CALLS, TABLE)
    async with asyncio.TaskGroup() as group:
        for session in random.sample(old, min(3, len(old))):
            group.create_task(_go_on(store, diary, session, script, Random(f"{script.name} {session}")))
        for number in range(2):
            name = named_session(f"{script.name} {number}")
            group.create_task(_own(store, diary, name, script, Random(f"{script.name} {number}")))
        group.create_task(_anonymous(store, diary))
        group.create_task(_doomed(store, diary, named_session(f"{script.name} doomed"), random))
        group.create_task(_keep_table(store, diary, script))
        group.create_task(_work(store, diary, script, Random(f"{script.name} work")))


async def _own(store: SqliteStore, diary: Diary, session: SessionId, script: Script, random: Random) -> None:
    with diary.doing(Created(session)):
        await store.log.create(session)
    for _ in range(script.rounds):
        await _append(store, diary, session, random)


async def _resume(store: SqliteStore, diary: Diary, session: SessionId, random: Random) -> None:
    """Do again what may not have happened, as users do; or read first what did."""
    last = diary.ledger.of(session)[-1]
    if last.told is None and random.random() < 0.5:
        await _again(store, diary, last.fact)
    diary.note(Read(session, await _read(store, session)))


async def _go_on(store: SqliteStore, diary: Diary, session: SessionId, script: Script, random: Random) -> None:
    if await _read(store, session) is not None:
        for _ in range(script.rounds):
            await _append(store, diary, session, random)


async def _again(store: SqliteStore, diary: Diary, fact: Fact) -> None:
    with diary.doing(fact):
        match fact:
            case Created(session):
                await store.log.create(session)
            case Appended(session, records):
                first = records[0]
                head = genesis(session) if first.seq == 1 else (await store.log.end(session))
                if head.seq >= first.seq:
                    # It is there: the head before it is made from what it chains on to.
                    head = type(head)(type(first.seq)(first.seq - 1), first.prev, first.seq - 1)
                await store.log.append(session, head, records)
            case Deleted(session):
                await store.log.delete(session)
            case _:
                raise AssertionError(f"{fact} is no fact of a session's")


async def _anonymous(store: SqliteStore, diary: Diary) -> None:
    session = await store.log.create()
    diary.note(Created(session))
    await _append(store, diary, session, Random(0))


async def _doomed(store: SqliteStore, diary: Diary, session: SessionId, random: Random) -> None:
    with diary.doing(Created(session)):
        await store.log.create(session)
    await _append(store, diary, session, random)
    await _append(store, diary, session, random)
    with diary.doing(Deleted(session)):
        await store.log.delete(session)


async def _keep_table(store: SqliteStore, diary: Diary, script: Script) -> None:
    for number in range(script.rounds):
        for key in ("left", "right"):
            value = f"{script.name} {key} {number}".encode()
            with diary.doing(Published(TABLE.name, key, value)):
                await store.queue.publish(TABLE.name, key, value)


async def _work(store: SqliteStore, diary: Diary, script: Script, random: Random) -> None:
    """Publish, join, take what was published, acknowledge some of it in any order, and leave."""
    for stint in range(script.stints):
        fresh = [f"{script.name} {stint} {number}".encode() for number in range(3)]
        for value in fresh:
            key = f"key {random.randrange(4)}"
            with diary.doing(Published(CALLS.name, key, value)):
                await store.queue.publish(CALLS.name, key, value)
        async with asyncio.timeout(PATIENCE_SECONDS), store.queue.join(GROUP, CALLS.name) as member:
            taken: list[Message] = []
            while not {message.value for message in taken} >= set(fresh):
                received = await member.receive()
                if isinstance(received, tuple):
                    taken += received
                    diary.note(Replayed(received))
            done = tuple(random.sample(taken, random.randint(1, len(taken))))
            diary.ledger.entries.append(Entry(Acknowledged(done), diary.trace.now))
            member.acknowledge(*done)
            left = Entry(Left(done), diary.trace.now)
            diary.ledger.entries.append(left)
        left.told = diary.trace.now


async def _append(store: SqliteStore, diary: Diary, session: SessionId, random: Random) -> None:
    head = await store.log.end(session)
    texts = ["x" * random.choice((1, 40, 400, 6000)) for _ in range(random.randint(1, 4))]
    records = tuple(chain(codec, session, head, *said(*texts)))
    with diary.doing(Appended(session, records)):
        await store.log.append(session, head, records)


async def _read(store: SqliteStore, session: SessionId) -> Log:
    try:
        return tuple(await read_all(store.log, session))
    except UnknownSession:
        return None


async def examine(store: SqliteStore, ledger: Ledger) -> tuple[Found, list[str]]:
    """Look at everything that a store holds, then use it. Gives what is wrong with using it."""
    names = ledger.sessions
    _, *logs = await asyncio.gather(store.queue.prepare(CALLS, TABLE), *(_read(store, name) for name in names))
    messages = [m for topic in (CALLS, TABLE) async for batch in store.queue.replay(topic.name) for m in batch]
    found = dict(zip(names, logs, strict=True))
    there = [(name, log) for name, log in found.items() if log is not None]
    used = Random(len(ledger.entries)).sample(there, min(USED_SESSIONS_MAX, len(there)))
    async with asyncio.TaskGroup() as group:
        delivering = group.create_task(_deliver(store, messages, ledger.acknowledged))
        going = [group.create_task(_goes_on(store, name, log)) for name, log in used]
    return Found(found, messages, delivering.result()), [one.result() for one in going if one.result()]


async def _goes_on(store: SqliteStore, session: SessionId, log: tuple[Record, ...]) -> str:
    """Append to a session; say what is wrong with that, if anything is."""
    head = await store.log.end(session)
    if head != head_at(session, log[-1] if log else None):
        return f"L3: the head of {session} is not its last record's"
    records = chain(codec, session, head, *said("and on"))
    try:
        await store.log.append(session, head, records)
    except PlayheadError as error:
        return f"L4: {session} does not go on: {error!r}"
    return "" if await _read(store, session) == (*log, *records) else f"L1: {session} does not go on"


async def _deliver(store: SqliteStore, messages: list[Message], acknowledged: set[Message]) -> list[Message]:
    """Publish one more message, join the group, and take what must come, or what came in time."""
    due = {message.value for message in messages if message.topic == CALLS.name and message not in acknowledged}
    due.add(AFTER)
    await store.queue.publish(CALLS.name, "after", AFTER)
    delivered: list[Message] = []
    async with store.queue.join(GROUP, CALLS.name) as member:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while due - {message.value for message in delivered}:
                    received = await member.receive()
                    if isinstance(received, tuple):
                        delivered += received
        except TimeoutError:
            pass
    return delivered
