"""A speech as one HTTP response that does not end: a small ASGI response of our own.

It writes bytes that are already joined, as many frames at a time as there are. Why not a library:
`docs/decisions/0005-own-sse-response.md`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from playhead.telemetry import Telemetry, logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from playhead_gateway.fanout import Fanout, SentAway
from playhead_gateway.limits import Limits
from playhead_gateway.speech import Speech
from playhead_gateway.tail import DIRECT, Direct, Viewer
from playhead_gateway.walk import Dropped

__all__ = ["ABORT", "EventStream", "retry_ms"]

ABORT = "playhead.abort"
"""The name in the scope's `extensions` of a function that drops the connection with what it still has to write."""

DISCONNECT_SECONDS = 1.0
"""How long a dropped connection may take to be gone."""

_log = logger("playhead.gateway")


def retry_ms(limits: Limits) -> int:
    """Choose when a client that is sent away should come back: not all at once."""
    return limits.retry_ms + random.randint(0, limits.retry_jitter_ms)


class EventStream(Response):
    """Holds a speech over HTTP. `on_left` is awaited if the client leaves before its end."""

    def __init__(
        self,
        fanout: Fanout,
        speech: Speech,
        telemetry: Telemetry,
        *,
        on_left: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(status_code=200, headers=speech.headers)
        self._fanout = fanout
        self._limits = fanout.limits
        self._speech = speech
        self._telemetry = telemetry
        self._on_left = on_left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        clients = self._telemetry.stream_clients.labels(self._speech.protocol)
        clients.inc()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            direct = cast("Direct | None", scope.get("extensions", {}).get(DIRECT))
            await self._serve(receive, send, direct)
        except (Dropped, SentAway) as dropped:
            self._telemetry.stream_dropped.labels(dropped.reason).inc()
            _log.info("stream dropped", sessions=self._speech.sessions, reason=dropped.reason)
            await self._send_away(dropped.reason, scope, receive, send)
        finally:
            clients.dec()

    async def _serve(self, receive: Receive, send: Send, direct: Direct | None) -> None:
        async def watch(viewer: Viewer) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            viewer.leave()

        async def hold(viewer: Viewer, watching: asyncio.Task[None]) -> None:
            await self._speech.hold(viewer)
            watching.cancel()

        try:
            async with asyncio.timeout(None) as patience:
                viewer = Viewer(send, patience, direct)
                with self._fanout.attach(viewer, self._speech.tails, self._speech.names):
                    async with asyncio.TaskGroup() as group:
                        watching = group.create_task(watch(viewer))
                        # In a task of its own: each time that it is woken, all who await it are gone through, and here
                        # that would be every layer of the application.
                        group.create_task(hold(viewer, watching))
        except TimeoutError:
            raise Dropped("slow") from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        if viewer.gone and self._on_left is not None:
            await self._on_left()

    async def _send_away(self, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
        if reason != "slow":
            last = self._speech.farewell(reason)
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
