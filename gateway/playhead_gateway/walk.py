"""A client's walk along one session: what the log has after its cursor, then what comes, without a seam.

Who walks asks for what is next as often as it can use it. What is near the end comes from the session's ring, which
all who watch it share; who is further back reads the log for itself until it meets the ring.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from playhead.errors import CursorConflict, CursorExpired, PlayheadError
from playhead.ids import Cursor
from playhead.log import Page
from playhead.telemetry import logger

from playhead_gateway.fanout import Fanout, Opening
from playhead_gateway.tail import Tail

__all__ = ["Dropped", "Walk", "walking"]

EMPTY_PAGES_MAX = 4
"""How many pages without a record are passed over at once."""

_log = logger("playhead.gateway")


class Dropped(Exception):
    """The gateway ends a stream early. `reason` is slow, behind, conflict, draining, expired or unavailable."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Walk:
    """A place in one session's log, and the way on from it. Close it when it is not walked to the end."""

    def __init__(self, fanout: Fanout, opening: Opening, *, is_patient: bool = False) -> None:
        """`is_patient`: whoever walks may be slower than the session, and reads the log again when it falls behind."""
        self.tail: Tail = opening.tail
        self.cursor: Cursor = opening.cursor
        """Everything up to here was given; a little more may have been, while a page of the log is handed out."""
        self._fanout = fanout
        self._chunk_bytes = fanout.limits.chunk_bytes_max
        self._is_patient = is_patient
        self._live = False
        self._page = opening.first_page
        self._page_end = opening.cursor
        self._unsaid: Sequence[bytes] = ()
        self._pages: AsyncGenerator[Page, None] | None = None

    @property
    def has_more(self) -> bool:
        """Whether something can be had without waiting."""
        return bool(self._unsaid) or self.cursor.seq < self.tail.ring.last

    async def next(self) -> Sequence[bytes] | None:
        """Give the frames that follow, a bounded number: none when there are none now, None after the last of all.

        Raises `Dropped`.
        """
        if self._fanout.draining:
            raise Dropped("draining")
        tail, cursor = self.tail, self.cursor
        if self._unsaid or self._page is not None or self._is_apart:
            frames = await self._from_pages()
            if frames or self._is_apart:
                return frames
            cursor = self.cursor
        if cursor.seq > tail.ring.last:
            # Our own read of the log got further than the tail has come.
            if tail.failure is not None:
                raise Dropped("unavailable")
            return ()
        if cursor.tag is not None and tail.ring.tag(cursor.seq) not in (None, cursor.tag):
            raise Dropped("conflict")
        if frames := self._from_ring():
            return frames
        self._live = True
        if tail.closed:
            return None
        if tail.failure is not None:
            raise Dropped("unavailable")
        return ()

    def arrived(self) -> Sequence[bytes]:
        """Give the frames that have just come, if they are all that is to be seen to: else `next` has to be asked."""
        cursor, ring = self.cursor, self.tail.ring
        is_next = not self._unsaid and self._page is None and ring.first <= cursor.seq + 1 <= ring.last
        if not is_next or self._fanout.draining or (cursor.tag is not None and ring.tag(cursor.seq) != cursor.tag):
            return ()
        return self._from_ring()

    async def aclose(self) -> None:
        """Let go of the log."""
        pages, self._pages = self._pages, None
        if pages is not None:
            await pages.aclose()

    @property
    def _is_apart(self) -> bool:
        """Whether the ring begins only after what comes next."""
        return self.cursor.seq < self.tail.ring.first - 1

    def _from_ring(self) -> Sequence[bytes]:
        frames, last = self.tail.ring.take(self.cursor.seq, self._chunk_bytes)
        if frames:
            self.cursor = last
        return frames

    async def _from_pages(self) -> Sequence[bytes]:
        frames = await self._from_log()
        for _ in range(EMPTY_PAGES_MAX):
            if frames or not self._is_apart:
                break
            frames = await self._from_log()  # a page may have nothing of this session, and more may follow
        return frames

    async def _from_log(self) -> Sequence[bytes]:
        if not self._unsaid:
            page, self._page = self._page or await self._read(), None
            self._unsaid = [self._fanout.frame(record) for record in page.records]
            self._page_end = page.head.cursor
        count = _count_within(self._unsaid, self._chunk_bytes)
        frames, self._unsaid = self._unsaid[:count], self._unsaid[count:]
        if not self._unsaid:
            # A page may go beyond the ring's first event: the ring goes on after it.
            self.cursor = self._page_end
            if not self._is_apart:
                await self.aclose()
        return frames

    async def _read(self) -> Page:
        if self._live and not self._is_patient:
            raise Dropped("behind")
        try:
            while True:
                if self._pages is None:
                    self._pages = self._fanout.log.read(self.tail.session, self.cursor)
                async for page in self._pages:
                    return page
                self._pages = None
        except (CursorConflict, CursorExpired):
            raise Dropped("conflict") from None
        except PlayheadError as error:
            _log.warning("a viewer could not catch up", session=self.tail.session, error=str(error))
            raise Dropped("unavailable") from None


def walking(fanout: Fanout, opening: Opening, *, is_patient: bool = False) -> aclosing[Walk]:
    """Walk for the length of a `with`."""
    return aclosing(Walk(fanout, opening, is_patient=is_patient))


def _count_within(frames: Sequence[bytes], bytes_max: int) -> int:
    """Count the first frames until so many bytes are reached."""
    size = 0
    for place, frame in enumerate(frames, 1):
        size += len(frame)
        if size >= bytes_max:
            return place
    return len(frames)
