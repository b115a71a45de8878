"""What this process knows of one lane: whose each record of an unbroken stretch is.

A process that is the only writer of a lane learns that from its acknowledgements alone; what others wrote in between is
read, once for all sessions. So of any session it can be told whether it has records in the stretch, and an append with
none between its head and itself is in the log by construction.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Ledger"]

SESSIONS_MAX = 4096
"""Of how many sessions of a lane the last record is known; beyond that the stretch begins later."""


class Ledger:
    """Every record from `since` up to `known`: of each session, where the last one ends."""

    def __init__(self, offset: int) -> None:
        self.since = self.known = offset
        self._ends: OrderedDict[bytes, int] = OrderedDict()
        self._lost = range(0)

    def begin(self, offset: int) -> None:
        """Forget everything, and know on from an offset.

        If that was known already, the lane has lost what was there: its broker is alone, and had a power failure.
        """
        if offset < self.known:
            self._lost = range(min(offset, self._lost.start or offset), max(self.known, self._lost.stop))
        self.since = self.known = offset
        self._ends.clear()

    def note(self, key: bytes | None, offset: int, count: int = 1) -> None:
        """Learn whose the next records are."""
        self.known = offset + count
        if key is None:
            return
        self._ends[key] = self.known
        self._ends.move_to_end(key)
        if len(self._ends) > SESSIONS_MAX:
            _, self.since = self._ends.popitem(last=False)

    def skip(self, offset: int) -> None:
        """Learn that there is nothing up to an offset."""
        self.known = max(self.known, offset)

    def is_clear(self, key: bytes, offset: int) -> bool:
        """Tell whether a session is known to have no record from an offset on.

        Of an offset that the lane does not have, or lost once, nothing is known: what was before it may be gone.
        """
        is_lost = self._lost.start < offset <= self._lost.stop
        return not is_lost and self.since <= offset <= self.known and self._ends.get(key, 0) <= offset
