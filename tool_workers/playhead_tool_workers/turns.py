"""One at a time for each key, in the order in which the calls came. For a worker's event loop; it knows no calls.

A call joins when it is taken from the queue, which never waits, and waits for its turn later. Whoever joined must
leave, whatever happens to it. Of a key for which nobody is in line nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["Ticket", "Turns"]


class Turns:
    """The lines, one for each key that somebody waits for or has."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[Ticket, None]] = {}

    def __len__(self) -> int:
        """Count the keys that have a line."""
        return len(self._lines)

    def join(self, key: str) -> Ticket:
        """Stand in line for a key, behind all who are there."""
        line = self._lines.setdefault(key, OrderedDict())
        ticket = Ticket(self, key)
        line[ticket] = None
        self._call_first(line)
        return ticket

    @asynccontextmanager
    async def taken(self, key: str) -> AsyncGenerator[None, None]:
        """Join now, wait, and have the turn until the end of the block."""
        ticket = self.join(key)
        try:
            await ticket.wait()
            yield
        finally:
            ticket.leave()

    def leave(self, ticket: Ticket) -> None:
        """Let a ticket go; who is first then has the turn."""
        line = self._lines.get(ticket.key)
        if line is None or ticket not in line:
            return
        del line[ticket]
        if line:
            self._call_first(line)
        else:
            del self._lines[ticket.key]

    def _call_first(self, line: OrderedDict[Ticket, None]) -> None:
        next(iter(line)).called.set()


class Ticket:
    """A place in the line of `key`."""

    def __init__(self, turns: Turns, key: str) -> None:
        self.key = key
        self.called = asyncio.Event()
        """Set once it has its turn, or has left."""
        self._turns = turns
        self._left = False

    async def wait(self) -> None:
        """Wait for the turn. Cancelled, it is still in line. Raises `RuntimeError` if it leaves meanwhile, or has."""
        await self.called.wait()
        if self._left:
            raise RuntimeError(f"a ticket for {self.key!r} that has left gets no turn")

    def leave(self) -> None:
        """Give the turn, or the place in line, to the next. A second time it does nothing."""
        self._left = True
        self.called.set()
        self._turns.leave(self)
