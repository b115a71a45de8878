"""Between the one who fetches and one who follows: a bounded hand-over that never makes the fetcher wait.

It knows chunks of stored records, and neither nodes nor what the records mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from playhead.adapters.kafka.wire import Place, Stored

__all__ = ["Chunk", "Sink"]

SINK_BYTES_MAX = 4 * 1024 * 1024
"""About how much one follower may leave unread before it has to read for itself."""

RECORD_OVERHEAD_BYTES = 100


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in order, whole batches, and the offset after them."""

    place: Place
    records: list[Stored]
    after: int


class Sink:
    """Where one follower gets what arrives, from any number of partitions. Bounded."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[Chunk, int]] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self.overrun = False

    def put(self, chunk: Chunk) -> None:
        """Hand over what arrived; a follower too far behind gets nothing but the word that it is."""
        if self.overrun:
            return
        size = sum(len(record.value) + RECORD_OVERHEAD_BYTES for record in chunk.records)
        self._bytes += size
        self._chunks.append((chunk, size))
        if self._bytes > SINK_BYTES_MAX:
            self.overtake()
        self._wake()

    def overtake(self) -> None:
        """Tell the follower to read for itself."""
        self.overrun = True
        self._chunks.clear()
        self._wake()

    def fail(self, error: Exception) -> None:
        """Say that nothing more will come, after what is there."""
        self._failure = error
        self._wake()

    def reset(self) -> None:
        """Begin again, with nothing in it."""
        self._chunks.clear()
        self._bytes = 0
        self.overrun = False

    async def take(self) -> Chunk | None:
        """Wait for the next chunk; None says to read for yourself. Raises what the sink failed with."""
        while not self._chunks:
            if self.overrun:
                return None
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk, size = self._chunks.popleft()
        self._bytes -= size
        return chunk

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
