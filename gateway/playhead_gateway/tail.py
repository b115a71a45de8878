"""One open session: what was read of it, who watches it, and how watchers are woken.

Of HTTP it knows one thing: how a body's next bytes are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from playhead.accept import Head
from playhead.codec import Codec
from playhead.errors import PlayheadError
from playhead.ids import Cursor, Seq, SessionId
from playhead.log import Page
from playhead.session import Session, empty

from playhead_gateway.limits import Limits
from playhead_gateway.ring import Ring
from playhead_gateway.states import advance, closes

__all__ = ["Send", "Tail", "Viewer"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # as ASGI defines it


class Viewer:
    """One open stream, as its session's tail and the pulse see it. Times are the event loop's."""

    def __init__(self, send: Send, patience: asyncio.Timeout) -> None:
        self.gone = False
        self._send = send
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._spoke_at = self._loop.time()
        self._writing_since: float | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send bytes on, once there is room for them."""
        self._writing_since = self._loop.time()
        await self._put(data, more=more)
        self._writing_since = None
        self._spoke_at = self._loop.time()

    async def _put(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def wait(self) -> None:
        """Wait until there may be something to say."""
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """Let the viewer look again."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.wake()

    @property
    def now(self) -> float:
        """The time of the event loop, in seconds."""
        return self._loop.time()

    def silent_for(self) -> float:
        """Tell for how many seconds nothing was written."""
        return self._loop.time() - self._spoke_at

    def pulse(self, now: float, limits: Limits) -> None:
        """Wake the viewer if a heartbeat is due, and end its patience if a write has been stuck for too long.

        Checked from outside, some times a heartbeat: a timer for each write would cost more than the write.
        """
        if self._writing_since is not None:
            if now - self._writing_since > limits.send_timeout_seconds:
                self._writing_since = None
                self._patience.reschedule(now)
        elif now - self._spoke_at >= limits.heartbeat_seconds:
            self.wake()


class Tail:
    """One session, followed. `state` is its fold where it was read from its start, else None."""

    def __init__(self, session: SessionId, began_for: Cursor, end: Head, ring: Ring) -> None:
        self.session = session
        self.began_for = began_for
        self.ring = ring
        self.viewers: set[Viewer] = set()
        self.holds = 0
        self.state: Session | None = empty(session) if began_for.seq == 0 else None
        self.closed = False
        self.failure: PlayheadError | None = None
        self.head: Head | None = None
        self._end = end
        self._moved = asyncio.Event()

    @property
    def last_seq(self) -> Seq:
        """The seq of the newest event that this tail knows of."""
        return self._end.seq if self.head is None else max(self._end.seq, self.head.seq)

    @property
    def settled(self) -> bool:
        """Whether everything is here that was in the log when the tail began."""
        return self.head is not None and self.head.seq >= self._end.seq

    def take(self, page: Page, codec: Codec, allowance: int) -> None:
        """Add what was read, and let the viewers know."""
        self.ring.append(page.records)
        self.ring.trim(allowance, newest=len(page.records))
        self.head = page.head
        if self.state is None:
            self.closed = self.closed or any(closes(codec, record) for record in page.records)
        else:
            self.state, _ = advance(codec, self.state, page.records)
            self.closed = self.state.closed
        self.notify()

    def fail(self, failure: PlayheadError) -> None:
        """Nothing more will come from here."""
        self.failure = failure
        self.notify()

    def notify(self) -> None:
        """Wake all who wait for this tail."""
        self._moved.set()
        self._moved.clear()
        for viewer in self.viewers:
            viewer.wake()

    async def moved(self) -> None:
        """Wait until there is news."""
        await self._moved.wait()

    async def reach(self, seq: int) -> None:
        """Wait until the tail is settled and has come to `seq`. Raises what the tail failed with."""
        while self.failure is None and not (self.settled and self.ring.last >= seq):
            await self.moved()
        if self.failure is not None:
            raise self.failure
