"""The one way into the file: changes that wait are committed together, in one transaction with one fsync.

A transaction is made on the event loop, once a turn of it: whatever was submitted during a turn shares it. Handing it
to a thread costs two switches and the interpreter lock for every statement, which was measured as more than the fsync
(`docs/decisions/0003-sqlite-commits-on-the-loop.md`). On a slow disk that is no longer so, and a thread is used.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from playhead.adapters.sqlite.database import Connection, data_version
from playhead.errors import PlayheadError, Unavailable
from playhead.telemetry import logger

__all__ = ["CHECKPOINT_FRAMES", "SLOW_COMMIT_SECONDS", "Change", "Pace", "Writer"]

TRANSACTION_CHANGES_MAX = 512
"""The most changes in one transaction."""

TRANSACTION_BYTES_MAX = 8 << 20
"""The bytes after which no further change is taken into a transaction."""

LOCK_PATIENCE_SECONDS = 5.0
"""How long changes wait for other processes' transactions before they fail with `Unavailable`."""

LOCK_RETRY_SECONDS = 0.005
"""How soon a transaction is tried again that another process's was in the way of."""

SLOW_COMMIT_SECONDS = 0.001
"""Commits that take longer than this, on average, are made in a thread."""

AVERAGE_TRANSACTIONS = 16
"""Over about how many transactions that average is."""

THREAD_TRANSACTIONS = 256
"""How many transactions are made in the thread before the loop is tried again."""

CHECKPOINT_FRAMES = 2000
"""How many pages the write-ahead log may have, about, before they are moved into the database."""

PAGE_BYTES = 4096

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")

_log = logger("playhead.adapters.sqlite")


@dataclass(frozen=True, slots=True)
class Pace:
    """From when on a writer uses a thread, and how often it moves the write-ahead log."""

    slow_commit_seconds: float
    checkpoint_frames: int


class Change(Protocol[T_co]):
    """One thing to write."""

    @property
    def size(self) -> int:
        """About how many bytes it writes."""
        ...

    def apply(self, connection: Connection) -> T_co:
        """Write inside the transaction. A `PlayheadError` must be raised before anything is written."""
        ...

    def landed(self) -> None:
        """Tell this process's readers; called on the loop, after the commit, in the order of the commits."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    change: Change[Any]  # each result goes to the future that was made with its change
    future: asyncio.Future[Any]
    since: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a transaction came to: a result or an error for each change, and whether others had written before it."""

    results: Sequence[object]
    foreign: bool
    seconds: float


class _Locked(Exception):
    """Another process is writing."""


