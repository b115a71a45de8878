"""Reading the file off the event loop: one thread with one connection, and nothing of what is read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from playhead.adapters.sqlite.database import Connection
from playhead.errors import Unavailable

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """Runs functions that read, one after the other. `reads` counts them."""

    def __init__(self, connection: Connection) -> None:
        self.reads = 0
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "playhead-sqlite-reader")
        self._closed = False

    async def read(self, look: Callable[[Connection], T]) -> T:
        """Run a function that reads, in one snapshot. Raises what it raises, and `Unavailable`."""
        if self._closed:
            raise Unavailable("this store has been closed")
        self.reads += 1
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_snapshot, look)

    def close(self) -> None:
        """Wait for what is being read, and end."""
        self._closed = True
        self._thread.shutdown()

    def _in_snapshot(self, look: Callable[[Connection], T]) -> T:
        try:
            self._connection.execute("BEGIN")
            try:
                return look(self._connection)
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable(f"the database could not be read: {error}") from error
