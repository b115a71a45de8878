"""Open sessions: one read of the log for all the viewers of a session, one encoding of each frame.

A tail follows one session's log into a ring. A viewer holds a position and nothing else; it takes what is new since
then as often as it can write. Who starts behind the ring reads the log itself until it meets the ring.

It knows sessions, positions and viewers. It does not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from playhead.accept import Record
from playhead.codec import Codec
from playhead.errors import CursorConflict, CursorExpired, PlayheadError, Unavailable
from playhead.ids import BEGINNING, Cursor, Seq, SessionId
from playhead.log import Page, SessionLog
from playhead.telemetry import logger

from playhead_gateway.limits import Limits
from playhead_gateway.ring import Ring, Total
from playhead_gateway.seats import Full, Names, Seats
from playhead_gateway.tail import Tail, Viewer

__all__ = ["Fanout", "Opening", "SentAway"]

OPEN_TRIES_MAX = 5
PULSES_PER_HEARTBEAT = 10

_log = logger("playhead.gateway")


class SentAway(PlayheadError):
    """No stream now, but soon, perhaps elsewhere: `reason` is draining or overloaded."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the gateway is {reason}")


@dataclass(frozen=True, slots=True)
class Opening:
    """A viewer's place at a tail: it has seen everything up to `cursor`.

    `first_page` is what comes next for a viewer that starts behind the ring: read before anything is answered, since
    that is how the log says whether the cursor is on it.
    """

    tail: Tail
    cursor: Cursor
    first_page: Page | None

    @property
    def nothing_left(self) -> bool:
        """Whether the session has ended and the viewer has seen it all."""
        return self.tail.closed and self.first_page is None and self.cursor.seq == self.tail.last_seq


