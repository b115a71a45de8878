"""The session log on SQLite: compare-and-set on the head, inside the transaction.

The file refuses what does not chain on, so it holds no void record and `position` equals `seq`. Readers that follow
get what this process commits straight from the writer; what other processes commit they read from the file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_bytes

from playhead.accept import Head, Record
from playhead.adapters.chain import check_append, head_at
from playhead.adapters.sqlite.reader import Reader
from playhead.adapters.sqlite.records import Append, Create, Delete, Erase, Heads, find, head_of, next_page
from playhead.adapters.sqlite.ring import Ring
from playhead.adapters.sqlite.writer import Writer
from playhead.errors import PlayheadError, Unavailable, UnknownSession
from playhead.ids import BEGINNING, Cursor, SessionId, session_id
from playhead.log import Page

__all__ = ["SqliteSessionLog"]

SESSIONS_STOCKED = 32
"""How many empty sessions are made ahead at a time. A crash leaves at most these behind, a row each."""


class SqliteSessionLog:
    """Session logs in one file. See `playhead.log.SessionLog`."""

    def __init__(self, writer: Writer, reader: Reader, heads: Heads) -> None:
        self._writer = writer
        self._reader = reader
        self._heads = heads
        self._tails: dict[SessionId, _Tail] = {}
        self._stock: deque[SessionId] = deque()
        self._stocking: asyncio.Future[None] | None = None

    async def create(self, session: SessionId | None = None) -> SessionId:
        """Make an empty session and return its id. Naming one that exists already is not an error."""
        if session is not None:
            await self._writer.submit(Create((session,)))
            return session
        while not self._stock:
            # Shielded, because others wait for the same transaction.
            await asyncio.shield(self._restock())
        name = self._stock.popleft()
        if len(self._stock) < SESSIONS_STOCKED // 2:
            self._restock()
        return name

    async def append(self, session: SessionId, head: Head, records: Sequence[Record]) -> Head:
        """Store records that chain on to `head` as one unit and return the new head."""
        after = check_append(head, records)
        if records:
            at = Head(head.seq, head.hash, head.seq)
            await self._writer.submit(Append(self._heads, session, at, tuple(records), self._appended))
        return after

    async def read(
        self, session: SessionId, after: Cursor = BEGINNING, *, follow: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Yield what comes after the cursor."""
        news = asyncio.Event()
        # Listening starts before the file is read, so nothing can fall between what is kept and what is new.
        with self._attached(session, news) as tail:
            doubts = tail.ring.doubts
            found = await self._reader.read(lambda db: find(db, session, after))
            number, page = found.number, found.page
            yield page
            while follow or not found.at_end:
                news.clear()
                if tail.ended is not None:
                    raise tail.ended()
                if found.at_end:
                    tail.ring.know(found.page.head.seq + 1, doubts)
                new = tail.ring.since(page.head.seq + 1) if follow else None
                if new:
                    page = Page(tuple(new), head_at(session, new[-1]))
                    yield page
                elif new is None:
                    doubts, head = tail.ring.doubts, page.head
                    found = await self._reader.read(lambda db, head=head: next_page(db, session, number, head))
                    page = found.page
                    if page.records:
                        yield page
                else:
                    await news.wait()

    async def end(self, session: SessionId) -> Head:
        """Give the head of the session now."""
        return await self._reader.read(lambda db: head_of(db, session))

    async def delete(self, session: SessionId) -> None:
        """Remove a session for ever."""
        number = await self._writer.submit(Delete(self._heads, session, self._deleted))
        if number is not None:
            await self.erase(number)

    async def erase(self, number: int) -> None:
        """Remove what is left of a deleted session, a bounded piece in each transaction."""
        while await self._writer.submit(Erase(number)):
            pass

    @property
    def followed(self) -> bool:
        """Tell whether anybody follows a session."""
        return bool(self._tails)

    def doubt(self) -> None:
        """Another process has written: let every reader that follows look at the file."""
        for tail in self._tails.values():
            tail.ring.doubt()
            tail.wake()

    def close(self) -> None:
        """End all who follow: no more will come."""
        for session in tuple(self._tails):
            self._end(session, lambda: Unavailable("this store has been closed"))

    def _restock(self) -> asyncio.Future[None]:
        """Make sessions ahead, in one transaction, so that a user's first message does not wait for the disk twice."""
        if self._stocking is None or self._stocking.done():
            names = [session_id(token_bytes(16)) for _ in range(SESSIONS_STOCKED)]
            self._stocking = self._writer.submit(Create(names))
            self._stocking.add_done_callback(lambda done: None if done.exception() else self._stock.extend(names))
        return self._stocking

    def _appended(self, session: SessionId, records: Sequence[Record]) -> None:
        tail = self._tails.get(session)
        if tail is not None:
            for record in records:
                tail.ring.push(record.seq, record, len(record.value))
            tail.wake()

    def _deleted(self, session: SessionId) -> None:
        self._end(session, lambda: UnknownSession(session))

    def _end(self, session: SessionId, error: Callable[[], PlayheadError]) -> None:
        tail = self._tails.pop(session, None)
        if tail is not None:
            tail.ended = error
            tail.wake()

    @contextmanager
    def _attached(self, session: SessionId, news: asyncio.Event) -> Generator[_Tail, None, None]:
        tail = self._tails.setdefault(session, _Tail())
        tail.followers.add(news)
        try:
            yield tail
        finally:
            tail.followers.discard(news)
            if not tail.followers and self._tails.get(session) is tail:
                del self._tails[session]


@dataclass(slots=True, eq=False)
class _Tail:
    """The live end of a session that somebody reads."""

    ring: Ring[Record] = field(default_factory=Ring[Record])
    followers: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    ended: Callable[[], PlayheadError] | None = None

    def wake(self) -> None:
        for follower in self.followers:
            follower.set()
