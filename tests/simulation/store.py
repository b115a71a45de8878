"""The store of a simulated deployment: both ports, as Kafka keeps them, over a network that is not to be trusted.

What is asked of the store travels there and back. It may come late, twice, or never; the answer may be lost although
the work was done. An append is kept whatever it chains on to, as Kafka keeps it: readers skip what the chain does not
accept. A call whose answer does not come ends with `Unavailable`, and may still arrive afterwards.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from playhead.accept import Head, Record, advance, genesis
from playhead.adapters.chain import appended, check_append, head_at
from playhead.adapters.shelf import check_size, partition_for
from playhead.errors import CursorConflict, PlayheadError, Superseded, Unavailable, UnknownSession
from playhead.ids import BEGINNING, Cursor, SessionId, session_id
from playhead.log import Page
from playhead.queue import Message, TopicSpec

from tests.simulation.loop import SimLoop

__all__ = ["Network", "Odds", "SimLog", "Stored", "Topic"]

PATIENCE_SECONDS = 4.0
"""How long a client waits for an answer of the store."""

T = TypeVar("T")
Fate = Literal["arrives", "lost", "late", "unanswered", "twice"]


@dataclass(slots=True)
class Odds:
    """How likely it is that a call of the store goes wrong, each way. All zero once the faults have stopped."""

    lost: float = 0.0
    late: float = 0.0
    unanswered: float = 0.0
    twice: float = 0.0
    slow: float = 0.0

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.lost = self.late = self.unanswered = self.twice = self.slow = 0.0


class Network:
    """The way to the store and back. It counts what it does to whom."""

    def __init__(self, loop: SimLoop, chance: random.Random, odds: Odds, hop_seconds: float) -> None:
        self.loop = loop
        self.chance = chance
        self.odds = odds
        self.counts: Counter[str] = Counter()
        self.server = loop.process("store")
        self._hop_seconds = hop_seconds

    def hop(self) -> float:
        """Choose how long one way takes."""
        seconds = self._hop_seconds * (0.2 + 1.6 * self.chance.random())
        if self.odds.slow and self.chance.random() < self.odds.slow:
            self.counts["slow"] += 1
            seconds += self.chance.random() * 2.0
        return seconds

    def fate(self) -> Fate:
        """Choose what happens to a call that changes something."""
        odds, drawn = self.odds, self.chance.random()
        shares: tuple[tuple[Fate, float], ...] = (
            ("lost", odds.lost),
            ("late", odds.late),
            ("unanswered", odds.unanswered),
            ("twice", odds.twice),
        )
        for fate, share in shares:
            if drawn < share:
                self.counts[fate] += 1
                return fate
            drawn -= share
        return "arrives"

    def disconnects(self) -> bool:
        """Choose whether a connection is gone."""
        if self.odds.lost and self.chance.random() < self.odds.lost:
            self.counts["disconnected"] += 1
            return True
        return False

    async def call(self, work: Callable[[], T], fate: Fate = "arrives") -> T:
        """Have the store do something. Raises what that raises, and `Unavailable` if no answer comes."""
        answer: asyncio.Future[T] = self.loop.create_future()
        if fate != "lost":
            late = self.chance.random() * 2 * PATIENCE_SECONDS if fate == "late" else 0.0
            seconds = self.hop() + late
            self.loop.call_later(seconds, self._arrive, work, fate, answer, context=self.server.context)
        if fate in ("arrives", "twice") and not self.odds.slow:
            return await answer
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await answer
        except TimeoutError:
            raise Unavailable("no answer from the store") from None

    def _arrive(self, work: Callable[[], T], fate: Fate, answer: asyncio.Future[T]) -> None:
        """Do at the store what was asked of it, and send the answer back."""
        back: Callable[[], None]
        try:
            result = work()
            if fate == "twice":
                with suppress(PlayheadError):
                    work()
            back = partial(_answer, answer, result)
        except PlayheadError as error:
            back = partial(_refuse, answer, error)
        if fate != "unanswered":
            self.loop.call_later(self.hop(), back, context=self.server.context)


def _answer(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _refuse(answer: asyncio.Future[T], error: PlayheadError) -> None:
    if not answer.done():
        answer.set_exception(error)


@dataclass(slots=True, eq=False)
class Stored:
    """A session's log: everything that was ever stored, and what of it the chain accepts."""

    head: Head
    physical: list[Record] = field(default_factory=list[Record])
    accepted: list[Record] = field(default_factory=list[Record])
    followers: dict[asyncio.Event, None] = field(default_factory=dict[asyncio.Event, None])

    def store(self, records: Sequence[Record]) -> bool:
        """Store a batch; tell whether anything of it was accepted."""
        self.physical += records
        head, accepted = advance(self.head, records)
        self.head = Head(head.seq, head.hash, head.position)
        self.accepted += accepted
        return bool(accepted)


