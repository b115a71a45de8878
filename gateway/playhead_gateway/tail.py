"""One open session: what was read of it, who watches it, and how watchers are woken.

Of HTTP it knows one thing: how a body's next bytes are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from playhead.accept import Head
from playhead.codec import Codec
from playhead.errors import PlayheadError
from playhead.ids import Cursor, Seq, SessionId
from playhead.log import Page
from playhead.session import Session, empty

from playhead_gateway.limits import Limits
from playhead_gateway.ring import Ring
from playhead_gateway.states import advance, closes

__all__ = ["DIRECT", "Direct", "Send", "Tail", "Viewer"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]  # as ASGI defines it

DIRECT = "playhead.direct"
"""The name in the scope's `extensions` of a connection that can be written to directly."""


class Direct(Protocol):
    """A way to send the next bytes of a body without waiting."""

    @property
    def has_room(self) -> bool:
        """Whether that can be done now."""
        ...

    def write_part(self, data: bytes) -> None:
        """Send at least a byte, where there is room."""
        ...


class Viewer:
    """One open stream, as its session's tail and the pulse see it. Times are the event loop's."""

    def __init__(self, send: Send, patience: asyncio.Timeout, direct: Direct | None = None) -> None:
        self.gone = False
        self._send = send
        self._direct = direct
        self._tell: Callable[[], bool] | None = None
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

    @property
    def has_room(self) -> bool:
        """Whether bytes can be put now."""
        return self._direct is not None and self._direct.has_room

    def put(self, data: bytes) -> None:
        """Send bytes on at once, where there is room for them."""
        assert self._direct is not None
        self._direct.write_part(data)
        self._spoke_at = self._loop.time()

    async def wait(self, tell: Callable[[], bool] | None = None) -> None:
        """Wait until there may be something to say that `tell`, called at once, did not say. It never waits itself."""
        self._waiting, self._tell = self._loop.create_future(), tell
        try:
            await self._waiting
        finally:
            self._waiting = self._tell = None

    def wake(self) -> None:
        """Let the viewer look again. Where it can be told at once its task sleeps on: waking it costs as much again."""
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        try:
            if self._tell is not None and self._tell():
                return
        except Exception as fault:  # noqa: BLE001 - this viewer's own, raised where it waits; the others are told on
            waiting.set_exception(fault)
        else:
            waiting.set_result(None)

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
