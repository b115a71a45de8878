"""A session's events as one HTTP response that does not end: a small ASGI response of our own.

It writes bytes that are already joined, as many frames at a time as there are. Why not a library:
`docs/decisions/0005-own-sse-response.md`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import cast

from playhead.telemetry import Telemetry, logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from playhead_gateway.dialect import Dialect
from playhead_gateway.fanout import Fanout, Opening
from playhead_gateway.limits import Limits
from playhead_gateway.pace import Pace
from playhead_gateway.tail import Viewer
from playhead_gateway.walk import Dropped, walking

__all__ = ["ABORT", "EventStream", "StreamOptions", "retry_ms"]

ABORT = "playhead.abort"
"""The name in the scope's `extensions` of a function that drops the connection with what it still has to write."""

DISCONNECT_SECONDS = 1.0
"""How long a dropped connection may take to be gone."""

_log = logger("playhead.gateway")


def retry_ms(limits: Limits) -> int:
    """Choose when a client that is sent away should come back: not all at once."""
    return limits.retry_ms + random.randint(0, limits.retry_jitter_ms)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is held, beside what it says.

    `pace`: say each event when its recorded time has come. `on_left` is awaited if the client leaves before the end.
    `expires_at` is the time of the event loop until which the client may watch.
    """

    protocol: str = "sse"
    pace: Pace | None = None
    on_left: Callable[[], Awaitable[None]] | None = None
    expires_at: float = inf


DEFAULT = StreamOptions()


class EventStream(Response):
    """Streams a session from a viewer's place on, in a dialect."""

    def __init__(
        self, fanout: Fanout, opening: Opening, dialect: Dialect, telemetry: Telemetry, options: StreamOptions = DEFAULT
    ) -> None:
        super().__init__(status_code=200, headers=dialect.headers)
        self._fanout = fanout
        self._limits = fanout.limits
        self._opening = opening
        self._tail = opening.tail
        self._dialect = dialect
        self._telemetry = telemetry
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        clients = self._telemetry.stream_clients.labels(self._options.protocol)
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
        if viewer.gone and self._options.on_left is not None:
            await self._options.on_left()

    async def _speak(self, viewer: Viewer) -> None:
        """Say everything, until there is nothing more to say or nobody to say it to."""
        dialect, pace = self._dialect, self._options.pace
        async with walking(self._fanout, self._opening, is_patient=pace is not None) as walk:
            await self._put(viewer, dialect.opening())
            while not (viewer.gone or dialect.done):
                if viewer.now >= self._options.expires_at:
                    raise Dropped("expired")
                frames = await walk.next()
                if frames is None:
                    await viewer.write(dialect.ending(self._tail.last_seq), more=False)
                    return
                if not frames:
                    await self._wait(viewer)
                elif pace is None:
                    await self._put(viewer, dialect.say(frames))
                else:
                    await self._say_paced(viewer, pace, frames)
                if walk.has_more:
                    # A reader that takes everything at once would else keep the event loop for the whole ring.
                    await asyncio.sleep(0)

    async def _put(self, viewer: Viewer, said: bytes) -> None:
        if said or self._dialect.done:
            await viewer.write(said, more=not self._dialect.done)
        else:
            await self._keep_alive(viewer)

    async def _say_paced(self, viewer: Viewer, pace: Pace, frames: Sequence[bytes]) -> None:
        """Say frames one by one, each when its time has come."""
        for frame in frames:
            while (wait := pace.wait(frame, viewer.now)) > 0 and not (viewer.gone or self._fanout.draining):
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await viewer.wait()
                await self._keep_alive(viewer)
            if viewer.gone or self._dialect.done:
                return
            if self._fanout.draining:
                raise Dropped("draining")
            await self._put(viewer, self._dialect.say((frame,)))

    async def _wait(self, viewer: Viewer) -> None:
        await viewer.wait()
        await self._keep_alive(viewer)

    async def _keep_alive(self, viewer: Viewer) -> None:
        if self._dialect.heartbeat and viewer.silent_for() >= self._limits.heartbeat_seconds:
            await viewer.write(self._dialect.heartbeat)

    async def _send_away(self, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
        if reason != "slow":
            last = b"" if reason in ("behind", "conflict") else self._dialect.farewell(reason)
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
