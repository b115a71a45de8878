"""A session's events as one HTTP response that does not end: a small ASGI response of our own.

It writes bytes that are already joined, as many frames at a time as there are. Why not a library:
`docs/decisions/0005-own-sse-response.md`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import cast

from playhead.errors import CursorConflict, CursorExpired, PlayheadError
from playhead.ids import Cursor, Seq, SessionId
from playhead.log import Page
from playhead.telemetry import Telemetry, logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from playhead_gateway.fanout import Fanout, Opening
from playhead_gateway.limits import Limits
from playhead_gateway.projections.sse import HEARTBEAT, control_frame
from playhead_gateway.tail import Viewer

__all__ = ["ABORT", "STREAM_HEADERS", "EventStream", "farewell", "retry_ms"]

ABORT = "playhead.abort"
"""The name in the scope's `extensions` of a function that drops the connection with what it still has to write."""

DISCONNECT_SECONDS = 1.0
"""How long a dropped connection may take to be gone."""

STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}

_log = logger("playhead.gateway")


class Dropped(Exception):
    """The gateway ends a stream early. `reason` is slow, behind, conflict, draining or unavailable."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def retry_ms(limits: Limits) -> int:
    """Choose when a client that is sent away should come back: not all at once."""
    return limits.retry_ms + random.randint(0, limits.retry_jitter_ms)


def farewell(session: SessionId, reason: str, limits: Limits) -> bytes:
    """Say goodbye for now. Its `retry` is within an event: stock clients stumble over one that stands alone."""
    return control_frame("draining", session, retry_ms=retry_ms(limits), reason=reason)


class EventStream(Response):
    """Streams a session from a viewer's place on: `first` (the `ready` frame), what the log has, then what comes."""

    def __init__(
        self, fanout: Fanout, opening: Opening, first: bytes, wanted: tuple[bytes, ...], telemetry: Telemetry
    ) -> None:
        super().__init__(status_code=200, headers=STREAM_HEADERS)
        self._fanout = fanout
        self._limits = fanout.limits
        self._tail = opening.tail
        self._page = opening.first_page
        self._cursor = opening.cursor
        self._first = first
        self._wanted = wanted
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        clients = self._telemetry.stream_clients.labels("sse")
        clients.inc()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._serve(receive, send)
        except Dropped as dropped:
            self._telemetry.stream_dropped.labels(dropped.reason).inc()
            _log.info("stream dropped", session=self._tail.session, reason=dropped.reason)
            await self._send_away(dropped.reason, scope, receive, send)
        finally:
            clients.dec()

    async def _serve(self, receive: Receive, send: Send) -> None:
        async def watch(viewer: Viewer) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            viewer.leave()

        try:
            async with asyncio.timeout(None) as patience:
                viewer = Viewer(send, patience)
                with self._fanout.attach(self._tail, viewer):
                    async with asyncio.TaskGroup() as group:
                        watching = group.create_task(watch(viewer))
                        await self._speak(viewer)
                        watching.cancel()
        except TimeoutError:
            raise Dropped("slow") from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _speak(self, viewer: Viewer) -> None:
        """Say everything, until there is nothing more to say or nobody to say it to."""
        tail, live = self._tail, False
        await viewer.write(self._first)
        while not viewer.gone:
            if self._fanout.draining:
                raise Dropped("draining")
            if self._cursor.seq > tail.ring.last:
                await self._wait_for_tail(viewer)
                continue
            if not tail.ring.covers(self._cursor.seq):
                if live:
                    raise Dropped("behind")
                await self._catch_up(viewer)
                continue
            if self._cursor.tag is not None and tail.ring.tag(self._cursor.seq) not in (None, self._cursor.tag):
                raise Dropped("conflict")
            frames, seq = tail.ring.take(self._cursor.seq, self._limits.chunk_bytes_max)
            if frames:
                self._cursor = Cursor(Seq(seq))
                await self._say(viewer, frames)
                continue
            live = True
            if tail.closed:
                await viewer.write(control_frame("end", tail.session, last_seq=seq), more=False)
                return
            await self._wait_for_tail(viewer)

    async def _wait_for_tail(self, viewer: Viewer) -> None:
        """Wait until the tail has more than we have said. Our own read of the log may have got further than it has."""
        if self._tail.failure is not None:
            raise Dropped("unavailable")
        await viewer.wait()
        await self._keep_alive(viewer)

    async def _say(self, viewer: Viewer, frames: Sequence[bytes]) -> None:
        said = b"".join([frame for frame in frames if frame.startswith(self._wanted)] if self._wanted else frames)
        if said:
            await viewer.write(said)
        else:
            await self._keep_alive(viewer)
        if self._cursor.seq < self._tail.ring.last:
            # A reader that takes everything at once would else keep the event loop to itself for the whole ring.
            await asyncio.sleep(0)

    async def _keep_alive(self, viewer: Viewer) -> None:
        if viewer.silent_for() >= self._limits.heartbeat_seconds:
            await viewer.write(HEARTBEAT)

    async def _catch_up(self, viewer: Viewer) -> None:
        """Read the log ourselves until we meet the ring, or the log's end as it is now."""
        page, self._page = self._page, None
        try:
            if page is not None:
                await self._say_page(viewer, page)
            if self._apart(viewer):
                async with aclosing(self._fanout.log.read(self._tail.session, self._cursor)) as pages:
                    async for page in pages:
                        await self._say_page(viewer, page)
                        if not self._apart(viewer):
                            break
        except (CursorConflict, CursorExpired):
            raise Dropped("conflict") from None
        except PlayheadError as error:
            _log.warning("a viewer could not catch up", session=self._tail.session, error=str(error))
            raise Dropped("unavailable") from None

    def _apart(self, viewer: Viewer) -> bool:
        return not (viewer.gone or self._fanout.draining or self._tail.ring.covers(self._cursor.seq))

    async def _say_page(self, viewer: Viewer, page: Page) -> None:
        """Say a page in writes of bounded size. It may go beyond the ring's first event: the ring goes on after it."""
        frames: list[bytes] = []
        size = 0
        for record in page.records:
            frame = self._fanout.frame(record)
            frames.append(frame)
            size += len(frame)
            if size >= self._limits.chunk_bytes_max:
                await self._say(viewer, frames)
                frames, size = [], 0
        self._cursor = page.head.cursor
        await self._say(viewer, frames)

    async def _send_away(self, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
        if reason != "slow":
            last = b"" if reason in ("behind", "conflict") else farewell(self._tail.session, reason, self._limits)
            try:
                async with asyncio.timeout(self._limits.send_timeout_seconds):
                    await send({"type": "http.response.body", "body": last, "more_body": False})
                return
            except TimeoutError:
                pass  # it does not even take its last words
        abort = cast("Callable[[], None] | None", scope.get("extensions", {}).get(ABORT))
        if abort is not None:
            # Closing in order would wait until the client has read what is buffered: for ever, with this one.
            abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(DISCONNECT_SECONDS):
                    while (await receive())["type"] != "http.disconnect":
                        pass
