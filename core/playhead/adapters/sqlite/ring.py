"""The last items of one sequence, kept so that a reader who is up to date never touches the disk.

A ring knows where its sequence ends, unless another process has written since: then it says that it must be looked up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["Ring"]

RING_ITEMS_MAX = 512
"""The most items that a ring keeps."""

RING_BYTES_MAX = 1 << 20
"""The most bytes of items that a ring keeps."""

T = TypeVar("T")


class Ring(Generic[T]):
    """Items by position. Covers the positions from `first` up to, not including, `past`."""

    def __init__(self) -> None:
        self.doubts = 0
        self._end: int | None = None
        self._first = 0
        self._past = 0
        self._positions: list[int] = []
        self._items: list[T] = []
        self._sizes: list[int] = []
        self._bytes = 0

    def push(self, position: int, item: T, size: int) -> None:
        """Take the item at a position: the newest there is."""
        if position != self._past or not self._items:
            self._clear(position)
        self._positions.append(position)
        self._items.append(item)
        self._sizes.append(size)
        self._bytes += size
        self._past = position + 1
        if self._end is not None:
            self._end = self._past
        # Cut in halves, so that each item is moved once, not each time.
        if len(self._items) > RING_ITEMS_MAX or self._bytes > RING_BYTES_MAX:
            self._cut(len(self._items) // 2 or 1)

    def since(self, position: int) -> Sequence[T] | None:
        """Give the items from a position on; None means that they must be looked up."""
        if self._end is None:
            return None
        if position >= self._end:
            return ()
        if not self._items or position < self._first:
            return None
        return self._items[bisect_left(self._positions, position) :]

    def know(self, end: int, doubts: int) -> None:
        """Learn where the sequence ended when it was looked up, unless it was put in doubt since `doubts` was read."""
        if doubts == self.doubts:
            self._end = max(end, self._past)

    def doubt(self) -> None:
        """Somebody else may have written: what is kept still holds, where the end is does not."""
        self.doubts += 1
        self._end = None

    def _clear(self, position: int) -> None:
        self._first = position
        self._positions.clear()
        self._items.clear()
        self._sizes.clear()
        self._bytes = 0

    def _cut(self, count: int) -> None:
        self._bytes -= sum(self._sizes[:count])
        for kept in (self._positions, self._items, self._sizes):
            del kept[:count]
        self._first = self._positions[0] if self._positions else self._past
