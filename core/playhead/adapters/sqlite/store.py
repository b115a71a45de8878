"""One SQLite file with both ports: opening, looking out for other processes, closing."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playhead.adapters.groups import HANDOVER_GRACE_SECONDS
from playhead.adapters.sqlite.database import Connection, connect, durability, open_file
from playhead.adapters.sqlite.log import SqliteSessionLog
from playhead.adapters.sqlite.messages import Offsets
from playhead.adapters.sqlite.queue import SqliteQueue
from playhead.adapters.sqlite.reader import Reader
from playhead.adapters.sqlite.records import Heads, half_deleted
from playhead.adapters.sqlite.writer import CHECKPOINT_FRAMES, SLOW_COMMIT_SECONDS, Pace, Writer
from playhead.errors import Unavailable
from playhead.telemetry import logger

__all__ = ["SqliteStore", "open_sqlite"]

FOREIGN_POLL_SECONDS = 0.05
"""How often a store with readers looks whether another process has written."""

PRUNE_EVERY_SECONDS = 300.0
"""How often outdated messages are removed."""

_log = logger("playhead.adapters.sqlite")


@dataclass(frozen=True, slots=True)
class _Settings:
    clock: Callable[[], float]
    handover_grace_seconds: float
    pace: Pace


class SqliteStore:
    """A session log and a queue in one file."""

    def __init__(self, connections: Sequence[Connection], settings: _Settings) -> None:
        writing, side, reading = connections
        heads, offsets = Heads(), Offsets()

        def forget() -> None:
            heads.forget()
            offsets.forget()

        self._loop = asyncio.get_running_loop()
        self._writer = Writer(writing, side, settings.pace, forget=forget, foreign=self._doubt)
        self._reader = Reader(reading)
        self._durability = durability(writing)
        self.log = SqliteSessionLog(self._writer, self._reader, heads)
        self.queue = SqliteQueue(
            self._writer,
            self._reader,
            offsets,
            clock=settings.clock,
            grace_seconds=settings.handover_grace_seconds,
        )
        self._poll = self._loop.call_later(FOREIGN_POLL_SECONDS, self._look)

    @property
    def durability(self) -> tuple[str, int]:
        """Give the `journal_mode` and the `synchronous` that writing happens with: `wal` and 2."""
        return self._durability

    @property
    def reads(self) -> int:
        """Count how often this process read the file, since the store was opened."""
        return self._reader.reads

    @property
    def transactions(self) -> int:
        """Count the transactions since the store was opened."""
        return self._writer.transactions

    @property
    def changes(self) -> int:
        """Count the appends, publications and other changes that those transactions held."""
        return self._writer.changes

    async def tend(self) -> None:
        """Do the housekeeping, for ever: finish deletions that were cut short, and prune, now and then."""
        while True:
            try:
                for number in await self._reader.read(half_deleted):
                    await self.log.erase(number)
                await self.queue.prune()
            except Unavailable as error:
                _log.warning("could not remove what was deleted or is outdated", error=str(error))
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def close(self) -> None:
        """Write what waits and let go of the file. Readers that still follow get `Unavailable`."""
        self._poll.cancel()
        await self.queue.settle()
        self.log.close()
        await self._writer.close()
        self._reader.close()

    def _look(self) -> None:
        try:
            if self.log.followed or self.queue.listeners:
                self._writer.look()
        except sqlite3.Error as error:
            _log.warning("could not look whether others have written", error=str(error))
        finally:
            self._poll = self._loop.call_later(FOREIGN_POLL_SECONDS, self._look)

    def _doubt(self) -> None:
        self.log.doubt()
        self.queue.doubt()


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    clock: Callable[[], float] = time.time,
    handover_grace_seconds: float = HANDOVER_GRACE_SECONDS,
    slow_commit_seconds: float = SLOW_COMMIT_SECONDS,
    checkpoint_frames: int = CHECKPOINT_FRAMES,
) -> AsyncGenerator[SqliteStore, None]:
    """Open a database file, made if it is not there. Several processes may have it open.

    `clock` gives seconds since the epoch, for the age of messages. Once commits take `slow_commit_seconds` on average
    they are made in a thread; with a negative number, all of them. After about `checkpoint_frames` pages the
    write-ahead log is moved into the database. Raises `Misconfigured` for a file that is not ours or is newer than this
    version, and `Unavailable` while another process keeps it locked.
    """
    connections: list[Connection] = []
    try:
        connections.append(await asyncio.to_thread(open_file, path))
        connections.extend([await asyncio.to_thread(connect, path) for _ in range(2)])
        pace = Pace(slow_commit_seconds, checkpoint_frames)
        store = SqliteStore(connections, _Settings(clock, handover_grace_seconds, pace))
        tending = asyncio.create_task(store.tend(), name="playhead-sqlite-tend")
        try:
            yield store
        finally:
            tending.cancel()
            await asyncio.wait([tending])
            await store.close()
    finally:
        for connection in reversed(connections):
            # The last one to close moves the write-ahead log into the database.
            await asyncio.to_thread(connection.close)