class SimLog:
    """Session logs. See `playhead.log.SessionLog`; every process has the same one."""

    def __init__(self, network: Network) -> None:
        self.sessions: dict[SessionId, Stored] = {}
        self._network = network
        self._page_records_max = network.chance.choice((3, 20, 200))

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make a session."""
        name = session or session_id(self._network.chance.randbytes(16))
        await self._network.call(lambda: self.sessions.setdefault(name, Stored(genesis(name))), self._network.fate())
        return name

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Append; where the outcome is unknown, read."""
        after = check_append(head, records)
        network = self._network

        def store() -> bool:
            log = self._open(session)
            there = log.accepted[head.seq : head.seq + len(records)]
            if [record.hash for record in there] == [record.hash for record in records]:
                log.physical += records  # a duplicate: void, and of no consequence
                return True
            if not log.store(records):
                return False
            self._wake(log)
            return True

        try:
            stored = await network.call(store, network.fate())
        except Unavailable:
            stored = await network.call(lambda: self._is_there(session, head, records))
        if not stored:
            raise Superseded(session, head.seq + 1)
        return after

    def _is_there(self, session: SessionId, head: Head, records: Sequence[Record]) -> bool:
        """Settle an append whose outcome is unknown. It may still arrive if it is not there: that is not settled."""
        log = self._open(session)
        now = head_at(session, log.accepted[-1] if log.accepted else None)
        there = log.accepted[head.seq : head.seq + len(records)]
        if not appended(session, head, records, now=now, there=there):
            raise Unavailable("the append is not there, and may still come")
        return True

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield the session in pages."""
        network, news = self._network, asyncio.Event()
        head = await network.call(lambda: self._find(session, after))
        log = self._open(session)
        log.followers[news] = None
        try:
            first = True
            while True:
                news.clear()
                start = head.seq
                records, end = await network.call(
                    lambda start=start: (
                        tuple(log.accepted[start : start + self._page_records_max]),
                        len(log.accepted),
                    )
                )
                head = head_at(session, records[-1]) if records else head
                if records or first:
                    yield Page(records, head)
                    first = False
                if head.seq >= end:
                    if not follow:
                        return
                    await news.wait()
        finally:
            log.followers.pop(news, None)

    async def end(self, session: SessionId) -> Head:
        """Give the session's head."""
        return await self._network.call(lambda: self._end(session))

    async def delete(self, session: SessionId) -> None:
        """Remove a session."""
        self.sessions.pop(session, None)

    def _end(self, session: SessionId) -> Head:
        records = self._open(session).accepted
        return head_at(session, records[-1] if records else None)

    def _find(self, session: SessionId, cursor: Cursor) -> Head:
        records = self._open(session).accepted
        if cursor.seq == 0:
            return genesis(session)
        if cursor.seq > len(records):
            raise CursorConflict(str(cursor), len(records))
        record = records[cursor.seq - 1]
        if cursor.tag not in (None, record.cursor.tag):
            raise CursorConflict(str(cursor), len(records))
        return head_at(session, record)

    def _open(self, session: SessionId) -> Stored:
        try:
            return self.sessions[session]
        except KeyError:
            raise UnknownSession(session) from None

    def _wake(self, log: Stored) -> None:
        network = self._network
        for news in log.followers:
            network.loop.call_later(network.hop(), news.set, context=network.server.context)


COMPACTION_LAG_SECONDS = 30.0
"""Longer than anybody is suspended for, as it is in the field; and short, so that much is compacted."""


class Topic:
    """A topic: messages by partition."""

    def __init__(self, spec: TopicSpec, clock: Callable[[], float]) -> None:
        self.spec = spec
        self.partitions: list[list[Message]] = [[] for _ in range(spec.partitions)]
        self.ends = [0] * spec.partitions
        self._clock = clock
        self._kept_at: dict[tuple[int, int], float] = {}

    def keep(self, key: str, value: bytes) -> int:
        """Keep a message; give its partition."""
        check_size(self.spec.name, value)
        partition = partition_for(key, self.spec.partitions)
        kept = self.partitions[partition]
        if self.spec.compacted:
            old = self._clock() - COMPACTION_LAG_SECONDS
            kept[:] = [one for one in kept if one.key != key or self._kept_at[partition, one.offset] > old]
            self._kept_at[partition, self.ends[partition]] = self._clock()
        kept.append(Message(self.spec.name, partition, self.ends[partition], key, value))
        self.ends[partition] += 1
        return partition

    def take(self, partition: int, offset: int, count: int) -> Sequence[Message]:
        """Give messages from an offset on."""
        kept = self.partitions[partition]
        start = bisect_left(kept, offset, key=lambda message: message.offset)
        return kept[start : start + count]