class Fanout:
    """All open sessions of a gateway. Use as a context manager: it owns the tasks that follow the logs."""

    def __init__(self, log: SessionLog, codec: Codec, frame: Callable[[Record], bytes], limits: Limits) -> None:
        self.log = log
        self.limits = limits
        self.frame = frame
        self.draining = False
        self.codec = codec
        self._tails: dict[SessionId, Tail] = {}
        self._tasks: dict[Tail, asyncio.Task[None]] = {}
        self._lingering: dict[Tail, asyncio.TimerHandle] = {}
        self._in_rings = Total()
        self._seats = Seats(limits.viewers_max)
        self._group = asyncio.TaskGroup()
        self._pulse: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._pulse = self._group.create_task(self._keep_pulse(), name="viewers' pulse")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        for handle in self._lingering.values():
            handle.cancel()
        for task in (self._pulse, *self._tasks.values()):
            if task is not None:
                task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def drain(self) -> None:
        """Send every viewer away, and open nothing any more."""
        self.draining = True
        for tail in self._tails.values():
            tail.notify()

    def known(self, session: SessionId) -> Tail | None:
        """Give a session's tail if it is open, read to where the log ended then, and has the session's state."""
        tail = self._tails.get(session)
        if tail is None or tail.failure is not None or tail.state is None or not tail.settled:
            return None
        return tail

    async def open(self, session: SessionId, cursor: Cursor) -> Opening:
        """Find a viewer its place. It has a seat only once it is attached.

        Raises `UnknownSession`, `CursorConflict`, `CursorExpired`, `Unavailable`, `SentAway`.
        """
        for _ in range(OPEN_TRIES_MAX):
            if self.draining or self._seats.taken >= self.limits.viewers_max:
                raise SentAway("draining" if self.draining else "overloaded")
            tail = self._tails.get(session) or await self._begin(session, cursor)
            with self._held(tail):
                try:
                    await tail.reach(0)
                except CursorExpired:
                    if tail.began_for == cursor:
                        raise
                    continue  # it was another viewer's cursor that the tail began at
                return await self._place(tail, cursor)
        raise Unavailable(f"{session} could not be opened")

    @contextmanager
    def attach(self, viewer: Viewer, tails: Sequence[Tail], names: Names = ()) -> Generator[None, None, None]:
        """Give a viewer its seat while its stream is open. Raises `SentAway`."""
        with self._seat(names):
            try:
                with ExitStack() as held:
                    for tail in tails:
                        held.enter_context(self._held(tail))
                        tail.viewers.add(viewer)
                    yield
            finally:
                for tail in tails:
                    tail.viewers.discard(viewer)

    async def beyond(self, session: SessionId, cursor: Cursor) -> bool:
        """Wait until there is something after a cursor (True), or nothing will come from here. Raises as `open`."""
        opening = await self.open(session, cursor)
        tail = opening.tail
        with self._seat(()), self._held(tail):
            while tail.last_seq <= cursor.seq and not (tail.closed or tail.failure or self.draining):
                await tail.moved()
        return tail.last_seq > cursor.seq

    @contextmanager
    def _seat(self, names: Names) -> Generator[None, None, None]:
        with ExitStack() as seated:
            try:
                seated.enter_context(self._seats.seat(names))
            except Full:
                raise SentAway("overloaded") from None
            yield

    @contextmanager
    def _held(self, tail: Tail) -> Generator[None, None, None]:
        """Keep a tail open. When nobody holds it any more it is closed after a while."""
        tail.holds += 1
        self._stay(tail)
        try:
            yield
        finally:
            tail.holds -= 1
            if not tail.holds and tail in self._tasks:
                loop = asyncio.get_running_loop()
                self._lingering[tail] = loop.call_later(self.limits.linger_seconds, self._retire, tail)

    async def _begin(self, session: SessionId, cursor: Cursor) -> Tail:
        end = await self.log.end(session)
        if cursor.seq > end.seq:
            raise CursorConflict(str(cursor), end.seq)
        if session in self._tails:
            return self._tails[session]
        if len(self._tails) >= self.limits.sessions_open_max:
            self._retire_one()
        # One event earlier than asked: the cursor's own event shows its tag, and whether it closed the session.
        start = Cursor(Seq(cursor.seq - 1)) if cursor.seq else BEGINNING
        tail = Tail(session, cursor, end, Ring(start.seq, self.frame, self._in_rings))
        self._tails[session] = tail
        self._tasks[tail] = self._group.create_task(self._follow(tail, start), name=f"tail of {session}")
        return tail

    async def _place(self, tail: Tail, cursor: Cursor) -> Opening:
        ring = tail.ring
        if cursor.seq > ring.last:
            # Another replica may be ahead of this one: only the log itself can say that the cursor is wrong.
            end = await self.log.end(tail.session)
            if cursor.seq > end.seq:
                raise CursorConflict(str(cursor), end.seq)
            try:
                async with asyncio.timeout(self.limits.settle_seconds):
                    await tail.reach(cursor.seq)
            except TimeoutError:
                raise Unavailable(f"the log of {tail.session} does not come to seq {cursor.seq}") from None
        if not ring.covers(cursor.seq):
            return Opening(tail, cursor, await self._first_page(tail.session, cursor))
        tag = ring.tag(cursor.seq)
        if cursor.tag is not None and tag is not None and cursor.tag != tag:
            raise CursorConflict(str(cursor), tail.last_seq)
        return Opening(tail, cursor, None)

    async def _first_page(self, session: SessionId, cursor: Cursor) -> Page:
        async with aclosing(self.log.read(session, cursor)) as pages:
            async for page in pages:
                return page
        raise Unavailable(f"the log of {session} gave no page")

    async def _follow(self, tail: Tail, start: Cursor) -> None:
        try:
            try:
                await self._read(tail, start)
            except CursorExpired as expired:
                await self._follow_later(tail, expired)
        except PlayheadError as failure:
            self._give_up(tail, failure)
        except Exception as error:  # noqa: BLE001 - a supervisor: one session's fault must not take the others along
            _log.exception("a session's tail failed", session=tail.session)
            self._give_up(tail, Unavailable(f"{type(error).__name__} while reading the log"))

    async def _follow_later(self, tail: Tail, expired: CursorExpired) -> None:
        """Begin at the cursor itself: the event that it names may be gone while all that follow are there."""
        cursor = tail.began_for
        if tail.head is not None or cursor.seq == 0 or expired.first_seq > cursor.seq + 1:
            self._give_up(tail, CursorExpired(str(cursor), expired.first_seq))
            return
        tail.ring = Ring(cursor.seq, self.frame, self._in_rings)
        await self._read(tail, cursor)

    async def _read(self, tail: Tail, start: Cursor) -> None:
        async with aclosing(self.log.read(tail.session, start, follow=True)) as pages:
            async for page in pages:
                tail.take(page, self.codec, self._make_room(tail))
                if tail.closed and tail.settled:
                    return

    def _give_up(self, tail: Tail, failure: PlayheadError) -> None:
        self._forget(tail)
        tail.fail(failure)

    def _make_room(self, tail: Tail) -> int:
        """Give what a tail's ring may hold. Once all hold too much together it is a share, to which the others are cut.

        Most sessions are small, or stay only for a client that may come back: they leave theirs to those that need it.
        """
        if self._in_rings.held <= self.limits.rings_bytes_max:
            return self.limits.ring_bytes_max
        share = min(self.limits.ring_bytes_max, self.limits.rings_bytes_max // max(1, len(self._tails)))
        for other in self._tails.values():
            if other is not tail:
                other.ring.trim(share)
        return share

    def _stay(self, tail: Tail) -> None:
        handle = self._lingering.pop(tail, None)
        if handle is not None:
            handle.cancel()

    def _retire_one(self) -> None:
        idle = next((tail for tail in self._tails.values() if not tail.holds), None)
        if idle is None:
            raise SentAway("overloaded")
        self._retire(idle)

    def _retire(self, tail: Tail) -> None:
        task = self._tasks.get(tail)
        self._give_up(tail, Unavailable(f"{tail.session} was closed for want of viewers"))
        if task is not None:
            task.cancel()

    def _forget(self, tail: Tail) -> None:
        self._stay(tail)
        self._tasks.pop(tail, None)
        tail.ring.leave()
        if self._tails.get(tail.session) is tail:
            del self._tails[tail.session]

    async def _keep_pulse(self) -> None:
        while True:
            await asyncio.sleep(self.limits.heartbeat_seconds / PULSES_PER_HEARTBEAT)
            now = asyncio.get_running_loop().time()
            for tail in tuple(self._tails.values()):
                for viewer in tuple(tail.viewers):
                    viewer.pulse(now, self.limits)