class Writer:
    """Commits what is submitted. `transactions` and `changes` count what was committed since it was opened."""

    def __init__(
        self,
        connection: Connection,
        side: Connection,
        pace: Pace,
        *,
        forget: Callable[[], None],
        foreign: Callable[[], None],
    ) -> None:
        self.transactions = 0
        self.changes = 0
        self._connection = connection
        self._side = side
        self._pace = pace
        self._forget = forget
        self._foreign = foreign
        self._seen = data_version(connection)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._thread = ThreadPoolExecutor(1, "playhead-sqlite-writer")
        self._checkpointer = ThreadPoolExecutor(1, "playhead-sqlite-checkpoint")
        self._in_thread: asyncio.Future[_Outcome] | None = None
        self._checkpoint: asyncio.Future[None] | None = None
        self._average_seconds = 0.0
        self._threaded = 0
        self._frames = 0
        self._tidy = False
        self._closed = False

    def submit(self, change: Change[R]) -> asyncio.Future[R]:
        """Write a change with the next transaction; done when it is on disk."""
        if self._closed:
            raise Unavailable("this store has been closed")
        future: asyncio.Future[R] = self._loop.create_future()
        self._waiting.append(_Waiting(change, future, self._loop.time()))
        if self._scheduled is None and self._in_thread is None:
            self._scheduled = self._loop.call_soon(self._flush)
        return future

    def look(self) -> None:
        """Find out whether another process has written, if no transaction is about to tell."""
        if self._scheduled is None and self._in_thread is None and self._changed_by_others():
            self._forget()
            self._foreign()

    async def close(self) -> None:
        """Write what waits, and end."""
        self._closed = True
        while self._waiting or self._in_thread is not None:
            futures = [waiting.future for waiting in self._waiting]
            await asyncio.wait([*futures, *([self._in_thread] if self._in_thread else [])])
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._thread.shutdown()
        self._checkpointer.shutdown()

    def _flush(self) -> None:
        self._scheduled = None
        batch = self._next()
        if not batch:
            return
        changes = [waiting.change for waiting in batch]
        if self._average_seconds > self._pace.slow_commit_seconds:
            self._in_thread = self._loop.run_in_executor(self._thread, self._transact, changes)
            self._in_thread.add_done_callback(lambda done: self._finished(batch, done))
            return
        try:
            outcome = self._transact(changes)
        except (_Locked, Unavailable) as error:
            self._failed(batch, error)
            return
        self._average_seconds += (outcome.seconds - self._average_seconds) / AVERAGE_TRANSACTIONS
        self._landed(batch, outcome)

    def _finished(self, batch: list[_Waiting], done: asyncio.Future[_Outcome]) -> None:
        self._in_thread = None
        self._threaded += 1
        if self._threaded % THREAD_TRANSACTIONS == 0:
            # A disk that was busy may be idle again. How long a commit takes is not measured here, because in a
            # thread that includes waiting for the interpreter.
            self._average_seconds = 0.0
        error = done.exception()
        if isinstance(error, _Locked | Unavailable):
            self._failed(batch, error)
        else:
            self._landed(batch, done.result())

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < TRANSACTION_CHANGES_MAX and size < TRANSACTION_BYTES_MAX:
            waiting = self._waiting.popleft()
            # Nobody waits for a cancelled change, and it has not been begun: it is as if it had never been.
            if not waiting.future.cancelled():
                batch.append(waiting)
                size += waiting.change.size
        return batch

    def _transact(self, changes: Sequence[Change[object]]) -> _Outcome:
        """Make one transaction. Raises `_Locked` if nothing was tried, `Unavailable` if it is not known to be kept."""
        connection, start = self._connection, time.perf_counter()
        results: list[object] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            if foreign := self._changed_by_others():
                self._forget()
            for change in changes:
                try:
                    results.append(change.apply(connection))
                except PlayheadError as error:
                    results.append(error)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not connection.in_transaction and not results and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise _Locked from error
            self._forget()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise Unavailable(f"the database could not be written: {error}") from error
        seconds = time.perf_counter() - start
        if self._tidy:
            # What was committed during the checkpoint is little. With it moved too, the write-ahead log is begun anew
            # by the next transaction; without, it would grow for as long as there is something to write.
            self._tidy = False
            _checkpoint(connection)
        return _Outcome(results, foreign, seconds)

    def _landed(self, batch: list[_Waiting], outcome: _Outcome) -> None:
        self.transactions += 1
        self.changes += len(batch)
        for waiting, result in zip(batch, outcome.results, strict=True):
            self._frames += 2 + waiting.change.size // PAGE_BYTES
            if isinstance(result, PlayheadError):
                _fail(waiting.future, result)
                continue
            waiting.change.landed()
            if not waiting.future.done():
                waiting.future.set_result(result)
        if outcome.foreign:
            self._foreign()
        if self._frames >= self._pace.checkpoint_frames and self._checkpoint is None and not self._closed:
            self._checkpoint = self._loop.run_in_executor(self._checkpointer, _checkpoint, self._side)
            self._checkpoint.add_done_callback(self._checkpointed)
        self._again(0)

    def _failed(self, batch: list[_Waiting], error: _Locked | Unavailable) -> None:
        if isinstance(error, Unavailable):
            for waiting in batch:
                _fail(waiting.future, error)
            self._again(0)
            return
        deadline = self._loop.time() - LOCK_PATIENCE_SECONDS
        for waiting in batch:
            if waiting.since < deadline:
                _fail(waiting.future, Unavailable("another process keeps the database locked"))
        self._waiting.extendleft(waiting for waiting in reversed(batch) if not waiting.future.done())
        self._again(LOCK_RETRY_SECONDS)

    def _again(self, seconds: float) -> None:
        if self._waiting and self._scheduled is None:
            self._scheduled = (
                self._loop.call_later(seconds, self._flush) if seconds else self._loop.call_soon(self._flush)
            )

    def _changed_by_others(self) -> bool:
        version = data_version(self._connection)
        changed, self._seen = version != self._seen, version
        return changed

    def _checkpointed(self, _done: asyncio.Future[None]) -> None:
        self._checkpoint = None
        self._frames = 0
        self._tidy = True


def _checkpoint(connection: Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        # Nothing is lost: it is all in the write-ahead log, and moved by a later checkpoint.
        _log.warning("could not move the write-ahead log into the database", error=str(error))


def _fail(future: asyncio.Future[Any], error: PlayheadError) -> None:
    if not future.done():
        future.set_exception(error)
