"""Responses as the log has them now, and waiting for it to have more of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress

import orjson
from playhead.errors import Unavailable
from playhead.ids import BEGINNING, RunId, SessionId

from playhead_gateway.fanout import SentAway
from playhead_gateway.gateway import Gateway
from playhead_gateway.projections.responses_run import Telling
from playhead_gateway.states import Folded, closes

__all__ = ["Reading", "seen"]


class Reading:
    """A response, read as far as the log goes."""

    def __init__(self, gateway: Gateway, telling: Telling) -> None:
        self.telling = telling
        self.cursor = BEGINNING
        self.is_closed = False
        self._gateway = gateway

    @property
    def is_missing(self) -> bool:
        """Whether there is no such response, and will not be."""
        return self.telling.is_missing or (self.is_closed and not self.telling.is_begun)

    async def on(self) -> None:
        """Read to the end of the log. Raises `UnknownSession`, `CursorExpired`, `Unavailable`."""
        parts, event_of = self._gateway.parts, self._gateway.projection.event
        name = self.telling.name
        run = name.run.encode()
        async with aclosing(parts.log.read(name.session, self.cursor)) as pages:
            async for page in pages:
                for record in page.records:
                    # A record has its strings as they are, so most need not even be decoded.
                    if (run in record.value or record.seq == 1) and (event := event_of(record)) is not None:
                        self.telling.take(orjson.loads(event))
                if page.records:
                    self.is_closed = closes(parts.codec, page.records[-1])
                self.cursor = page.head.cursor

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Read on until there is enough, or for as long as a settled system needs: what there is then must do."""
        with suppress(TimeoutError, SentAway, Unavailable):
            async with asyncio.timeout(self._gateway.limits.settle_seconds):
                await self.on()
                while not (is_enough() or self.is_closed):
                    if not await self._gateway.fanout.beyond(self.telling.name.session, self.cursor):
                        return
                    await self.on()


async def seen(gateway: Gateway, session: SessionId, run: RunId) -> Folded:
    """Give a session's state, if need be as soon as it shows a run that was asked for a moment ago."""
    folded = await gateway.folded(session)
    with suppress(TimeoutError, SentAway):
        async with asyncio.timeout(gateway.limits.settle_seconds):
            while not _shows(folded, run) and await gateway.fanout.beyond(session, folded.head.cursor):
                folded = await gateway.folded(session)
    return folded


def _shows(folded: Folded, run: RunId) -> bool:
    state = folded.state
    runs = {one.run_id for one in state.waiting} | state.runs.keys()
    return state.closed or run in runs or (state.run is not None and state.run.run_id == run)
